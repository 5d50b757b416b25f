package egress

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	netproxy "golang.org/x/net/proxy"
)

// proxyAnswerBytes bounds a proxy's answer to CONNECT, interim ones included.
const proxyAnswerBytes = 16 << 10

// proxy reaches addresses through a proxy. Its own address is not judged, since
// the operator names it. It is asked for addresses that were judged here, never
// for a name, which it would look up once more and might find elsewhere.
type proxy struct {
	url      *url.URL
	address  string // host:port
	resolver Resolver
	direct   reach // not guarded: to the proxy only
	tls      *tls.Config
}

// newProxy returns the proxy at u, whose scheme is http, https (TLS to the
// proxy itself), socks5 or socks5h, which are the same here. User and password
// in u are for the proxy.
func newProxy(u *url.URL, resolver Resolver, direct reach) (*proxy, error) {
	ports := map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}
	if ports[u.Scheme] == "" {
		return nil, errors.New("use proxy: its scheme must be http, https, socks5 or socks5h")
	}
	if u.Hostname() == "" {
		return nil, errors.New("use proxy: its URL has no host")
	}
	return &proxy{
		url: u, address: net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), ports[u.Scheme])),
		resolver: resolver, direct: direct,
		tls: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()},
	}, nil
}

// reach connects to target through the proxy. Its errors are *proxyError.
func (p *proxy) reach(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
	tunnel := p.socks
	if p.url.Scheme == "http" || p.url.Scheme == "https" {
		tunnel = p.connect
	}
	conn, err := tunnel(ctx, target.String())
	if err != nil {
		return nil, &proxyError{err}
	}
	return conn, nil
}

// dial connects to the proxy itself.
func (p *proxy) dial(ctx context.Context) (net.Conn, error) {
	host, port, err := splitHostPort(p.address)
	if err != nil {
		return nil, err
	}
	addrs, err := lookUp(ctx, p.resolver, host)
	if err != nil {
		return nil, err
	}
	return race(ctx, addrs, port, p.direct)
}

// connect asks an HTTP proxy for a tunnel, for targets of http as of https. The
// other way for http, a request with the whole URL, does not serve: the proxy
// must take the host from that URL (RFC 9112, section 3.2.2), so that with an
// address there the receiver would not learn its name. A proxy that permits
// CONNECT to port 443 only, as many do, thus serves https endpoints only.
func (p *proxy) connect(ctx context.Context, target string) (net.Conn, error) {
	conn, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	// What waits for the proxy ends with ctx.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	tunnel := conn
	if p.url.Scheme == "https" {
		tunnel = tls.Client(conn, p.tls)
	}
	err = p.askFor(tunnel, target)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return tunnel, nil
}

// askFor sends CONNECT and reads the answer, to its head's end and no further.
func (p *proxy) askFor(conn net.Conn, target string) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: http.Header{"User-Agent": {""}}}
	if user := p.url.User; user != nil {
		password, _ := user.Password()
		auth := http.Request{Header: http.Header{}}
		auth.SetBasicAuth(user.Username(), password)
		req.Header["Proxy-Authorization"] = auth.Header["Authorization"]
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	answer := &io.LimitedReader{R: conn, N: proxyAnswerBytes}
	buffered := bufio.NewReader(answer)
	for {
		res, err := http.ReadResponse(buffered, req) //nolint:bodyclose // it is what comes through the tunnel
		switch {
		case answer.N == 0:
			return fmt.Errorf("its answer is longer than %d KiB", proxyAnswerBytes>>10)
		case err != nil:
			return err
		case res.StatusCode >= 100 && res.StatusCode <= 199 && res.StatusCode != http.StatusSwitchingProtocols:
			continue
		case res.StatusCode < 200 || res.StatusCode > 299:
			return fmt.Errorf("it answered %d %s", res.StatusCode, http.StatusText(res.StatusCode))
		case buffered.Buffered() > 0: // a server of HTTP or TLS waits for the client
			return errors.New("it sent more than its answer")
		}
		return nil
	}
}

// socks asks a SOCKS proxy for a tunnel, by RFC 1928 and RFC 1929.
func (p *proxy) socks(ctx context.Context, target string) (net.Conn, error) {
	var auth *netproxy.Auth
	if user := p.url.User; user != nil {
		password, _ := user.Password()
		auth = &netproxy.Auth{User: user.Username(), Password: password}
	}
	var conn net.Conn // what the library returns wraps it to no use
	dialer, err := netproxy.SOCKS5("tcp", p.address, auth, toProxy(func(ctx context.Context) (net.Conn, error) {
		var err error
		conn, err = p.dial(ctx)
		return conn, err
	}))
	if err != nil {
		return nil, err
	}
	_, err = dialer.(netproxy.ContextDialer).DialContext(ctx, "tcp", target)
	var op *net.OpError
	if errors.As(err, &op) { // it names target and proxy, whose URL the operator knows
		err = op.Err
	}
	if err == nil {
		return conn, nil
	}
	// The library has no type for what the proxy refuses, but this text.
	if why, refused := strings.CutPrefix(err.Error(), "unknown error "); refused {
		err = errors.New("it refused the connection: " + why)
	}
	return nil, err
}

// toProxy gives a proxy's dial the form that the SOCKS library asks for.
type toProxy func(ctx context.Context) (net.Conn, error)

// Dial is there for netproxy.Dialer; DialContext is what is called.
func (f toProxy) Dial(string, string) (net.Conn, error) { return f(context.Background()) }

// DialContext connects to the proxy.
func (f toProxy) DialContext(ctx context.Context, _, _ string) (net.Conn, error) { return f(ctx) }

// proxyError reports that the proxy cannot be reached or refused.
type proxyError struct{ err error }

func (e *proxyError) Error() string { return "proxy: " + e.err.Error() }

func (e *proxyError) Unwrap() error { return e.err }
