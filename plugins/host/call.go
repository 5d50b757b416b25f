package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/posthorn/posthorn/plugins"
	"github.com/posthorn/posthorn/plugins/internal/pluginv1"
	"github.com/posthorn/posthorn/plugins/internal/wire"
)

const (
	maxPatience = 10 * time.Second

	maxMessageText = 512 // bytes of what a plugin says about an event

	// lostTimeout is how long a process whose connection broke has to show that
	// it is well, and then to end by itself so that its status says why.
	lostTimeout = 500 * time.Millisecond
)

// Transform changes events in place. The error at an event's index says what
// became of it: nil, one that wraps a [plugins.SkipError] or a
// [plugins.RejectedError], or any other, after which a retry makes sense. Each
// begins with "plugin NAME: ".
//
// Where a call fails as a whole (the process ended, did not answer in time, or
// answered garbage), its events are tried again one by one, until all went well
// for a batch; not where all of them fail and take long. One event may so wait
// for some ten times the timeout.
func (p *Plugin) Transform(ctx context.Context, events []*plugins.Event) []error {
	errs := make([]error, len(events))
	for done := 0; done < len(events); {
		b, n := p.batch(events[done:], errs[done:])
		if len(b.events) > 0 {
			p.send(ctx, b)
		}
		done += n
	}
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("plugin %s: %w", p.options.Name, err)
		}
	}
	return errs
}

// batch is the events of one call.
type batch struct {
	events  []*plugins.Event
	errs    []*error // where what becomes of each goes
	request []byte   // a TransformRequest
	ends    []int    // of each event's bytes in request
	start   int      // of the first's
}

// part returns the batch of some of the events.
func (b *batch) part(from, to int) *batch {
	start := b.start
	if from > 0 {
		start = b.ends[from-1]
	}
	return &batch{events: b.events[from:to], errs: b.errs[from:to], request: b.request, ends: b.ends[from:to], start: start}
}

// message returns the TransformRequest with the batch's events.
func (b *batch) message() []byte { return b.request[b.start:b.ends[len(b.ends)-1]] }

func (b *batch) fail(err error) {
	for _, e := range b.errs {
		*e = err
	}
}

// batch returns a call for the first of events, and how many of them it took: as
// many as fit. Those that can never be sent get an error.
func (p *Plugin) batch(events []*plugins.Event, errs []error) (b *batch, n int) {
	b = &batch{}
	for n < len(events) && len(b.events) < p.options.Batch {
		e := events[n]
		message := pluginv1.Event{
			Id:        e.ID,
			Type:      e.Type,
			Tenant:    e.Tenant,
			Key:       e.Key,
			CreatedAt: timestamppb.New(e.CreatedAt),
			Headers:   e.Headers,
			Payload:   e.Payload,
		}
		const field = 1 // TransformRequest.events
		size := proto.Size(&message)
		whole := protowire.SizeTag(field) + protowire.SizeBytes(size)
		if whole > p.options.MaxMessage {
			errs[n] = plugins.Reject(fmt.Errorf("event of %d bytes is larger than max_message, which is %d", whole, p.options.MaxMessage))
			n++
			continue
		}
		if len(b.request)+whole > p.options.MaxMessage {
			break
		}
		request := protowire.AppendTag(b.request, field, protowire.BytesType)
		request = protowire.AppendVarint(request, uint64(size))
		request, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(request, &message)
		if err != nil {
			errs[n] = plugins.Reject(errors.New("event cannot be sent: type, tenant, key or headers are not UTF-8"))
			n++
			continue
		}
		b.events = append(b.events, e)
		b.errs = append(b.errs, &errs[n])
		b.request = request
		b.ends = append(b.ends, len(request))
		n++
	}
	return b, n
}

// callError says why a call failed as a whole.
type callError struct {
	err    error
	over   bool // the plugin or the caller is stopping: no call makes sense
	absent bool // there was no process to send it to
	large  bool // the answer is larger than a message may be
	shared bool // the process ended, and maybe not through this call
}

func (e *callError) Error() string { return e.err.Error() }
func (e *callError) Unwrap() error { return e.err }

// send sees to it that each event of b has its outcome. Events are sent together
// until that fails as a whole; then by themselves, so that each fails for its
// own sake only.
func (p *Plugin) send(ctx context.Context, b *batch) {
	if !p.careful.Load() {
		failed := p.sendWhole(ctx, b, time.Now().Add(p.options.Timeout))
		if failed == nil {
			return
		}
		if failed.over {
			b.fail(failed)
			return
		}
		p.careful.Store(true)
	}
	select {
	case p.alone <- struct{}{}:
		defer func() { <-p.alone }()
		p.sendSingly(ctx, b)
	case <-ctx.Done():
		b.fail(ctx.Err())
	}
}

