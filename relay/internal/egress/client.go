// Package egress sends requests to endpoints: only to addresses that may be
// reached, never following a redirect, and with a bound on the time and bytes
// that an answer may take.
package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds on an answer. What is read beyond the excerpt is thrown away, so
// that the connection can be used again; a longer body costs the connection.
const (
	excerptBytes = 4 << 10
	drainBytes   = 64 << 10
	headerBytes  = 64 << 10 // of all heads, interim ones included
)

// stalled is for how long an HTTP/2 connection may take no bytes.
const stalled = 5 * time.Second

// Options say where requests may go.
type Options struct {
	Allow, Deny []netip.Prefix
	// Permit is asked whenever bytes are about to leave: without it none do.
	// It must be quick.
	Permit func() bool
	// Proxy is what connections go through: http, https, socks5 or socks5h, its
	// user and password included. nil for none.
	Proxy *url.URL
	// Resolver looks up hosts. nil for the system's.
	Resolver Resolver
}

// Client sends requests. It is safe for concurrent use. Use New.
type Client struct {
	dialer   *dialer
	standard *Target // for requests without one

	mu         sync.Mutex
	transports map[TLS]*http.Transport
}

// New returns a client. Environment variables such as HTTP_PROXY are ignored.
// It returns an error if Options.Proxy is of another scheme.
func New(o Options) (*Client, error) {
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	guard := newGuard(o.Allow, o.Deny)
	d := &dialer{resolver: o.Resolver, guard: guard, reach: direct(&net.Dialer{Control: guard.control}, o.Permit)}
	if o.Proxy != nil {
		p, err := newProxy(o.Proxy, o.Resolver, direct(&net.Dialer{}, o.Permit))
		if err != nil {
			return nil, err
		}
		d.reach = p.reach
	}
	c := &Client{dialer: d, transports: make(map[TLS]*http.Transport)}
	var err error
	c.standard, err = c.Target(TLS{}, nil)
	return c, err
}

// Close gives the idle connections up.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
}

// Target is how one endpoint is reached. Targets of one TLS share connections.
type Target struct {
	transport http.RoundTripper
	auth      Auth
}

// Target returns how to reach an endpoint with t and a, which may be nil. It
// reads the files that t names; an error says which of them it cannot use.
func (c *Client) Target(t TLS, a Auth) (*Target, error) {
	transport, err := c.transportFor(t)
	if err != nil {
		return nil, err
	}
	return &Target{transport: transport, auth: a}, nil
}

// transportFor returns the transport for t: there is one for each, so that
// connections are used again, until its CA file holds something else.
func (c *Client) transportFor(t TLS) (http.RoundTripper, error) {
	t.MinVersion = max(t.MinVersion, tls.VersionTLS12)
	config, err := t.config()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.transports[t]; old != nil {
		if config.RootCAs.Equal(old.TLSClientConfig.RootCAs) {
			return old, nil
		}
		old.CloseIdleConnections()
	}
	config.NextProtos = []string{"h2", "http/1.1"}
	c.transports[t] = &http.Transport{
		DialContext:            c.dialer.dial,
		DialTLSContext:         c.dialer.dialTLS(config),
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           0, // bounded by each endpoint's concurrency
		MaxIdleConnsPerHost:    4096,
		IdleConnTimeout:        90 * time.Second,
		TLSClientConfig:        config,
		MaxResponseHeaderBytes: headerBytes,
		HTTP2: &http.HTTP2Config{
			// A connection whose other end is gone is given up within these
			// two, where HTTP/1.1 loses it with the attempt that timed out.
			SendPingTimeout: 10 * time.Second,
			PingTimeout:     5 * time.Second,
			// So is one that takes no bytes.
			WriteByteTimeout: stalled,
			// How much a server may send ahead of the reader; by default it is
			// 4 MiB for each request.
			MaxReceiveBufferPerStream:     excerptBytes + drainBytes,
			MaxReceiveBufferPerConnection: 1 << 20,
		},
	}
	return c.transports[t], nil
}

// Request is one attempt. Headers are sent as they are spelt.
type Request struct {
	Method  string
	URL     *url.URL // its user and password are sent as basic authentication, unless Target has other credentials
	Header  http.Header
	Body    []byte
	Timeout time.Duration // connect to last body byte, a token request included
	Target  *Target       // nil: with the default TLS and no authentication
}

