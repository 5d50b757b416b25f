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
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"
)

// The bounds on an answer. What is read beyond the excerpt is thrown away, so
// that the connection can be used again; a longer body costs the connection.
const (
	excerptBytes = 4 << 10
	drainBytes   = 64 << 10
	headerBytes  = 64 << 10
)

// Options say where requests may go.
type Options struct {
	Allow, Deny []netip.Prefix
	// Permit is asked whenever bytes are about to leave: without it none do.
	// It must be quick.
	Permit func() bool
}

// Client sends requests. It is safe for concurrent use. Use New.
type Client struct {
	transport *http.Transport
}

// New returns a client. Environment variables such as HTTP_PROXY are ignored.
func New(o Options) *Client {
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second, Control: newGuard(o.Allow, o.Deny).control}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &permittedConn{Conn: c, permit: o.Permit}, nil
	}
	return &Client{transport: &http.Transport{
		DialContext:            dial,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           0, // bounded by each endpoint's concurrency
		MaxIdleConnsPerHost:    4096,
		IdleConnTimeout:        90 * time.Second,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		MaxResponseHeaderBytes: headerBytes,
	}}
}

// permittedConn sends nothing without permission. It is asked here, at the
// last moment, because a process can be stopped at any other.
type permittedConn struct {
	net.Conn
	permit func() bool
}

func (c *permittedConn) Write(p []byte) (int, error) {
	if !c.permit() {
		return 0, ErrNotPermitted
	}
	return c.Conn.Write(p)
}

// Close gives the idle connections up.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Request is one attempt. Headers are sent as they are spelt.
type Request struct {
	Method  string
	URL     *url.URL // its user and password are sent as basic authentication
	Header  http.Header
	Body    []byte
	Timeout time.Duration // connect to last body byte
}

// Response is what came of an attempt: an answer, or an error.
type Response struct {
	Status     int
	RetryAfter string // the header, as it came
	Excerpt    []byte // the first bytes of the body
	Err        error  // no complete answer

	DNS, Connect, TLS, FirstByte, Total time.Duration // 0 for what did not happen
}

// ErrNotPermitted reports that Options.Permit said no before the whole request
// was sent.
var ErrNotPermitted = errors.New("sending is not permitted")

// Send makes one attempt. It returns when the answer was read or the timeout
// passed, whichever is first.
func (c *Client) Send(ctx context.Context, q *Request) Response {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, q.Timeout, fmt.Errorf("no complete answer within %s", q.Timeout))
	defer cancel()
	t := &timings{start: start}
	req := (&http.Request{
		Method: q.Method, URL: q.URL, Host: q.URL.Host, Header: q.Header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(q.Body)),
		// GetBody lets the transport take another connection when the receiver
		// closed an idle one just before anything was written to it.
		GetBody: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(q.Body)), nil
		},
	}).WithContext(httptrace.WithClientTrace(ctx, t.trace()))
	if req.Body, _ = req.GetBody(); len(q.Body) == 0 {
		req.Body = http.NoBody
	}
	if user := q.URL.User; user != nil && q.Header.Get("Authorization") == "" {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	var r Response
	res, err := c.transport.RoundTrip(req) //nolint:bodyclose // readExcerpt does
	if err == nil {
		r.Status = res.StatusCode
		r.RetryAfter = res.Header.Get("Retry-After")
		r.Excerpt, err = readExcerpt(res.Body)
	}
	r.Err = explain(ctx, err)
	r.Total = time.Since(start)
	t.into(&r)
	return r
}

// readExcerpt returns the first bytes of body and closes it.
func readExcerpt(body io.ReadCloser) ([]byte, error) {
	defer body.Close()
	excerpt, err := io.ReadAll(io.LimitReader(body, excerptBytes))
	if err != nil || len(excerpt) < excerptBytes {
		return excerpt, err
	}
	_, err = io.CopyN(io.Discard, body, drainBytes)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return excerpt, err
}

// timings collects when what happened. The transport calls its hooks from
// goroutines that may outlive the attempt, hence the atomics.
type timings struct {
	start                          time.Time
	dnsAt, dns, connectAt, connect atomic.Int64
	tlsAt, tls, firstByte          atomic.Int64
}

func (t *timings) now() int64 { return int64(time.Since(t.start)) }

func (t *timings) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart:             func(httptrace.DNSStartInfo) { t.dnsAt.Store(t.now()) },
		DNSDone:              func(httptrace.DNSDoneInfo) { t.dns.Store(t.now() - t.dnsAt.Load()) },
		ConnectStart:         func(string, string) { t.connectAt.CompareAndSwap(0, t.now()) },
		ConnectDone:          func(string, string, error) { t.connect.Store(t.now() - t.connectAt.Load()) },
		TLSHandshakeStart:    func() { t.tlsAt.Store(t.now()) },
		TLSHandshakeDone:     func(tls.ConnectionState, error) { t.tls.Store(t.now() - t.tlsAt.Load()) },
		GotFirstResponseByte: func() { t.firstByte.Store(t.now()) },
	}
}

func (t *timings) into(r *Response) {
	r.DNS, r.Connect = time.Duration(t.dns.Load()), time.Duration(t.connect.Load())
	r.TLS, r.FirstByte = time.Duration(t.tls.Load()), time.Duration(t.firstByte.Load())
}

// explain returns err as one line for people: never with the URL, which may
// carry credentials.
func explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
	}
	if errors.Is(err, ErrNotPermitted) {
		return ErrNotPermitted
	}
	var blocked *BlockedError
	if errors.As(err, &blocked) {
		return blocked
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("the connection was closed before the answer was complete")
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	return err
}
