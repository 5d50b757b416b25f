package egress

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeProxy speaks one of the protocols and connects every target to backend.
// It notes what it was asked for.
type fakeProxy struct {
	listener net.Listener
	scheme   string
	backend  string
	user     string // "user:password" that it wants
	cert     *x509.Certificate
	conns    atomic.Int64

	mu    sync.Mutex
	asked []string
}

// newFakeProxy starts a proxy that ends with the test.
func newFakeProxy(t *testing.T, scheme, backend, user string) *fakeProxy {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &fakeProxy{listener: listener, scheme: scheme, backend: backend, user: user}
	if scheme == "https" {
		cert := newCertificate(t, "proxy", nil, nil)
		p.cert = cert.Leaf
		p.listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
	var running sync.WaitGroup
	stop := make(chan struct{})
	running.Go(func() {
		for {
			c, err := p.listener.Accept()
			if err != nil {
				return
			}
			p.conns.Add(1)
			running.Go(func() { p.serve(c, stop) })
		}
	})
	t.Cleanup(func() {
		close(stop)
		_ = listener.Close()
		running.Wait()
	})
	return p
}

func (p *fakeProxy) serve(c net.Conn, stop <-chan struct{}) {
	defer c.Close()
	in := bufio.NewReader(c)
	ask := p.http
	if p.scheme == "socks5" {
		ask = p.socks
	}
	if !ask(c, in) {
		return
	}
	backend, err := net.Dial("tcp", p.backend)
	if err != nil {
		return
	}
	defer backend.Close()
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(backend, in); done <- struct{}{} }()
	go func() { _, _ = io.Copy(c, backend); done <- struct{}{} }()
	ended := 0
	select {
	case <-done:
		ended++
	case <-stop:
	}
	_ = backend.Close()
	_ = c.Close()
	for ; ended < 2; ended++ {
		<-done
	}
}

func (p *fakeProxy) note(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, what)
}

