package lane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/signing"
)

// outcome is what came of an attempt, or the decision not to make one.
type outcome struct {
	state     ledger.State
	reason    string        // why it is pending
	wait      time.Duration // until it is due, when pending
	attempt   *ledger.Attempt
	status    int
	err       string
	tried     bool // a request was made
	abandoned bool // nothing may be recorded
}

// attempt makes one try of a delivery, the first or a later one: render, sign,
// POST, and judge what came of it.
func (l *lane) attempt(ctx context.Context, d *delivery) outcome {
	ep, request := l.ep, d.request
	if request == nil {
		var err error
		if request, err = ep.render(d.id, d.event); err != nil {
			return outcome{state: ledger.Failed, err: err.Error()}
		}
		l.keep(d, request)
	}
	started := time.Now()
	q, err := ep.sign(d, request, started)
	if err != nil {
		return outcome{state: ledger.Failed, err: err.Error()}
	}
	res := l.set.opts.Sender.Send(ctx, q)
	if errors.Is(res.Err, egress.ErrNotPermitted) || res.Err != nil && ctx.Err() != nil {
		return outcome{abandoned: true}
	}
	return l.judgeAttempt(d, started, res)
}

// keep remembers what was rendered: whatever is recorded of d from now on, also
// while it is in flight, is recorded with it.
func (l *lane) keep(d *delivery, request *ledger.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.request, d.rendered = request, int64(len(request.Body))
	l.set.buffer.add(d.rendered)
}

// sign puts together what is sent: the rendered request, with the signatures
// of this moment.
func (ep *Endpoint) sign(d *delivery, request *ledger.Request, now time.Time) (*egress.Request, error) {
	body := request.Body
	if body == nil {
		body = d.event.Payload
	}
	header := make(http.Header, len(request.Headers)+3)
	for _, h := range request.Headers {
		header[h[0]] = append(header[h[0]], h[1])
	}
	for i := range ep.Signatures {
		s := &ep.Signatures[i]
		signed, err := s.Signer.Sign(signing.Message{ID: d.id.String(), Timestamp: now, Body: body}, s.keys(now))
		if err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		for _, h := range signed {
			header[h.Name] = []string{h.Value}
		}
	}
	return &egress.Request{Method: request.Method, URL: ep.URL, Header: header, Body: body, Timeout: ep.Timeout}, nil
}

// judgeAttempt turns an answer, or its lack, into what the ledger records.
func (l *lane) judgeAttempt(d *delivery, started time.Time, res egress.Response) outcome {
	o := outcome{tried: true, status: res.Status}
	number := d.attempts + 1
	result := "delivered"
	switch {
	case res.Err != nil:
		result, o.err = "failed", res.Err.Error()
	case res.Status < 200 || res.Status > 299:
		result, o.err = "rejected", fmt.Sprintf("answered %d %s", res.Status, http.StatusText(res.Status))
	}
	l.set.opts.Meter.Attempted(l.ep.Name, result)
	if result == "delivered" {
		o.state = ledger.Delivered
	} else {
		var retryAfter time.Duration
		if res.Status == http.StatusTooManyRequests || res.Status == http.StatusServiceUnavailable {
			retryAfter = parseRetryAfter(res.RetryAfter, time.Now())
		}
		o.state, o.reason = ledger.Pending, "retry"
		wait, ok := l.ep.Retry.next(number, time.Since(d.event.CommittedAt), retryAfter)
		if o.wait = wait; !ok {
			o.state, o.reason = ledger.Failed, ""
		}
	}
	if result != "delivered" || number > 1 {
		o.attempt = &ledger.Attempt{
			Number: number, StartedAt: started, Outcome: result, Status: res.Status, Error: o.err, Response: res.Excerpt,
			DNS: res.DNS, Connect: res.Connect, TLS: res.TLS, FirstByte: res.FirstByte, Total: res.Total,
		}
	}
	return o
}
