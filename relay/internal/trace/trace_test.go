package trace

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is a collector.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	exports  []*collector.ExportTraceServiceRequest
}

// newReceiver returns a collector that answers by answer, or 200 without one.
func newReceiver(t testing.TB, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		export := &collector.ExportTraceServiceRequest{}
		if err != nil || proto.Unmarshal(body, export) != nil {
			t.Errorf("no spans: %v", err)
		}
		r.mu.Lock()
		r.requests, r.exports = append(r.requests, req), append(r.exports, export)
		r.mu.Unlock()
		if answer != nil {
			answer(w, req)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// await returns once n requests have arrived, soon.
func (r *receiver) await(t *testing.T, n int) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(exportTime); ; <-ticker.C {
		r.mu.Lock()
		got := len(r.requests)
		r.mu.Unlock()
		if got >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d requests arrived within %s, want %d", got, exportTime, n)
		}
	}
}

// spans returns what has arrived.
func (r *receiver) spans() []*otlp.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*otlp.Span
	for _, export := range r.exports {
		for _, resource := range export.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				all = append(all, scope.GetSpans()...)
			}
		}
	}
	return all
}

func start(t testing.TB, address string, change func(*Options)) *Tracer {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{URL: u, Service: "posthorn", Version: "1", Sample: 1, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	return Start(o)
}

func attempt(t testing.TB) Attempt {
	t.Helper()
	u, err := url.Parse("https://user:hunter2@erp.acme.example/hunter2?key=hunter2#hunter2")
	if err != nil {
		t.Fatal(err)
	}
	return Attempt{
		Endpoint: "erp", Tenant: "acme", Delivery: uuid.MustParse("0198f1d2-0000-7000-8000-000000000001"), Event: uuid.MustParse("0198f1d2-0000-7000-8000-000000000002"),
		Type: "pr.submitted", Number: 2, Method: "POST", URL: u, Start: time.Unix(1000, 500), Committed: time.Unix(998, 500),
	}
}

const (
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	parentID    = "b7ad6b7169203331"
	traceparent = "00-" + traceID + "-" + parentID + "-01"
)

// attributes returns them as name=value, sorted.
func attributes(all []*common.KeyValue) []string {
	var texts []string
	for _, a := range all {
		value := a.GetValue()
		switch value.GetValue().(type) {
		case *common.AnyValue_IntValue:
			texts = append(texts, fmt.Sprint(a.GetKey(), "=", value.GetIntValue()))
		case *common.AnyValue_DoubleValue:
			texts = append(texts, fmt.Sprint(a.GetKey(), "=", value.GetDoubleValue()))
		default:
			texts = append(texts, a.GetKey()+"="+value.GetStringValue())
		}
	}
	slices.Sort(texts)
	return texts
}

func TestSpanSaysWhatCameOfAnAttempt(t *testing.T) {
	r := newReceiver(t, nil)
	tracer := start(t, strings.Replace(r.URL, "http://", "http://u:p@", 1)+"/base/", func(o *Options) { o.Headers = map[string]string{"x-key": "secret"} })
	a := attempt(t)
	a.Traceparent = traceparent
	span := tracer.Begin(a)
	span.End(Outcome{Status: 500, Failure: "500", End: time.Unix(1001, 0)})
	tracer.Close(t.Context())

	all := r.spans()
	if len(all) != 1 {
		t.Fatalf("got %d spans, want 1", len(all))
	}
	got := all[0]
	if id := hex.EncodeToString(got.GetSpanId()); span.Traceparent != "00-"+traceID+"-"+id+"-01" || id == parentID || span.Stateful {
		t.Errorf("the span %s is announced by %s", id, span.Traceparent)
	}
	if hex.EncodeToString(got.GetTraceId()) != traceID || hex.EncodeToString(got.GetParentSpanId()) != parentID {
		t.Errorf("it is in trace %x under %x", got.GetTraceId(), got.GetParentSpanId())
	}
	if got.GetName() != "deliver pr.submitted" || got.GetKind() != otlp.Span_SPAN_KIND_CLIENT || got.GetStartTimeUnixNano() != 1000_000_000_500 || got.GetEndTimeUnixNano() != 1001_000_000_000 ||
		got.GetStatus().GetCode() != otlp.Status_STATUS_CODE_ERROR || got.GetStatus().GetMessage() != "" {
		t.Errorf("got %v", got)
	}
	want := []string{
		"error.type=500", "http.request.method=POST", "http.request.resend_count=1", "http.response.status_code=500",
		"posthorn.attempt=2", "posthorn.delivery.id=0198f1d2-0000-7000-8000-000000000001", "posthorn.endpoint=erp",
		"posthorn.event.id=0198f1d2-0000-7000-8000-000000000002", "posthorn.event.type=pr.submitted", "posthorn.seconds_since_commit=2", "posthorn.tenant=acme",
		"server.address=erp.acme.example", "server.port=443", "url.scheme=https",
	}
	if diff := cmp.Diff(want, attributes(got.GetAttributes())); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	resource := attributes(r.exports[0].GetResourceSpans()[0].GetResource().GetAttributes())
	if diff := cmp.Diff([]string{"service.name=posthorn", "service.version=1"}, resource); diff != "" {
		t.Errorf("resource: want -, got +:\n%s", diff)
	}
	user, password, _ := r.requests[0].BasicAuth()
	if q := r.requests[0]; q.Method != http.MethodPost || q.URL.Path != "/base/v1/traces" || q.Header.Get("X-Key") != "secret" || user != "u" || password != "p" || q.Header.Get("Content-Type") != "application/x-protobuf" {
		t.Errorf("got %s %s, %v", q.Method, q.URL, q.Header)
	}
}

func TestTraceContextsOfHosts(t *testing.T) {
	tracer := start(t, "http://127.0.0.1:1", nil)
	defer tracer.Close(ended(t))
	event, _ := ids{}.NewIDs(context.WithValue(t.Context(), eventKey{}, attempt(t).Event))
	own := event.String()
	long := "a=" + strings.Repeat("b", 250)
	for name, tt := range map[string]struct {
		parent, state string
		trace         string // "" for no span
		stateful      bool
	}{
		"sampled":                    {traceparent, "", traceID, false},
		"with state":                 {traceparent, "vendor=1,other=2", traceID, true},
		"of a later version":         {"cc" + traceparent[2:] + "-what", "", traceID, false},
		"with the random flag":       {traceparent[:len(traceparent)-2] + "03", "", traceID, false},
		"not sampled":                {traceparent[:len(traceparent)-2] + "00", "vendor=1", "", false},
		"none":                       {"", "", own, false},
		"state without a parent":     {"", "vendor=1", own, false},
		"no state":                   {traceparent, "===", traceID, false},
		"a long state":               {traceparent, long + ",c" + long + ",d" + long, traceID, true},
		"not one":                    {"00-1-2-01", "vendor=1", own, false},
		"zeros":                      {"00-" + strings.Repeat("0", 32) + "-" + parentID + "-01", "", own, false},
		"capitals":                   {strings.ToUpper(traceparent), "", own, false},
		"too long":                   {traceparent + "-" + strings.Repeat("x", 8000), "", own, false},
		"nothing but bytes":          {strings.Repeat("\xff", 55), "\xff", own, false},
		"of a version that is none":  {"ff" + traceparent[2:], "", own, false},
		"with flags that are no hex": {traceparent[:len(traceparent)-2] + "zz", "", own, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := attempt(t)
			a.Traceparent, a.Tracestate = tt.parent, tt.state
			span := tracer.Begin(a)
			if tt.trace == "" {
				if span != nil {
					t.Errorf("got %s, want no span", span.Traceparent)
				}
				return
			}
			if span == nil || !strings.HasPrefix(span.Traceparent, "00-"+tt.trace+"-") || len(span.Traceparent) != len(traceparent) || span.Stateful != tt.stateful {
				t.Fatalf("got %+v, want a span in %s", span, tt.trace)
			}
			if state := span.span.SpanContext().TraceState().String(); len(state) > maxState || (state != "") != (tt.stateful && len(tt.state) <= maxState) {
				t.Errorf("the span has the state %q", state)
			}
			span.End(Outcome{})
		})
	}
}