// sendWhole sends b in one call. An answer that is too large is asked for in
// halves, as long as the time is before until.
func (p *Plugin) sendWhole(ctx context.Context, b *batch, until time.Time) *callError {
	failed := p.call(ctx, b)
	if failed == nil || !failed.large {
		return failed
	}
	n := len(b.events)
	if n == 1 || time.Now().After(until) {
		b.fail(failed)
		return nil
	}
	if failed := p.sendWhole(ctx, b.part(0, n/2), until); failed != nil {
		return failed
	}
	return p.sendWhole(ctx, b.part(n/2, n), until)
}

// sendSingly sends the events of b one after the other, for as long as patience
// goes. Where a process ends, the next event waits for another one. p.alone must
// be held.
func (p *Plugin) sendSingly(ctx context.Context, b *batch) {
	until := time.Now().Add(p.options.patience())
	succeeded, failures := 0, 0
	for i := range b.events {
		single := b.part(i, i+1)
		failed := p.sendSingle(ctx, single, until)
		if failed == nil {
			succeeded++
			p.hopeless.Store(false)
			continue
		}
		failures++
		single.fail(failed)
		if !failed.over && !p.hopeless.Load() && time.Now().Before(until) {
			continue
		}
		if rest := b.part(i+1, len(b.events)); len(rest.events) > 0 {
			rest.fail(fmt.Errorf("was not asked, since others failed before: %w", failed))
		}
		p.hopeless.Store(!failed.over && succeeded == 0)
		return
	}
	p.careful.Store(failures > 0)
}

// sendSingle sends one event. It is sent again where it was not at fault: there
// was no process for it, or that ended and may have done so through another call.
func (p *Plugin) sendSingle(ctx context.Context, b *batch, until time.Time) *callError {
	for again := true; ; {
		failed := p.call(ctx, b)
		switch {
		case failed == nil || failed.over || p.hopeless.Load() || time.Now().After(until):
			return failed
		case failed.absent:
		case failed.shared && again:
			again = false
		default:
			return failed
		}
	}
}

// call sends b to one of the processes, and applies the answer.
func (p *Plugin) call(ctx context.Context, b *batch) *callError {
	timed, cancel := context.WithTimeout(ctx, p.options.Timeout)
	defer cancel()
	cancelable, end := context.WithCancelCause(timed)
	defer end(nil)
	c := &call{cancel: end}
	proc, err := p.acquire(timed, c)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		over := ctx.Err() != nil || errors.Is(err, errStopping)
		return &callError{err: err, over: over, absent: !over}
	}
	p.calls.Add(1)
	begun := time.Now()
	request, reply := b.message(), []byte(nil)
	err = proc.conn.Invoke(cancelable, pluginv1.Transformer_Transform_FullMethodName, &request, &reply, grpc.ForceCodecV2(rawCodec{}))
	var failed *callError
	switch {
	case err == nil:
		if err = b.apply(reply); err != nil {
			p.fail(proc, err.Error()+" and was killed")
			failed = &callError{err: err}
		}
	case ctx.Err() != nil:
		failed = &callError{err: ctx.Err(), over: true}
	default:
		failed = p.judge(cancelable, proc, begun, err)
	}
	shared := p.release(proc, c)
	if failed == nil {
		proc.succeeded.Add(1)
		return nil
	}
	p.failures.Add(1)
	failed.shared = failed.shared && (shared || !proc.runner.endedAfter(begun))
	return failed
}

// judge returns why a call failed that got err instead of an answer, and kills
// the process if that is of no more use.
func (p *Plugin) judge(ctx context.Context, proc *process, begun time.Time, err error) *callError {
	var ended *endedError
	code := status.Code(err)
	switch {
	case errors.As(context.Cause(ctx), &ended):
		return &callError{err: ended, shared: true}
	case code == codes.DeadlineExceeded || ctx.Err() != nil:
		// The time is that of the whole call: what waited for a process may have
		// left this one too little to be judged by.
		if time.Since(begun) >= p.options.Timeout/2 {
			p.fail(proc, fmt.Sprintf("did not answer within %s and was killed", p.options.Timeout))
		}
		return &callError{err: fmt.Errorf("did not answer within %s", p.options.Timeout)}
	case code == codes.Unavailable && !proc.healthy(context.WithoutCancel(ctx), lostTimeout):
		return p.lost(proc)
	}
	return &callError{err: fmt.Errorf("answered with an error: %s", statusText(err)), large: code == codes.ResourceExhausted}
}

// lost returns how the process ended that a call was on, or kills it: it can no
// longer be reached.
func (p *Plugin) lost(proc *process) *callError {
	select {
	case <-proc.runner.exited:
		p.remove(proc, proc.runner.end())
	case <-time.After(lostTimeout):
		p.fail(proc, "could no longer be reached and was killed")
	}
	return &callError{err: &endedError{reason: proc.reason(p)}, shared: true}
}

// statusText returns the text of a call's error.
func statusText(err error) string {
	s := status.Convert(err)
	if text := wire.Line(s.Message()); text != "" {
		return cut(text, maxMessageText)
	}
	return s.Code().String()
}