func (p *fakeProxy) http(c net.Conn, in *bufio.Reader) bool {
	req, err := http.ReadRequest(in)
	if err != nil {
		return false
	}
	p.note(req.Method + " " + req.RequestURI)
	req.Header.Set("Authorization", req.Header.Get("Proxy-Authorization"))
	if user, password, ok := req.BasicAuth(); p.user != "" && (!ok || user+":"+password != p.user) {
		_, _ = io.WriteString(c, "HTTP/1.1 407 "+req.Header.Get("Authorization")+"\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
		return false
	}
	_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 Connection established\r\n\r\n")
	return true
}

// socks speaks SOCKS 5 as RFC 1928 and 1929 have it.
func (p *fakeProxy) socks(c net.Conn, in *bufio.Reader) bool {
	read := func(n int) []byte {
		b := make([]byte, n)
		_, _ = io.ReadFull(in, b)
		return b
	}
	read(int(read(2)[1]))
	if p.user == "" {
		_, _ = c.Write([]byte{5, 0})
	} else {
		_, _ = c.Write([]byte{5, 2})
		user := string(read(int(read(2)[1])))
		password := string(read(int(read(1)[0])))
		if user+":"+password != p.user {
			_, _ = c.Write([]byte{1, 1})
			return false
		}
		_, _ = c.Write([]byte{1, 0})
	}
	var host string
	switch kind := read(4)[3]; kind {
	case 1, 4:
		addr, _ := netip.AddrFromSlice(read(map[byte]int{1: 4, 4: 16}[kind]))
		host = addr.String()
	default:
		host = string(read(int(read(1)[0])))
	}
	p.note("CONNECT " + net.JoinHostPort(host, fmt.Sprint(binary.BigEndian.Uint16(read(2)))))
	if p.backend == "" {
		_, _ = c.Write([]byte{5, 2, 0, 1, 0, 0, 0, 0, 0, 0})
		return false
	}
	_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	return true
}

// url returns the proxy's URL, with its user unless that is empty.
func (p *fakeProxy) url(user string) *url.URL {
	u := &url.URL{Scheme: p.scheme, Host: p.listener.Addr().String()}
	if name, password, ok := strings.Cut(user, ":"); ok {
		u.User = url.UserPassword(name, password)
	}
	return u
}

// newProxied returns a client that goes through p and trusts it.
func newProxied(t *testing.T, p *fakeProxy, user string, o Options) *Client {
	t.Helper()
	o.Proxy = p.url(user)
	c := newClient(t, o)
	if p.cert != nil {
		through, err := newProxy(o.Proxy, c.dialer.resolver, direct(&net.Dialer{}, func() bool { return true }))
		if err != nil {
			t.Fatal(err)
		}
		through.tls.RootCAs = x509.NewCertPool()
		through.tls.RootCAs.AddCert(p.cert)
		c.dialer.reach = through.reach
	}
	return c
}

func TestRequestsGoThroughTheProxyToTheJudgedAddress(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Proto, r.Host, r.Header.Get("Proxy-Authorization"))
	})
	plain := httptest.NewServer(answer)
	defer plain.Close()
	secure := httptest.NewUnstartedServer(answer)
	secure.EnableHTTP2 = true
	var serverName atomic.Value
	secure.TLS = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		serverName.Store(h.ServerName)
		return nil, nil
	}}
	secure.StartTLS()
	defer secure.Close()
	authority := caFile(t, secure.Certificate())

	for _, scheme := range []string{"http", "https", "socks5"} {
		for _, user := range []string{"", "relay:hunter2"} {
			for target, server := range map[string]*httptest.Server{"http://example.com": plain, "https://example.com": secure} {
				t.Run(scheme+" as "+user+" to "+target, func(t *testing.T) {
					p := newFakeProxy(t, scheme, server.Listener.Addr().String(), user)
					resolver := &fakeResolver{answer: func(string, int64) ([]netip.Addr, error) {
						return []netip.Addr{netip.MustParseAddr("93.184.216.34")}, nil
					}}
					c := newProxied(t, p, user, Options{Resolver: resolver})
					how, err := c.Target(TLS{CAFile: authority}, nil)
					if err != nil {
						t.Fatal(err)
					}
					for attempt := range 2 {
						q := newRequest(t, target+"/hook")
						q.Target = how
						r := c.Send(t.Context(), q)
						want, port := "HTTP/1.1 example.com ", "80"
						if server == secure {
							want, port = "HTTP/2.0 example.com ", "443"
						}
						if r.Err != nil || string(r.Excerpt) != want || (r.Connect > 0) != (attempt == 0) {
							t.Fatalf("got %+v %q, want %q", r, r.Excerpt, want)
						}
						if len(p.asked) != 1 || p.asked[0] != "CONNECT 93.184.216.34:"+port {
							t.Errorf("the proxy was asked for %q", p.asked)
						}
					}
					if resolver.asked.Load() != 1 {
						t.Errorf("%d look-ups, want one", resolver.asked.Load())
					}
					if server == secure && serverName.Load() != "example.com" {
						t.Errorf("asked the server for %q", serverName.Load())
					}
				})
			}
		}
	}
}

func TestNoForbiddenTargetIsAskedOfTheProxy(t *testing.T) {
	port := forbidden(t)
	for _, scheme := range []string{"http", "https", "socks5"} {
		p := newFakeProxy(t, scheme, "127.0.0.1:"+port, "")
		c := newProxied(t, p, "", Options{Resolver: fixed("93.184.216.34", "10.0.0.1")})
		for _, host := range []string{"127.0.0.1", "[::1]", "169.254.169.254", "[64:ff9b::7f00:1]", "10.0.0.1", "localhost", "mixed.example", "127.1", p.listener.Addr().String()} {
			for _, target := range []string{"http", "https"} {
				r := c.Send(t.Context(), newRequest(t, target+"://"+host))
				var blocked *BlockedError
				var unknown *resolveError
				if !errors.As(r.Err, &blocked) && !errors.As(r.Err, &unknown) {
					t.Errorf("%s: got %v", host, r.Err)
				}
			}
		}
		if p.conns.Load() != 0 {
			t.Errorf("the proxy was asked for %q", p.asked)
		}
	}
}

