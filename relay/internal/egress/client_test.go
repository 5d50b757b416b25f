package egress

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func newClient(t *testing.T, o Options) *Client {
	t.Helper()
	if o.Permit == nil {
		o.Permit = func() bool { return true }
	}
	c := New(o)
	t.Cleanup(c.Close)
	return c
}

func newRequest(t *testing.T, address string) *Request {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return &Request{Method: "POST", URL: u, Header: http.Header{"Content-Type": {"application/json"}, "X-odd-Case": {"1"}}, Body: []byte(`{"a":1}`), Timeout: 5 * time.Second}
}

func TestRequestArrivesAsItIs(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		if err != nil || string(body) != `{"a":1}` || r.ContentLength != 7 || r.Header.Get("X-Odd-Case") != "1" || r.Header.Get("Accept-Encoding") != "" || user != "u" || password != "p" {
			t.Errorf("got %q, %v, %v, %s:%s", body, err, r.Header, user, password)
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte("thanks"))
	}))
	defer server.Close()
	q := newRequest(t, strings.Replace(server.URL, "http://", "http://u:p@", 1))
	r := newClient(t, Options{Allow: loopback}).Send(t.Context(), q)
	if r.Err != nil || r.Status != 201 || string(r.Excerpt) != "thanks" || r.Total <= 0 || r.Connect <= 0 || r.FirstByte <= 0 {
		t.Errorf("got %+v", r)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			t.Error("the redirect was followed")
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	r := newClient(t, Options{Allow: loopback}).Send(t.Context(), newRequest(t, server.URL))
	if r.Err != nil || r.Status != 307 {
		t.Errorf("got %+v", r)
	}
}

func TestConnectionIsUsedAgain(t *testing.T) {
	connections := 0
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("x"), 3*excerptBytes))
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections++
		}
	}
	server.Start()
	defer server.Close()
	c := newClient(t, Options{Allow: loopback})
	for range 3 {
		if r := c.Send(t.Context(), newRequest(t, server.URL)); r.Err != nil || len(r.Excerpt) != excerptBytes {
			t.Errorf("got %d bytes, %v", len(r.Excerpt), r.Err)
		}
	}
	if connections != 1 {
		t.Errorf("%d connections, want 1", connections)
	}
}

// raw serves each connection by f and ends with the test.
func raw(t *testing.T, f func(c net.Conn, stop <-chan struct{})) string {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			// A response before its request would be another error.
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				f(c, stop)
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		close(stop)
		_ = listener.Close()
		<-done
	})
	return "http://" + listener.Addr().String()
}

func TestHostileAnswersEndWithinTheTimeout(t *testing.T) {
	drip := func(head, unit string) func(net.Conn, <-chan struct{}) {
		return func(c net.Conn, stop <-chan struct{}) {
			_, _ = io.WriteString(c, head)
			ticker := time.NewTicker(20 * time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-ticker.C:
				case <-stop:
					return
				}
				if _, err := io.WriteString(c, unit); err != nil {
					return
				}
			}
		}
	}
	tests := []struct {
		name  string
		serve func(net.Conn, <-chan struct{})
		want  string
	}{
		{"never answers", func(_ net.Conn, stop <-chan struct{}) { <-stop }, "no complete answer within 300ms"},
		{"drips its header", drip("HTTP/1.1 200 OK\r\nX-A: ", "x"), "no complete answer within 300ms"},
		{"drips its body", drip("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", "x"), "no complete answer within 300ms"},
		{"closes without an answer", func(net.Conn, <-chan struct{}) {}, "the connection was closed before the answer was complete"},
		{"closes within the body", func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
		}, "the connection was closed before the answer was complete"},
		{"sends a huge header", drip("HTTP/1.1 200 OK\r\nX-A: ", strings.Repeat("x", 100_000)), "header"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := newRequest(t, raw(t, tt.serve))
			q.Timeout = 300 * time.Millisecond
			r := newClient(t, Options{Allow: loopback}).Send(t.Context(), q)
			if r.Err == nil || !strings.Contains(r.Err.Error(), tt.want) {
				t.Errorf("got %v, want %q", r.Err, tt.want)
			}
			if r.Total > q.Timeout+time.Second {
				t.Errorf("it took %s", r.Total)
			}
		})
	}
}

