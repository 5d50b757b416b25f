package lane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/trace"
)

// outcome is what came of an attempt, or the decision not to make one.
type outcome struct {
	state     ledger.State
	reason    string        // why it is pending
	wait      time.Duration // until it is due, when pending
	attempt   *ledger.Attempt
	status    int
	err       string
	result    string // of the request that was made, as attempts are counted; "" if none was
	tried     bool   // a request was made
	raw       bool   // its event could not be transformed
	exhausted bool   // its schedule has no further try
	gone      bool   // the receiver wants no more, of anything
	abandoned bool   // nothing may be recorded
}

// attempt makes one try of a delivery, the first or a later one: render, sign,
// POST, and judge what came of it.
func (l *lane) attempt(ctx context.Context, d *delivery) outcome {
	ep, request := l.ep(), d.request.Load()
	if request == nil {
		if made := d.event.Made.Load(); !made.Sends() {
			return ep.judgeMade(d, made)
		}
		var err error
		if request, err = ep.render(d.id, d.event); err != nil {
			return outcome{state: ledger.Failed, err: err.Error()}
		}
		l.keep(d, request)
	}
	started := time.Now()
	span := l.span(d, request, started)
	q, err := ep.sign(d.id, d.event, request, started, span)
	if err != nil {
		end(span, egress.Response{Err: err}, false)
		return outcome{state: ledger.Failed, err: err.Error()}
	}
	res := l.set.opts.Sender.Send(ctx, q)
	abandoned := errors.Is(res.Err, egress.ErrNotPermitted) || res.Err != nil && ctx.Err() != nil
	end(span, res, abandoned)
	if abandoned {
		return outcome{abandoned: true}
	}
	return l.judgeAttempt(ep, d, started, res)
}

// keep remembers what was rendered: whatever is recorded of d from now on, also
// while it is in flight, is recorded with it.
func (l *lane) keep(d *delivery, request *ledger.Request) {
	d.request.Store(request)
	if n := int64(len(request.Body)); n > 0 {
		d.rendered += n
		l.set.buffer.add(n)
	}
}

// sign puts together what is sent: the rendered request, with the trace context
// of span, which may be nil, and the signatures of this moment.
func (ep *Endpoint) sign(id uuid.UUID, e *event.Event, request *ledger.Request, now time.Time, span *trace.Span) (*egress.Request, error) {
	body := request.Body
	if body == nil {
		body = e.Payload
	}
	header := append(make(egress.Header, 0, len(request.Headers)+3), request.Headers...)
	q := &egress.Request{Method: request.Method, URL: ep.URL, Header: header, Body: body, Timeout: ep.Timeout, Target: ep.Target}
	if span != nil {
		ep.mark(&q.Header, span)
	}
	for _, s := range ep.Signatures {
		if err := s.Sign(q, id, now); err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
	}
	return q, nil
}

// Judge returns why what came of an attempt is no success, or nil: only 2xx is.
func Judge(res egress.Response) error {
	switch {
	case res.Err != nil:
		return res.Err
	case res.Status < 200 || res.Status > 299:
		return errors.New(strings.TrimSpace(fmt.Sprintf("answered %d %s", res.Status, http.StatusText(res.Status))))
	}
	return nil
}

// judgeAttempt turns an answer, or its lack, into what the ledger records.
func (l *lane) judgeAttempt(ep *Endpoint, d *delivery, started time.Time, res egress.Response) outcome {
	o := outcome{tried: true, status: res.Status}
	number := d.attempts + 1
	result := "delivered"
	if err := Judge(res); err != nil {
		o.err = err.Error()
		if result = "rejected"; res.Err != nil {
			result = "failed"
		}
	}
	o.result = result
	if result == "delivered" {
		o.state = ledger.Delivered
	} else {
		ep.schedule(d, number, res, &o)
	}
	if result != "delivered" || number > 1 {
		o.attempt = &ledger.Attempt{
			Number: number, StartedAt: started, Outcome: result, Status: res.Status, Error: o.err, Response: res.Excerpt,
			DNS: res.DNS, Connect: res.Connect, TLS: res.TLS, FirstByte: res.FirstByte, Total: res.Total,
		}
	}
	return o
}

// judgeMade says what becomes of a delivery for which the transforms left
// nothing to send. That they failed counts as an attempt, but not against the
// endpoint.
func (ep *Endpoint) judgeMade(d *delivery, made *event.Made) outcome {
	if made.Err == nil {
		return outcome{state: ledger.Skipped, err: made.Skipped}
	}
	o := outcome{state: ledger.Failed, raw: true, err: "transform: " + made.Err.Error()}
	number := d.attempts + 1
	if made.Retry {
		ep.schedule(d, number, egress.Response{Err: made.Err}, &o)
	}
	o.attempt = &ledger.Attempt{Number: number, StartedAt: time.Now(), Outcome: "failed", Error: o.err}
	return o
}

// schedule decides what comes after failed attempt number, which was made with ep:
// the lane may have another one since, that cannot even be used.
func (ep *Endpoint) schedule(d *delivery, number int, res egress.Response, o *outcome) {
	o.state = ledger.Failed
	answered := res.Err == nil
	if o.gone = answered && res.Status == http.StatusGone; o.gone || answered && ep.Retry.stops(res.Status) {
		return
	}
	var retryAfter time.Duration
	if res.Status == http.StatusTooManyRequests || res.Status == http.StatusServiceUnavailable {
		retryAfter = parseRetryAfter(res.RetryAfter, time.Now())
	}
	wait, ok := ep.Retry.next(number, time.Since(d.event.CommittedAt), retryAfter)
	if o.exhausted = !ok; ok {
		o.state, o.reason, o.wait = ledger.Pending, "retry", wait
	}
}