func TestProxyIsFoundByItsName(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	p := newFakeProxy(t, "http", server.Listener.Addr().String(), "")
	_, port, _ := net.SplitHostPort(p.listener.Addr().String())
	resolver := &fakeResolver{answer: func(host string, _ int64) ([]netip.Addr, error) {
		if host == "proxy.internal" {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("93.184.216.34"), netip.MustParseAddr("2606:2800:220:1:248:1893:25c8:1946")}, nil
	}}
	c := newClient(t, Options{Resolver: resolver, Proxy: &url.URL{Scheme: "http", Host: "proxy.internal:" + port}})
	if r := c.Send(t.Context(), newRequest(t, "http://hooks.example")); r.Err != nil || r.Status != 200 {
		t.Errorf("got %+v", r)
	}
	// The exemption is the proxy's, not its address's.
	var blocked *BlockedError
	if r := c.Send(t.Context(), newRequest(t, "http://proxy.internal:"+port)); !errors.As(r.Err, &blocked) {
		t.Errorf("got %v, want that the proxy is no target", r.Err)
	}
}

func TestProxyRefusalsAreClearErrors(t *testing.T) {
	closed := newFakeProxy(t, "http", "", "")
	_ = closed.listener.Close()
	tests := []struct {
		name  string
		proxy *fakeProxy
		user  string
		want  string
	}{
		{"no credentials", newFakeProxy(t, "http", "", "relay:hunter2"), "", "proxy: it answered 407 Proxy Authentication Required"},
		{"wrong credentials", newFakeProxy(t, "http", "", "relay:hunter2"), "relay:hunter3", "proxy: it answered 407 Proxy Authentication Required"},
		{"wrong credentials over TLS", newFakeProxy(t, "https", "", "relay:hunter2"), "relay:hunter3", "proxy: it answered 407 Proxy Authentication Required"},
		{"no credentials for SOCKS", newFakeProxy(t, "socks5", "", "relay:hunter2"), "", "proxy: "},
		{"wrong credentials for SOCKS", newFakeProxy(t, "socks5", "", "relay:hunter2"), "relay:hunter3", "proxy: username/password authentication failed"},
		{"SOCKS refuses the address", newFakeProxy(t, "socks5", "", ""), "", "proxy: it refused the connection: connection not allowed by ruleset"},
		{"nothing listens", closed, "relay:hunter3", "proxy: connect to " + closed.listener.Addr().String() + ": connection refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newProxied(t, tt.proxy, tt.user, Options{Resolver: fixed("93.184.216.34")})
			r := c.Send(t.Context(), newRequest(t, "https://u:hunter2@hooks.example/hook"))
			if r.Err == nil || !strings.HasPrefix(r.Err.Error(), tt.want) || strings.Contains(r.Err.Error(), "hunter") || strings.Contains(r.Err.Error(), "Basic") {
				t.Errorf("got %v, want %s", r.Err, tt.want)
			}
		})
	}
}

func TestProxyOfAnUnknownAuthorityIsRefused(t *testing.T) {
	p := newFakeProxy(t, "https", "", "")
	r := newClient(t, Options{Proxy: p.url(""), Resolver: fixed("93.184.216.34")}).Send(t.Context(), newRequest(t, "https://hooks.example"))
	const want = "proxy: the server's certificate is self-signed (if it is the right one, add it to the system's authorities or name a file of them in the environment variable SSL_CERT_FILE)"
	if r.Err == nil || r.Err.Error() != want {
		t.Errorf("got %v, want %s", r.Err, want)
	}
}

func TestHostileProxiesEndWithinTheTimeout(t *testing.T) {
	tests := []struct {
		name  string
		serve func(net.Conn, <-chan struct{})
		want  string
	}{
		{"never answers", func(_ net.Conn, stop <-chan struct{}) { <-stop }, "no complete answer within 300ms"},
		{"drips its header", dripping("HTTP/1.1 200 OK\r\nX-A: ", "x"), "no complete answer within 300ms"},
		{"sends a huge header", dripping("HTTP/1.1 200 OK\r\nX-A: ", strings.Repeat("x", 100_000)), "proxy: its answer is longer than 16 KiB"},
		{"sends interim answers without end", dripping("", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1000)), "proxy: its answer is longer than 16 KiB"},
		{"closes", func(net.Conn, <-chan struct{}) {}, "proxy: the connection was closed before the answer was complete"},
		{"speaks another protocol", func(c net.Conn, _ <-chan struct{}) { _, _ = io.WriteString(c, "SSH-2.0-hunter2\r\n") }, "proxy: malformed HTTP response"},
		{"redirects", func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, "HTTP/1.1 302 hunter2\r\nLocation: http://127.0.0.1/\r\n\r\n")
		}, "proxy: it answered 302 Found"},
		{"says more than it was asked", func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}, "proxy: it sent more than its answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, err := url.Parse(raw(t, tt.serve))
			if err != nil {
				t.Fatal(err)
			}
			q := newRequest(t, "http://hooks.example")
			if strings.Contains(tt.want, "300ms") {
				q.Timeout = 300 * time.Millisecond
			}
			r := newClient(t, Options{Proxy: u, Resolver: fixed("93.184.216.34")}).Send(t.Context(), q)
			if r.Err == nil || r.Err.Error() != tt.want {
				t.Errorf("got %v, want %q", r.Err, tt.want)
			}
			if r.Total > q.Timeout+time.Second {
				t.Errorf("it took %s", r.Total)
			}
		})
	}
}