// Response is what came of an attempt: an answer, or an error.
type Response struct {
	Status     int
	RetryAfter string // the header, as it came
	Excerpt    []byte // the first bytes of the body
	Err        error  // no complete answer

	DNS, Connect, TLS, FirstByte, Total time.Duration // 0 for what did not happen
}

// Send makes one attempt. It returns when the answer was read or the timeout
// passed, whichever is first. Where the credentials were refused and fresh ones
// can be had, it sends the request once more.
func (c *Client) Send(ctx context.Context, q *Request) Response {
	t := &timings{start: time.Now()}
	ctx, cancel := context.WithTimeoutCause(ctx, q.Timeout, fmt.Errorf("no complete answer within %s", q.Timeout))
	defer cancel()
	ctx = context.WithValue(ctx, attemptKey{}, ctx)
	target := q.Target
	if target == nil {
		target = c.standard
	}
	r := target.attempt(ctx, q, t)
	r.Total = time.Since(t.start)
	t.into(&r)
	return r
}

// grace is how long an attempt may take to notice that its time is over.
const grace = 500 * time.Millisecond

// attempt sends q, and returns soon after ctx ended whatever the transport
// does: over HTTP/2 a receiver that takes no bytes makes it wait for its own
// write, which knows no ctx. What is left behind then ends by stalled.
func (t *Target) attempt(ctx context.Context, q *Request, times *timings) Response {
	if q.URL.Scheme != "https" { // hence HTTP/1.1
		return t.send(ctx, q, times)
	}
	done := make(chan Response, 1)
	go func() { done <- t.send(ctx, q, times) }()
	select {
	case r := <-done:
		return r
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case r := <-done:
		return r
	case <-timer.C:
		return Response{Err: context.Cause(ctx)}
	}
}

// send sends q, and once more with fresh credentials if those were refused.
func (t *Target) send(ctx context.Context, q *Request, times *timings) Response {
	r, req := t.sendOnce(ctx, q, times)
	if r.Err == nil && r.Status == http.StatusUnauthorized && t.auth != nil && t.auth.refused(req) {
		r, _ = t.sendOnce(ctx, q, times)
	}
	return r
}

// sendOnce sends q once, and returns what it sent.
func (t *Target) sendOnce(ctx context.Context, q *Request, times *timings) (Response, *http.Request) {
	var r Response
	own := times.trace(ctx)
	req := q.build(own)
	if t.auth != nil { // whose requests have times of their own, which nobody asks for
		if r.Err = t.auth.authorize(new(timings).trace(ctx), req); r.Err != nil {
			return r, req
		}
	}
	res, err := t.transport.RoundTrip(req)
	if err == nil {
		r.Status = res.StatusCode
		r.RetryAfter = res.Header.Get("Retry-After")
		r.Excerpt, err = readExcerpt(res)
	}
	r.Err = explain(own, err, byTLS)
	return r, req
}

// build returns the request to send; its header can be changed without changing q's.
func (q *Request) build(ctx context.Context) *http.Request {
	req := (&http.Request{
		Method: q.Method, URL: q.URL, Host: q.URL.Host, Header: maps.Clone(q.Header),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(q.Body)),
		// GetBody lets the transport take another connection when the receiver
		// closed an idle one just before anything was written to it.
		GetBody: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(q.Body)), nil
		},
	}).WithContext(ctx)
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	if req.Body, _ = req.GetBody(); len(q.Body) == 0 {
		req.Body = http.NoBody
	}
	// In this spelling net/http takes them for leave to send the request again
	// by itself, after an attempt that failed.
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if value, ok := req.Header[name]; ok {
			delete(req.Header, name)
			req.Header[strings.ToLower(name)] = value
		}
	}
	if user := q.URL.User; user != nil {
		dropAuthorization(req)
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	return req
}

// readExcerpt returns the first bytes of an answer's body and closes it.
func readExcerpt(res *http.Response) ([]byte, error) {
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return nil, nil // its body is the connection, on which no deadline ends a read
	}
	excerpt, err := io.ReadAll(io.LimitReader(res.Body, excerptBytes))
	if err == nil && len(excerpt) == excerptBytes {
		_, err = io.CopyN(io.Discard, res.Body, drainBytes)
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err != nil {
		err = fmt.Errorf("read body: %w", err)
	}
	return excerpt, err
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

// trace returns a context for the requests whose times are collected.
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
}