// ended is a context for a Close that exports nothing.
func ended(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestShareOfTheTracesThatBeginHere(t *testing.T) {
	for _, tt := range []struct{ sample, least, most float64 }{{0, 0, 0}, {0.25, 0.15, 0.35}, {1, 1, 1}} {
		tracer := start(t, "http://127.0.0.1:1", func(o *Options) { o.Sample = tt.sample })
		const n = 1000
		begun := 0.0
		for range n {
			a := attempt(t)
			a.Event = uuid.Must(uuid.NewV7())
			first, second := tracer.Begin(a), tracer.Begin(a)
			if (first == nil) != (second == nil) {
				t.Fatalf("sample %g: one attempt of an event has a span, the other none", tt.sample)
			}
			if first != nil {
				begun++
			}
			a.Traceparent = traceparent
			if tracer.Begin(a) == nil {
				t.Fatalf("sample %g: the host's trace is not continued", tt.sample)
			}
		}
		if share := begun / n; share < tt.least || share > tt.most {
			t.Errorf("sample %g: %g of the traces begin", tt.sample, share)
		}
		tracer.Close(ended(t))
	}
}

func TestTextsThatAreNotUTF8CostNoBatch(t *testing.T) {
	r := newReceiver(t, nil)
	tracer := start(t, r.URL, nil)
	a := attempt(t)
	a.Type, a.Tenant, a.Endpoint = "a\xff", strings.Repeat("ä", 1000), "\xff"
	tracer.Begin(a).End(Outcome{Failure: OtherFailure, Reason: "b\xff"})
	tracer.Close(t.Context())
	all := r.spans()
	if len(all) != 1 || all[0].GetName() != "deliver a" || all[0].GetStatus().GetMessage() != "b" || !slices.Contains(attributes(all[0].GetAttributes()), "posthorn.tenant="+strings.Repeat("ä", maxText/2)) {
		t.Errorf("got %v", all)
	}
}

func TestOfTheEnvironmentOnlyResourceAttributesCount(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS": "x-key=other", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere",
		"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_TRACES_SAMPLER": "always_off", "OTEL_TRACES_SAMPLER_ARG": "x",
		"OTEL_SERVICE_NAME": "other", "OTEL_RESOURCE_ATTRIBUTES": "service.name=another,k8s.pod.name=app-1", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1",
		"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "1", "OTEL_BSP_MAX_QUEUE_SIZE": "0", "OTEL_SDK_DISABLED": "true", "HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1",
	} {
		t.Setenv(name, value)
	}
	r := newReceiver(t, nil)
	tracer := start(t, r.URL, nil)
	tracer.Begin(attempt(t)).End(Outcome{Status: 200})
	tracer.Close(t.Context())
	all := r.spans()
	if len(all) != 1 || len(all[0].GetAttributes()) < 10 || r.requests[0].Header.Get("X-Key") != "" {
		t.Fatalf("got %v", all)
	}
	resource := attributes(r.exports[0].GetResourceSpans()[0].GetResource().GetAttributes())
	if diff := cmp.Diff([]string{"k8s.pod.name=app-1", "service.name=posthorn", "service.version=1"}, resource); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestCollectorsThatTakeNothingAreLoggedOnce(t *testing.T) {
	elsewhere := newReceiver(t, func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") })
	for name, answer := range map[string]struct {
		http.HandlerFunc
		want string
	}{
		"refuses": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hunter2", http.StatusUnauthorized) }, "the collector answered 401 Unauthorized"},
		"redirects": {func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, elsewhere.URL, http.StatusTemporaryRedirect)
		}, "the collector answered 307 Temporary Redirect"},
		"hangs up":       {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"speaks no HTTP": {hijacked("hunter2 \"hunter2\"\r\n\r\n"), "malformed HTTP"},
		"sends for ever": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			for {
				if _, err := w.Write(bytes.Repeat([]byte("hunter2"), 1000)); err != nil {
					return
				}
			}
		}, "the collector answered 500 Internal Server Error"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, answer.HandlerFunc)
			var log logged
			tracer := start(t, strings.Replace(r.URL, "http://", "http://user:hunter2@", 1), func(o *Options) {
				o.Logger, o.Headers = slog.New(slog.NewTextHandler(&log, nil)), map[string]string{"X-Key": "hunter2"}
			})
			for range 3 * batchSpans {
				tracer.Begin(attempt(t)).End(Outcome{Status: 200})
			}
			r.await(t, 3) // none of which takes its exportTime
			tracer.Close(t.Context())
			text := log.String()
			if strings.Count(text, "\n") != 1 || !strings.Contains(text, "level=WARN") || !strings.Contains(text, answer.want) || strings.Contains(text, "hunter2") || len(text) > 300 {
				t.Errorf("logged %s", text)
			}
		})
	}
}