func TestSilentProxyIsLeftWithTheTimeout(t *testing.T) {
	for _, scheme := range []string{"http", "https", "socks5"} {
		t.Run(scheme, func(t *testing.T) {
			left := make(chan struct{})
			var lc net.ListenConfig
			silent, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			go func() {
				defer close(left)
				c, err := silent.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				_, _ = io.Copy(io.Discard, c)
			}()
			q := newRequest(t, "http://hooks.example")
			q.Timeout = 300 * time.Millisecond
			r := newClient(t, Options{Proxy: &url.URL{Scheme: scheme, Host: silent.Addr().String()}, Resolver: fixed("93.184.216.34")}).Send(t.Context(), q)
			if r.Err == nil || r.Err.Error() != "no complete answer within 300ms" || r.Total > q.Timeout+time.Second {
				t.Errorf("got %v after %s", r.Err, r.Total)
			}
			select {
			case <-left:
			case <-time.After(5 * time.Second):
				t.Error("the connection to the proxy stays open")
			}
		})
	}
}

func TestNothingIsSentToAProxyWithoutPermission(t *testing.T) {
	for _, scheme := range []string{"http", "https", "socks5"} {
		p := newFakeProxy(t, scheme, "", "relay:hunter2")
		c := newClient(t, Options{Proxy: p.url("relay:hunter2"), Resolver: fixed("93.184.216.34"), Permit: func() bool { return false }})
		for _, target := range []string{"http", "https"} {
			if r := c.Send(t.Context(), newRequest(t, target+"://hooks.example")); !errors.Is(r.Err, ErrNotPermitted) {
				t.Errorf("%s: got %v", scheme, r.Err)
			}
		}
		if len(p.asked) != 0 {
			t.Errorf("the proxy was asked for %q", p.asked)
		}
	}
}

func TestPermissionIsAskedWithinATunnelToo(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	for _, scheme := range []string{"http", "https", "socks5"} {
		p := newFakeProxy(t, scheme, server.Listener.Addr().String(), "")
		var permitted atomic.Bool
		permitted.Store(true)
		c := newClient(t, Options{Proxy: p.url(""), Resolver: fixed("93.184.216.34")})
		through, err := newProxy(p.url(""), c.dialer.resolver, direct(&net.Dialer{}, permitted.Load))
		if err != nil {
			t.Fatal(err)
		}
		through.tls.InsecureSkipVerify = true
		c.dialer.reach = through.reach
		if r := c.Send(t.Context(), newRequest(t, "http://hooks.example")); r.Err != nil {
			t.Fatalf("%s: got %v", scheme, r.Err)
		}
		permitted.Store(false)
		if r := c.Send(t.Context(), newRequest(t, "http://hooks.example")); !errors.Is(r.Err, ErrNotPermitted) {
			t.Errorf("%s: got %v", scheme, r.Err)
		}
		permitted.Store(true)
		if r := c.Send(t.Context(), newRequest(t, "http://hooks.example")); r.Err != nil {
			t.Errorf("%s: permitted again, got %v", scheme, r.Err)
		}
	}
}

func TestUnusableProxiesAreErrors(t *testing.T) {
	for _, text := range []string{"ftp://proxy.example", "socks4://proxy.example", "//proxy.example", "http://", "socks5://u:hunter2@:1080"} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(Options{Proxy: u}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", text, err)
		}
	}
}
