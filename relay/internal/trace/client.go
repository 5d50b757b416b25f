package trace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/proto"
)

// The bounds on the collector's answer, of which nothing but the status
// matters.
const (
	answerBytes = 64 << 10
	headerBytes = 64 << 10
)

// client posts spans to a collector. It is an otlptrace.Client in place of
// otlptracehttp's, which reads its settings, certificates' files among them,
// from the environment too, quotes the collector's answers in its errors, and
// brings a gRPC gateway along.
type client struct {
	url     string
	header  http.Header
	http    http.Client
	aborted chan struct{}
}

func newClient(base *url.URL, headers map[string]string) *client {
	c := &client{
		url: base.JoinPath("v1", "traces").String(), header: http.Header{}, aborted: make(chan struct{}),
		http: http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{ // without a proxy
				DialContext: (&net.Dialer{Timeout: exportTime}).DialContext, TLSHandshakeTimeout: exportTime,
				ForceAttemptHTTP2: true, DisableCompression: true, MaxResponseHeaderBytes: headerBytes, IdleConnTimeout: time.Minute,
			},
		},
	}
	for name, value := range headers {
		c.header.Set(name, value)
	}
	c.header.Set("Content-Type", "application/x-protobuf")
	return c
}

// Start has nothing to do.
func (*client) Start(context.Context) error { return nil }

// Stop has nothing to do either.
func (*client) Stop(context.Context) error { return nil }

// abort ends the request that is being made, and those to come.
func (c *client) abort() { close(c.aborted) }

// UploadTraces sends spans once. Its errors hold nothing that the collector
// sent, nor c's URL and headers.
func (c *client) UploadTraces(ctx context.Context, spans []*otlp.ResourceSpans) error {
	ctx, cancel := context.WithTimeout(ctx, exportTime)
	defer cancel()
	go func() {
		select {
		case <-c.aborted:
			cancel()
		case <-ctx.Done():
		}
	}()
	// On the wire this is an ExportTraceServiceRequest, whose package has the gateway.
	body, err := proto.Marshal(&otlp.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the collector's URL is not valid")
	}
	req.Header = c.header
	res, err := c.http.Do(req)
	if err != nil {
		return explain(err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, answerBytes) // for the connection to be used again
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("the collector answered %s", strings.TrimSpace(fmt.Sprint(res.StatusCode, " ", http.StatusText(res.StatusCode))))
	}
	return nil
}

// explain returns why there was no answer, without the URL and up to where
// net/http begins to quote what it got.
func explain(err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return errors.New("the collector did not answer in time")
	}
	reason, _, _ := strings.Cut(err.Error(), `"`)
	return errors.New(strings.TrimRight(reason, " :"))
}

// exporter is an exporter whose errors are complaints.
type exporter struct {
	sdk.SpanExporter
	complaints *complaints
}

// ExportSpans never returns an error: spans that the collector does not take
// are lost.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.complaints.lost(ctx, len(spans), err)
	}
	return nil
}

// complaintEvery is how often at most it is logged that something is wrong
// with the traces.
const complaintEvery = time.Minute

// complaints logs now and then.
type complaints struct {
	logger            *slog.Logger
	exports, internal rate.Sometimes
	spans             int // lost since it was logged; the exporter's goroutine has it
}

func newComplaints(logger *slog.Logger) *complaints {
	return &complaints{logger: logger, exports: rate.Sometimes{Interval: complaintEvery}, internal: rate.Sometimes{Interval: complaintEvery}}
}

// lost says that n spans were not exported.
func (c *complaints) lost(ctx context.Context, n int, err error) {
	c.spans += n
	c.exports.Do(func() {
		c.logger.LogAttrs(ctx, slog.LevelWarn, "traces not exported", slog.Int("spans", c.spans), slog.Any("err", err))
		c.spans = 0
	})
}

// sdk says what the SDK reports, such as a variable that it cannot read.
func (c *complaints) sdk(err error) {
	c.internal.Do(func() {
		c.logger.LogAttrs(context.Background(), slog.LevelWarn, "traces are not as they should be", slog.Any("err", err))
	})
}