func TestEndlessBodyIsReadToABound(t *testing.T) {
	address := raw(t, func(c net.Conn, _ <-chan struct{}) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		chunk := bytes.Repeat([]byte("x"), 1<<16)
		for {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	})
	r := newClient(t, Options{Allow: loopback}).Send(t.Context(), newRequest(t, address))
	if r.Err != nil || r.Status != 200 || len(r.Excerpt) != excerptBytes {
		t.Errorf("got %d, %d bytes, %v", r.Status, len(r.Excerpt), r.Err)
	}
}

func TestNothingIsSentWithoutPermission(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
	defer server.Close()
	for _, scheme := range []string{"http", "https"} {
		q := newRequest(t, strings.Replace(server.URL, "http", scheme, 1))
		r := newClient(t, Options{Allow: loopback, Permit: func() bool { return false }}).Send(t.Context(), q)
		if !errors.Is(r.Err, ErrNotPermitted) {
			t.Errorf("%s: got %+v", scheme, r)
		}
	}
}

func TestGuard(t *testing.T) {
	prefix := netip.MustParsePrefix
	tests := []struct {
		address string
		options Options
		allowed bool
	}{
		{"93.184.216.34:443", Options{}, true},
		{"[2606:2800:220:1:248:1893:25c8:1946]:443", Options{}, true},
		{"127.0.0.1:80", Options{}, false},
		{"127.0.0.1:80", Options{Allow: loopback}, true},
		{"127.0.0.1:80", Options{Allow: loopback, Deny: []netip.Prefix{prefix("127.0.0.1/32")}}, false},
		{"10.1.2.3:80", Options{}, false},
		{"10.1.2.3:80", Options{Allow: []netip.Prefix{prefix("10.0.0.0/8")}}, true},
		{"192.168.1.1:80", Options{}, false},
		{"172.16.0.1:80", Options{}, false},
		{"100.64.0.1:80", Options{}, false},
		{"169.254.1.1:80", Options{}, false},
		{"169.254.169.254:80", Options{Allow: []netip.Prefix{prefix("0.0.0.0/0")}}, false},
		{"[fd00:ec2::254]:80", Options{Allow: []netip.Prefix{prefix("::/0")}}, false},
		{"[::1]:80", Options{}, false},
		{"[::1]:80", Options{Allow: []netip.Prefix{prefix("::1/128")}}, true},
		{"[::ffff:127.0.0.1]:80", Options{}, false},
		{"[::ffff:169.254.169.254]:80", Options{Allow: []netip.Prefix{prefix("::/0"), prefix("0.0.0.0/0")}}, false},
		{"[fe80::1%eth0]:80", Options{}, false},
		{"0.0.0.0:80", Options{}, false},
		{"224.0.0.1:80", Options{}, false},
		{"93.184.216.34:443", Options{Deny: []netip.Prefix{prefix("93.0.0.0/8")}}, false},
	}
	for _, tt := range tests {
		network := "tcp4"
		if strings.HasPrefix(tt.address, "[") {
			network = "tcp6"
		}
		err := newGuard(tt.options.Allow, tt.options.Deny).control(network, tt.address, nil)
		var blocked *BlockedError
		if (err == nil) != tt.allowed || err != nil && !errors.As(err, &blocked) {
			t.Errorf("%s with %+v: got %v, allowed should be %t", tt.address, tt.options, err, tt.allowed)
		}
	}
}

func TestBlockedAddressIsAClearError(t *testing.T) {
	r := newClient(t, Options{}).Send(t.Context(), newRequest(t, "http://user:hunter2@127.0.0.1:9/"))
	if r.Err == nil || r.Err.Error() != "address 127.0.0.1 is blocked: it is not a public address and egress.allow does not hold it" {
		t.Errorf("got %v", r.Err)
	}
}
