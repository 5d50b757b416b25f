// Package egress sends requests to endpoints: only to addresses that may be
// reached, never following a redirect, and with a bound on the time and bytes
// that an answer may take.
package egress

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
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

	idle pool

	mu         sync.Mutex
	transports map[TLS]*transport
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
	c := &Client{dialer: d, transports: make(map[TLS]*transport)}
	var err error
	c.standard, err = c.Target(TLS{}, nil)
	return c, err
}

// Close gives the idle connections up, and keeps none from then on.
func (c *Client) Close() {
	c.idle.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
}

// Target is how one endpoint is reached. Targets of one TLS share connections.
type Target struct {
	transport *transport
	auth      Auth
	opening   atomic.Pointer[opening] // of the last request
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
func (c *Client) transportFor(t TLS) (*transport, error) {
	t.MinVersion = max(t.MinVersion, tls.VersionTLS12)
	config, err := t.config()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.transports[t]; old != nil {
		if config.RootCAs.Equal(old.tls.RootCAs) {
			return old, nil
		}
		old.CloseIdleConnections()
		c.idle.drop(old)
	}
	c.transports[t] = newTransport(c.dialer, &c.idle, config)
	return c.transports[t], nil
}

// Request is one attempt. Headers are sent as they are spelt, but for Host,
// Content-Length, Transfer-Encoding and Trailer, which are the client's own.
type Request struct {
	Method  string
	URL     *url.URL // its user and password are sent as basic authentication, unless Target has other credentials
	Header  Header
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
	a := begin(ctx, q.Timeout)
	defer a.end()
	target := q.Target
	if target == nil {
		target = c.standard
	}
	r := target.send(a, q)
	a.into(&r)
	return r
}

// send sends q, and once more with fresh credentials if those were refused.
func (t *Target) send(a *attempt, q *Request) Response {
	o, err := t.openingOf(q)
	if err != nil {
		return Response{Err: err}
	}
	r, header := t.sendOnce(a, q, o)
	if r.Err == nil && r.Status == http.StatusUnauthorized && t.auth != nil && t.auth.refused(header) {
		r, _ = t.sendOnce(a, q, o)
	}
	return r
}

// sendOnce sends q once, and returns the header that it sent.
func (t *Target) sendOnce(a *attempt, q *Request, o *opening) (Response, Header) {
	header := q.Header
	if o.authorization != "" || t.auth != nil {
		header = header.clone()
	}
	if o.authorization != "" {
		header.Set("Authorization", o.authorization)
	}
	if t.auth != nil {
		if err := t.auth.authorize(a, &header); err != nil {
			return Response{Err: err}, header
		}
	}
	if err := header.check(); err != nil {
		return Response{Err: err}, header
	}
	return t.transport.send(a, q, o, header), header
}

// openingOf returns the opening of q. An endpoint has one URL, so that it is
// that of the request before.
func (t *Target) openingOf(q *Request) (*opening, error) {
	if last := t.opening.Load(); last != nil && last.of(q) {
		return last, nil
	}
	o, err := newOpening(q)
	if err == nil {
		t.opening.Store(o)
	}
	return o, err
}