// hijacked answers text, which is no HTTP.
func hijacked(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}
	}
}

// logged is a log.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestCollectorThatHangsHoldsNobodyUp: were it otherwise, the test would not
// end before exportTime, several times.
func TestCollectorThatHangsHoldsNobodyUp(t *testing.T) {
	asked := make(chan struct{}, 100)
	r := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { // whose body may be cut off
		asked <- struct{}{}
		_, _ = io.Copy(io.Discard, q.Body)
		<-q.Context().Done()
	}))
	t.Cleanup(r.Close)
	began := time.Now()
	tracer := start(t, r.URL, nil)
	for range 2*queueSpans + batchSpans {
		tracer.Begin(attempt(t)).End(Outcome{Status: 200})
	}
	<-asked
	tracer.Close(t.Context())
	if took := time.Since(began); took > exportTime {
		t.Errorf("it took %s", took)
	}
	tracer.Begin(attempt(t)).End(Outcome{Status: 200}) // of a straggler
}

func TestCloseWithoutTimeDoesNotWaitForTheCollector(t *testing.T) {
	r := newReceiver(t, func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() })
	tracer := start(t, r.URL, nil)
	tracer.Begin(attempt(t)).End(Outcome{Status: 200})
	began := time.Now()
	tracer.Close(ended(t))
	if took := time.Since(began); took >= flushTime {
		t.Errorf("it took %s", took)
	}
}

