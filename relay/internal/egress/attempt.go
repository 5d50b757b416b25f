package egress

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// attempt is the context of one attempt, with its timings. What ends a context,
// a timer among other things, is made when somebody first asks for it: an attempt
// over an idle connection has a deadline on the connection instead.
type attempt struct {
	parent   context.Context
	timeout  time.Duration
	deadline time.Time
	timings
	// spare is a connection of HTTP/2 for net/http's transport to take instead
	// of making one.
	spare atomic.Pointer[spare]

	making sync.Once
	made   context.Context
	cancel context.CancelFunc
}

// spare is a connection for requests by its transport to its address.
type spare struct {
	*tls.Conn
	transport *transport
	address   string
}

// attemptKey is the key of a context's value: the *attempt that it is for. The
// transport dials with a context that keeps the values but not the end, so that
// a later request can have the connection; an endpoint that lets connects wait
// would gather dials that way.
type attemptKey struct{}

// begin returns an attempt that ends with ctx or after timeout.
func begin(ctx context.Context, timeout time.Duration) *attempt {
	a := &attempt{parent: ctx, timeout: timeout}
	a.start = time.Now()
	a.deadline = a.start.Add(timeout)
	return a
}

// end gives up what was made for a.
func (a *attempt) end() {
	if a.cancel != nil {
		a.cancel()
	}
}

func (a *attempt) context() context.Context {
	a.making.Do(func() {
		a.made, a.cancel = context.WithDeadlineCause(a.parent, a.deadline, &failure{"timeout", fmt.Errorf("no complete answer within %s", a.timeout)})
	})
	return a.made
}

// Deadline is when the attempt's time is over.
func (a *attempt) Deadline() (time.Time, bool) {
	if earlier, ok := a.parent.Deadline(); ok && earlier.Before(a.deadline) {
		return earlier, true
	}
	return a.deadline, true
}

// Done is closed when the attempt's time is over.
func (a *attempt) Done() <-chan struct{} { return a.context().Done() }

// Err is not nil once Done is closed.
func (a *attempt) Err() error { return a.context().Err() }

// Value returns the attempt and its timings, and what its parent knows.
func (a *attempt) Value(key any) any {
	switch key.(type) {
	case attemptKey:
		return a
	case timingsKey:
		return &a.timings
	}
	return a.context().Value(key)
}

// settle waits for Done if the time is over: connections that have the deadline
// themselves may be ahead of it by a moment.
func (a *attempt) settle() {
	if deadline, _ := a.Deadline(); !time.Now().Before(deadline) {
		<-a.Done()
	}
}

// grace is how long an attempt may take to notice that its time is over.
const grace = 500 * time.Millisecond

// within returns what do does, or false soon after ctx ended whatever do does:
// over HTTP/2 a receiver that takes no bytes makes the transport wait for its
// own write, which knows no ctx. What is left behind then ends by stalled.
func within[T any](ctx context.Context, do func() T) (result T, ok bool) {
	done := make(chan T, 1)
	go func() { done <- do() }()
	select {
	case result = <-done:
		return result, true
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case result = <-done:
		return result, true
	case <-timer.C:
		return result, false
	}
}

// timings collects when what happened, and on which connection. The transport
// calls its hooks from goroutines that may outlive the attempt, hence the
// atomics.
type timings struct {
	start                        time.Time
	dns, connect, tls, firstByte atomic.Int64
	conn                         atomic.Pointer[permittedConn]
}

// timingsKey is the key of a context's *timings.
type timingsKey struct{}

// timingsOf returns those of ctx, or some for nobody.
func timingsOf(ctx context.Context) *timings {
	if t, ok := ctx.Value(timingsKey{}).(*timings); ok {
		return t
	}
	return new(timings)
}

func (t *timings) now() int64 { return int64(time.Since(t.start)) }

// trace returns a context for the requests of net/http whose times are collected.
func (t *timings) trace(ctx context.Context) context.Context {
	return context.WithValue(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(got httptrace.GotConnInfo) { t.conn.Store(permittedUnder(got.Conn)) },
		GotFirstResponseByte: func() { t.firstByte.Store(t.now()) },
	}), timingsKey{}, t)
}

// refused reports whether the connection was given up because a write, of this
// request or of another, was not permitted.
func (t *timings) refused() bool {
	conn := t.conn.Load()
	return conn != nil && conn.refused.Load()
}

func (t *timings) into(r *Response) {
	r.DNS, r.Connect = time.Duration(t.dns.Load()), time.Duration(t.connect.Load())
	r.TLS, r.FirstByte = time.Duration(t.tls.Load()), time.Duration(t.firstByte.Load())
	r.Total = time.Duration(t.now())
}
