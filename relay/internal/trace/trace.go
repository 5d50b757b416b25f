// Package trace tells an OpenTelemetry collector of attempts: one span each, a
// child of the trace that the host began where its event says which that is.
package trace

import (
	"context"
	"log/slog"
	"net/url"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	api "go.opentelemetry.io/otel/trace"
)

// The bounds on what waits for the collector. What does not fit is dropped.
const (
	queueSpans = 2048
	batchSpans = 512
	batchTime  = time.Second // how long a span may wait for company
	exportTime = 10 * time.Second
	flushTime  = time.Second // how long Close waits for the collector
)

// Options say where spans go, and which.
type Options struct {
	URL     *url.URL          // the collector's base, for OTLP over HTTP; its user and password are sent as basic authentication
	Headers map[string]string // of the requests to it
	Service string            // what the spans' service is called
	Version string            // of that service
	Sample  float64           // the share, 0 to 1, of the traces that begin here
	Logger  *slog.Logger
}

// Tracer makes spans and exports them. Nothing of it waits for the collector
// but Close.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   api.Tracer
	client   *client
}

// Start returns a tracer that exports until Close. It connects to nothing
// before there is a span. Of the environment it heeds OTEL_RESOURCE_ATTRIBUTES,
// which the SDK reads itself.
func Start(o Options) *Tracer {
	complaints := newComplaints(o.Logger)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(complaints.sdk)) // else it prints to stderr
	c := newClient(o.URL, o.Headers)
	provider := sdk.NewTracerProvider(
		sdk.WithResource(resource.NewSchemaless(semconv.ServiceName(o.Service), semconv.ServiceVersion(o.Version))),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(o.Sample))),
		sdk.WithIDGenerator(ids{}),
		sdk.WithRawSpanLimits(sdk.SpanLimits{ // the environment's do not count
			AttributeValueLengthLimit: sdk.DefaultAttributeValueLengthLimit, AttributeValueDepthLimit: sdk.DefaultAttributeValueDepthLimit,
			AttributeCountLimit: sdk.DefaultAttributeCountLimit,
		}),
		sdk.WithBatcher(&exporter{otlptrace.NewUnstarted(c), complaints},
			sdk.WithMaxQueueSize(queueSpans), sdk.WithMaxExportBatchSize(batchSpans),
			sdk.WithBatchTimeout(batchTime), sdk.WithExportTimeout(exportTime)),
	)
	return &Tracer{
		provider: provider, client: c,
		tracer: provider.Tracer("github.com/posthorn/posthorn", api.WithInstrumentationVersion(o.Version), api.WithSchemaURL(semconv.SchemaURL)),
	}
}

// Close exports what is left, until ctx ends and for a second at most. Nothing
// that Start began goes on when it returns.
func (t *Tracer) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	defer context.AfterFunc(ctx, t.client.abort)()
	_ = t.provider.Shutdown(context.WithoutCancel(ctx)) // what is wrong was logged
	t.client.http.CloseIdleConnections()
}
