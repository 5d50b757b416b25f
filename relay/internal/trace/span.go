package trace

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	api "go.opentelemetry.io/otel/trace"
)

// The bounds on the texts of a span.
const (
	maxText  = 256
	maxState = 512 // of a tracestate; W3C asks to pass on so much
)

// Attempt is what is known of an attempt before it is made.
type Attempt struct {
	Traceparent, Tracestate string // what the request would carry; "" for nothing

	Endpoint, Tenant string
	Delivery, Event  uuid.UUID
	Type             string // of the event
	Number           int    // counting from 1
	Method           string
	URL              *url.URL
	Start            time.Time
	Committed        time.Time // the event
}

// Span is an attempt that is exported once it has ended.
type Span struct {
	span api.Span
	// Traceparent is the header that makes the receiver's spans children of
	// this one.
	Traceparent string
	// Stateful reports whether Attempt.Tracestate belongs to Traceparent.
	Stateful bool
}

// Begin returns the attempt's span: a child of its Traceparent, if that is one,
// else in a trace that all attempts of the event share. It returns nil when the
// span is not to be exported, since the host's trace is not sampled or, where
// there is none, by Options.Sample.
func (t *Tracer) Begin(a Attempt) *Span {
	h := header{a.Traceparent, a.Tracestate}
	parent := api.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), &h))
	stateful := parent.TraceState().Len() > 0
	if len(a.Tracestate) > maxState {
		parent = parent.WithTraceState(api.TraceState{})
	}
	ctx := api.ContextWithRemoteSpanContext(context.WithValue(context.Background(), eventKey{}, a.Event), parent)
	ctx, span := t.tracer.Start(ctx, "deliver "+text(a.Type), api.WithTimestamp(a.Start), api.WithSpanKind(api.SpanKindClient))
	if !span.IsRecording() {
		return nil
	}
	span.SetAttributes(a.attributes()...)
	propagation.TraceContext{}.Inject(ctx, &h)
	return &Span{span: span, Traceparent: h.parent, Stateful: stateful}
}

// attributes returns what HTTP's semantic conventions say of a client's span,
// and what is ours.
func (a *Attempt) attributes() []attribute.KeyValue {
	host, port := address(a.URL)
	all := append(make([]attribute.KeyValue, 0, 16),
		semconv.HTTPRequestMethodKey.String(a.Method),
		semconv.ServerAddress(text(host)),
		semconv.URLScheme(a.URL.Scheme), // not the whole URL: many have a secret in their path
		attribute.String("posthorn.endpoint", text(a.Endpoint)),
		attribute.String("posthorn.delivery.id", a.Delivery.String()),
		attribute.String("posthorn.event.id", a.Event.String()),
		attribute.String("posthorn.event.type", text(a.Type)),
		attribute.Int("posthorn.attempt", a.Number),
		attribute.Float64("posthorn.seconds_since_commit", a.Start.Sub(a.Committed).Seconds()),
	)
	if port > 0 {
		all = append(all, semconv.ServerPort(port))
	}
	if a.Tenant != "" {
		all = append(all, attribute.String("posthorn.tenant", text(a.Tenant)))
	}
	if a.Number > 1 {
		all = append(all, semconv.HTTPRequestResendCount(a.Number-1))
	}
	return all
}

// OtherFailure is Outcome.Failure where no other word is known: the semantic
// conventions have it.
const OtherFailure = "_OTHER"

// Outcome is what came of an attempt.
type Outcome struct {
	Status  int    // the answer's; 0 without one
	Failure string // why it is no success, in one word; "" for a success
	Reason  string // the same for people, where Status does not say it
	End     time.Time
}

// End ends the span.
func (s *Span) End(o Outcome) {
	if o.Status > 0 {
		s.span.SetAttributes(semconv.HTTPResponseStatusCode(o.Status))
	}
	if o.Failure != "" {
		s.span.SetAttributes(semconv.ErrorTypeKey.String(o.Failure))
		s.span.SetStatus(codes.Error, text(o.Reason))
	}
	s.span.End(api.WithTimestamp(o.End))
}

// address returns the host and port of u; port 0 if it is not known.
func address(u *url.URL) (host string, port int) {
	switch number, err := strconv.ParseUint(u.Port(), 10, 16); {
	case err == nil:
		port = int(number)
	case u.Scheme == "https":
		port = 443
	case u.Scheme == "http":
		port = 80
	}
	return u.Hostname(), port
}

// text returns at most maxText bytes of s, as UTF-8: OTLP knows no other texts, and
// a collector takes none of a batch in which one is not.
func text(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "")
}

// eventKey is the key of a context's value: the uuid.UUID of the event.
type eventKey struct{}

// ids makes spans' ids. A trace that begins here gets that of its event: the
// attempts of all its deliveries, restarts or not, are in one.
type ids struct{}

// NewIDs returns the ids of a span without a parent.
func (i ids) NewIDs(ctx context.Context) (api.TraceID, api.SpanID) {
	event, _ := ctx.Value(eventKey{}).(uuid.UUID)
	sum := sha256.Sum256(append([]byte("posthorn trace "), event[:]...))
	trace := api.TraceID(sum[:16])
	return trace, i.NewSpanID(ctx, trace)
}

// NewSpanID returns the id of a span.
func (ids) NewSpanID(context.Context, api.TraceID) (id api.SpanID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

// header is a trace context as W3C's headers have it.
type header struct{ parent, state string }

// Get returns one of the two.
func (h *header) Get(name string) string {
	switch name {
	case "traceparent":
		return h.parent
	case "tracestate":
		return h.state
	}
	return ""
}

// Set changes one of the two.
func (h *header) Set(name, value string) {
	switch name {
	case "traceparent":
		h.parent = value
	case "tracestate":
		h.state = value
	}
}

// Keys returns their names.
func (*header) Keys() []string { return []string{"traceparent", "tracestate"} }