func FuzzTraceContext(f *testing.F) {
	f.Add(traceparent, "vendor=1,other=2", "pr.submitted")
	f.Add("00-00000000000000000000000000000000-0000000000000000-00", "=", "\xff")
	f.Add("cc"+traceparent[2:]+"-what", "a@b=c", "")
	tracer := start(f, "http://127.0.0.1:1", nil)
	f.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		tracer.Close(ctx)
	})
	f.Fuzz(func(t *testing.T, parent, state, eventType string) {
		a := attempt(t)
		a.Traceparent, a.Tracestate, a.Type = parent, state, eventType
		span := tracer.Begin(a)
		if span == nil {
			return
		}
		a.Traceparent = span.Traceparent
		if again := tracer.Begin(a); again == nil || again.Traceparent[:35] != span.Traceparent[:35] {
			t.Errorf("%q is no traceparent", span.Traceparent)
		}
		span.End(Outcome{Status: 500, Failure: "500", Reason: eventType})
	})
}

func BenchmarkSpan(b *testing.B) {
	r := newReceiver(b, nil)
	tracer := start(b, r.URL, nil)
	a := attempt(b)
	for _, bb := range []struct{ name, parent string }{{"sampled", traceparent}, {"not sampled", traceparent[:len(traceparent)-2] + "00"}} {
		b.Run(bb.name, func(b *testing.B) {
			a.Traceparent = bb.parent
			b.ReportAllocs()
			for b.Loop() {
				if span := tracer.Begin(a); span != nil {
					span.End(Outcome{Status: 200})
				}
			}
		})
	}
	tracer.Close(context.Background())
}
