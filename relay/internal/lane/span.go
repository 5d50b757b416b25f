package lane

import (
	"cmp"
	"strconv"
	"time"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/trace"
)

// span returns the span of an attempt that begins now, nil if it has none. It
// is a child of what the rendered request has for trace context, be that the
// event's or the endpoint's own.
func (l *lane) span(d *delivery, request *ledger.Request, now time.Time) *trace.Span {
	if l.set.opts.Tracer == nil {
		return nil
	}
	h := egress.Header(request.Headers)
	return l.set.opts.Tracer.Begin(trace.Attempt{
		Traceparent: h.Get("Traceparent"), Tracestate: h.Get("Tracestate"),
		Endpoint: l.ep().Name, Tenant: d.event.Tenant, Delivery: d.id, Event: d.event.ID, Type: d.event.Type,
		Number: d.attempts + 1, Method: request.Method, URL: l.ep().URL, Start: now, Committed: d.event.CommittedAt,
	})
}

// mark makes span the parent of what the receiver does, unless the endpoint has
// a trace context of its own.
func (ep *Endpoint) mark(h *egress.Header, span *trace.Span) {
	if ep.sets("Traceparent") {
		return
	}
	h.Set("Traceparent", span.Traceparent)
	if !span.Stateful && !ep.sets("Tracestate") {
		h.Del("Tracestate") // it belonged to a traceparent that was none
	}
}

// end ends the span of an attempt, which may be nil.
func end(span *trace.Span, res egress.Response, abandoned bool) {
	if span == nil {
		return
	}
	o := trace.Outcome{Status: res.Status, End: time.Now()}
	switch err := Judge(res); {
	case err == nil:
	case abandoned:
		o.Failure, o.Reason = "abandoned", "cut off, to be made again"
	case res.Err == nil:
		o.Failure = strconv.Itoa(res.Status)
	default:
		o.Failure, o.Reason = cmp.Or(egress.Kind(err), trace.OtherFailure), err.Error()
	}
	span.End(o)
}
