package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/idna"
)

// stalled is for how long an HTTP/2 connection may take no bytes.
const stalled = 5 * time.Second

// maxHTTP2 bounds how many addresses are known to speak HTTP/2.
const maxHTTP2 = 1 << 14

// transport sends requests by one TLS: those of HTTP/1.1 over connections of
// its own (see conn), since they are most of what is sent and net/http's cost
// far more (BenchmarkSend); what speaks HTTP/2, and token requests, by net/http's.
type transport struct {
	*http.Transport
	dialer *dialer
	idle   *pool
	tls    *tls.Config

	mu    sync.Mutex
	http2 map[string]struct{} // addresses whose last TLS handshake agreed on it
}

func newTransport(d *dialer, idle *pool, config *tls.Config) *transport {
	config.NextProtos = []string{"h2", "http/1.1"}
	t := &transport{dialer: d, idle: idle, tls: config, http2: make(map[string]struct{})}
	t.Transport = &http.Transport{
		DialContext:            d.dial,
		DialTLSContext:         t.spareOrDial,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           0, // bounded by each endpoint's concurrency
		MaxIdleConnsPerHost:    4096,
		IdleConnTimeout:        idleTimeout,
		TLSClientConfig:        config.Clone(), // net/http changes it
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
	return t
}

// send sends q with header. A request of which nothing was written, because
// the receiver gave up an idle connection, goes over the next one.
func (t *transport) send(a *attempt, q *Request, o *opening, header Header) Response {
	if o.url.Scheme != "http" && o.url.Scheme != "https" {
		return t.sendByNetHTTP(a, q, header) // which says that it does not know it
	}
	for at := (place{t, o.url.Scheme, o.address}); ; {
		c := t.idle.take(at)
		if c == nil {
			var err error
			if c, err = t.connect(a, at); err != nil {
				a.settle()
				return Response{Err: explain(a, err, byTLS)}
			}
			if c == nil {
				return t.sendByNetHTTP(a, q, header)
			}
		}
		if r, unsent := c.send(a, q, o, header); !unsent {
			return r
		}
	}
}

// connect returns a new connection, or nil where HTTP/2 is spoken.
func (t *transport) connect(a *attempt, at place) (*conn, error) {
	if at.scheme == "http" {
		raw, err := t.dialer.dial(a, "tcp", at.address)
		if err != nil {
			return nil, err
		}
		return newConn(raw, at), nil
	}
	if t.speaksHTTP2(at.address) {
		return nil, nil
	}
	secure, err := t.dialTLS(a, at.address)
	if err != nil {
		return nil, err
	}
	if secure.ConnectionState().NegotiatedProtocol == "h2" {
		a.spare.Store(&spare{secure, t, at.address})
		return nil, nil
	}
	return newConn(secure, at), nil
}

// dialTLS connects and remembers what was agreed on.
func (t *transport) dialTLS(ctx context.Context, address string) (*tls.Conn, error) {
	secure, err := t.dialer.dialTLS(ctx, t.tls, address)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if secure.ConnectionState().NegotiatedProtocol != "h2" {
		delete(t.http2, address)
	} else {
		if len(t.http2) >= maxHTTP2 { // those that are lost cost a connection each
			clear(t.http2)
		}
		t.http2[address] = struct{}{}
	}
	return secure, nil
}

func (t *transport) speaksHTTP2(address string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, known := t.http2[address]
	return known
}

// spareOrDial is net/http's DialTLSContext. A connection on which HTTP/1.1 is
// agreed on it uses itself; the next attempt will find that out too.
func (t *transport) spareOrDial(ctx context.Context, _, address string) (net.Conn, error) {
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		// A dial for the attempt's token may still be under way.
		if spare := a.spare.Load(); spare != nil && spare.transport == t && spare.address == address && a.spare.CompareAndSwap(spare, nil) {
			return spare.Conn, nil
		}
	}
	secure, err := t.dialTLS(ctx, address)
	if err != nil {
		return nil, err
	}
	return secure, nil
}

// sendByNetHTTP sends q with header by net/http.
func (t *transport) sendByNetHTTP(a *attempt, q *Request, header Header) Response {
	r, ok := within(a, func() Response {
		defer func() {
			if spare := a.spare.Swap(nil); spare != nil { // there was another one by then
				abandon(spare.Conn)
			}
		}()
		var r Response
		own := a.trace(a)
		res, err := t.RoundTrip(build(own, q, header))
		if err == nil {
			r.Status, r.RetryAfter = res.StatusCode, res.Header.Get("Retry-After")
			if res.StatusCode != http.StatusSwitchingProtocols { // its body is the connection, on which no deadline ends a read
				r.Excerpt, _, err = readExcerpt(res.Body)
			}
			_ = res.Body.Close()
		}
		r.Err = explain(own, err, byTLS)
		return r
	})
	if !ok {
		return Response{Err: context.Cause(a)}
	}
	return r
}

// build returns q with header as net/http has it.
func build(ctx context.Context, q *Request, header Header) *http.Request {
	req := (&http.Request{
		Method: q.Method, URL: q.URL, Host: q.URL.Host, Header: header.HTTP(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(q.Body)),
		// GetBody lets the transport take another connection when the receiver
		// closed an idle one just before anything was written to it.
		GetBody: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(q.Body)), nil
		},
	}).WithContext(ctx)
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
	return req
}

// readExcerpt returns the first bytes of an answer's body, and whether it has
// read all of it.
func readExcerpt(body io.Reader) (excerpt []byte, ended bool, err error) {
	excerpt, err = io.ReadAll(io.LimitReader(body, excerptBytes))
	if err != nil || len(excerpt) < excerptBytes {
		return excerpt, err == nil, inBody(err)
	}
	_, err = io.CopyN(io.Discard, body, drainBytes)
	if errors.Is(err, io.EOF) {
		return excerpt, true, nil
	}
	return excerpt, false, inBody(err)
}

// opening is how every request to one URL begins, and where it goes.
type opening struct {
	method        string
	url           url.URL
	address       string // host:port to connect to
	line          []byte // the request line and Host
	authorization string // by the URL's user; "" without one
}

// of reports whether q begins with o.
func (o *opening) of(q *Request) bool { return o.method == q.Method && o.url == *q.URL }

// newOpening returns an error if no request can have q's method and URL.
func newOpening(q *Request) (*opening, error) {
	o := &opening{method: q.Method, url: *q.URL}
	if !httpguts.ValidHeaderFieldName(q.Method) { // both are tokens
		return nil, errors.New("the method is not valid")
	}
	if q.URL.Host == "" {
		return nil, errors.New("the URL has no host")
	}
	host, port := q.URL.Hostname(), q.URL.Port()
	if strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		ascii, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return nil, &resolveError{host, errors.New("it is not a host name")}
		}
		host = ascii
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[q.URL.Scheme]
	}
	o.address = net.JoinHostPort(host, port)
	var text bytes.Buffer
	plain := &http.Request{Method: q.Method, URL: q.URL, Host: q.URL.Host, Header: http.Header{"User-Agent": {""}}}
	if err := plain.Write(&text); err != nil {
		return nil, explainAnswer(err)
	}
	lines := bytes.SplitAfterN(text.Bytes(), []byte("\r\n"), 3)
	o.line = slices.Concat(lines[0], lines[1])
	if user := q.URL.User; user != nil {
		password, _ := user.Password()
		o.authorization = basic(user.Username(), password)
	}
	return o, nil
}
