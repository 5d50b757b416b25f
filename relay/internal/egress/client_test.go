package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
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
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newRequest(t *testing.T, address string) *Request {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return &Request{Method: "POST", URL: u, Header: Header{{"Content-Type", "application/json"}, {"X-odd-Case", "1"}}, Body: []byte(`{"a":1}`), Timeout: 5 * time.Second}
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
	if r.Err != nil || r.Status != 201 || string(r.Excerpt) != "thanks" || r.Total <= 0 || r.DNS != 0 || r.Connect <= 0 || r.FirstByte <= 0 {
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

// TestRequestIsSentOnce has a receiver that takes a second request on a
// connection and hangs up: whether it acted on it nobody knows, so it is for the
// schedule to send it again.
func TestRequestIsSentOnce(t *testing.T) {
	for _, name := range []string{"Webhook-Id", "Idempotency-Key", "X-Idempotency-Key"} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.Header.Get(name) != "id" {
					t.Errorf("got %v", r.Header)
				}
				if requests.Add(1) == 2 {
					panic(http.ErrAbortHandler)
				}
			}))
			defer server.Close()
			c := newClient(t, Options{Allow: loopback})
			for n := range 2 {
				q := newRequest(t, server.URL)
				q.Header.Set(name, "id")
				if r := c.Send(t.Context(), q); (r.Err == nil) != (n == 0) {
					t.Errorf("request %d: got %+v", n+1, r)
				}
			}
			if got := requests.Load(); got != 2 {
				t.Errorf("%d requests arrived, want 2", got)
			}
		})
	}
}

// raw serves each connection by f, once a request's head is there, and ends
// with the test.
func raw(t *testing.T, f func(c net.Conn, stop <-chan struct{})) string {
	t.Helper()
	return "http://" + serveConns(t, func(c net.Conn, stop <-chan struct{}) {
		// A response before its request would be another error.
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			f(c, stop)
		}
	})
}

// serveConns serves one connection after the other by f and ends with the test.
func serveConns(t *testing.T, f func(c net.Conn, stop <-chan struct{})) (address string) {
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
			f(c, stop)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		close(stop)
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

// dripping serves head and then unit again and again.
func dripping(head, unit string) func(net.Conn, <-chan struct{}) {
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

func TestHostileAnswersEndWithinTheTimeout(t *testing.T) {
	tests := []struct {
		name  string
		serve func(net.Conn, <-chan struct{})
		want  string
	}{
		{"never answers", func(_ net.Conn, stop <-chan struct{}) { <-stop }, "no complete answer within 300ms"},
		{"drips its header", dripping("HTTP/1.1 200 OK\r\nX-A: ", "x"), "no complete answer within 300ms"},
		{"drips its body", dripping("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", "x"), "no complete answer within 300ms"},
		{"closes without an answer", func(net.Conn, <-chan struct{}) {}, "the connection was closed before the answer was complete"},
		{"closes within the body", func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
		}, "the connection was closed before the answer was complete"},
		{"resets the connection", func(c net.Conn, _ <-chan struct{}) { _ = c.(*net.TCPConn).SetLinger(0) }, "the connection was reset before the answer was complete"},
		{"resets within the body", func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
			_ = c.(*net.TCPConn).SetLinger(0)
		}, "the connection was reset before the answer was complete"},
		{"sends an invalid chunk", func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhunter2\r\n")
		}, "read body: invalid byte in chunk length"},
		{"ends within a chunk", func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
		}, "the connection was closed before the answer was complete"},
		{"drips chunks", dripping("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"), "no complete answer within 300ms"},
		{"drips trailers", dripping("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: ", "x"), "no complete answer within 300ms"},
		{"drips interim answers", dripping("", "HTTP/1.1 100 Continue\r\n\r\n"), "no complete answer within 300ms"},
		{"sends interim answers without end", dripping("", strings.Repeat("HTTP/1.1 103 Early Hints\r\nX-A: hunter2\r\n\r\n", 3000)), "server response headers exceeded 65536 bytes"},
		{"sends two lengths", func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc")
		}, "message cannot contain multiple Content-Length headers; got"},
		{"echoes into its status line", func(c net.Conn, _ <-chan struct{}) { _, _ = io.WriteString(c, "Bearer hunter2\r\n\r\n") }, "malformed HTTP status code"},
		{"echoes into its header", func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nBearer hunter2\r\n\r\n")
		}, "the answer's header is not valid HTTP"},
		{"sends a huge header", dripping("HTTP/1.1 200 OK\r\nX-A: ", strings.Repeat("x", 100_000)), "header"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := newRequest(t, raw(t, tt.serve))
			if strings.Contains(tt.want, "300ms") {
				q.Timeout = 300 * time.Millisecond
			}
			r := newClient(t, Options{Allow: loopback}).Send(t.Context(), q)
			if r.Err == nil || !strings.Contains(r.Err.Error(), tt.want) || strings.Contains(r.Err.Error(), "hunter2") ||
				strings.Contains(r.Err.Error(), "http: ") || strings.Contains(r.Err.Error(), "net/") || strings.Contains(r.Err.Error(), "; aborted") {
				t.Errorf("got %v, want %q", r.Err, tt.want)
			}
			if r.Total > q.Timeout+time.Second {
				t.Errorf("it took %s", r.Total)
			}
		})
	}
}

func TestOddButCompleteAnswersAreAnswers(t *testing.T) {
	tests := []struct {
		name, answer, excerpt string
		status                int
	}{
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", "", 204},
		{"interim answers first", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 10) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", 200},
		{"a body to the end of the connection", "HTTP/1.0 200 OK\r\n\r\nok", "ok", 200},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\nX-A: b\r\n\r\n", "ok", 200},
		{"compressed although not asked for", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", "ok", 200},
		{"a redirect to cloud metadata", "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n", "", 302},
		{"an unknown status", "HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n", "", 799},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			address := raw(t, func(c net.Conn, _ <-chan struct{}) { _, _ = io.WriteString(c, tt.answer) })
			r := newClient(t, Options{Allow: loopback}).Send(t.Context(), newRequest(t, address))
			if r.Err != nil || r.Status != tt.status || string(r.Excerpt) != tt.excerpt {
				t.Errorf("got %d %q, %v", r.Status, r.Excerpt, r.Err)
			}
		})
	}
}

func TestSwitchingProtocolsHoldsNothing(t *testing.T) {
	address := raw(t, func(c net.Conn, stop <-chan struct{}) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		<-stop
	})
	r := newClient(t, Options{Allow: loopback}).Send(t.Context(), newRequest(t, address))
	if r.Err != nil || r.Status != 101 || r.Total > time.Second {
		t.Errorf("got %+v", r)
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

func TestBlockedAddressIsAClearError(t *testing.T) {
	r := newClient(t, Options{}).Send(t.Context(), newRequest(t, "http://user:hunter2@127.0.0.1:9/"))
	if r.Err == nil || r.Err.Error() != "address 127.0.0.1 is blocked: it is not a public address and egress.allow does not hold it" {
		t.Errorf("got %v", r.Err)
	}
}

func TestEveryFailureHasAKind(t *testing.T) {
	hangUp := raw(t, func(net.Conn, <-chan struct{}) {})
	plain := httptest.NewUnstartedServer(http.NotFoundHandler())
	plain.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are none
	plain.Start()
	defer plain.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for name, tt := range map[string]struct{ url, want string }{
		"an address that is not allowed": {"http://10.0.0.1/", "blocked"},
		"a host that is none":            {"http://0x7f.1/", "resolve"},
		"nobody listens":                 {"http://" + closed.Addr().String(), "connect"},
		"no TLS":                         {strings.Replace(hangUp, "http", "https", 1), "closed"},
		"no answer":                      {hangUp, "closed"},
		"an answer that takes too long":  {raw(t, func(_ net.Conn, stop <-chan struct{}) { <-stop }), "timeout"},
		"an answer in plain HTTP":        {strings.Replace(plain.URL, "http", "https", 1), "tls"},
		"an answer that is no HTTP":      {raw(t, func(c net.Conn, _ <-chan struct{}) { _, _ = io.WriteString(c, "hello\r\n\r\n") }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			q := newRequest(t, tt.url)
			q.Timeout = 300 * time.Millisecond
			r := newClient(t, Options{Allow: loopback}).Send(t.Context(), q)
			if got := Kind(r.Err); got != tt.want || r.Err == nil {
				t.Errorf("got %q for %v, want %q", got, r.Err, tt.want)
			}
		})
	}
	if got := Kind(nil); got != "" {
		t.Errorf("of no error: got %q", got)
	}
}

func TestTheURLsUserIsNotWrittenIntoTheRequest(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	q := newRequest(t, strings.Replace(server.URL, "http://", "http://u:p@", 1))
	if r := newClient(t, Options{Allow: loopback}).Send(t.Context(), q); r.Err != nil || q.Header.Get("Authorization") != "" {
		t.Errorf("got %v, %v", r.Err, q.Header)
	}
	q.Header = nil
	if r := newClient(t, Options{Allow: loopback}).Send(t.Context(), q); r.Err != nil {
		t.Errorf("without a header: %v", r.Err)
	}
}

func TestTargetsOfOneTLSShareATransport(t *testing.T) {
	c := newClient(t, Options{})
	authority := newAuthority(t, "first", nil, nil)
	file := caFile(t, authority.cert)
	transport := func(s TLS) http.RoundTripper {
		t.Helper()
		target, err := c.Target(s, BearerAuth("t"))
		if err != nil {
			t.Fatal(err)
		}
		return target.transport
	}
	if transport(TLS{}) != c.standard.transport || transport(TLS{MinVersion: tls.VersionTLS12}) != c.standard.transport {
		t.Error("the default TLS has two transports")
	}
	private := transport(TLS{CAFile: file})
	if private == c.standard.transport || transport(TLS{CAFile: file}) != private || transport(TLS{CAFile: file, ServerName: "other.example"}) == private {
		t.Error("a TLS does not have exactly one transport")
	}
	next, err := os.ReadFile(caFile(t, newAuthority(t, "second", nil, nil).cert))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, next, 0o600); err != nil {
		t.Fatal(err)
	}
	if transport(TLS{CAFile: file}) == private {
		t.Error("a CA file that was replaced is not read")
	}
	if _, err := c.Target(TLS{CAFile: file + "x"}, nil); err == nil {
		t.Error("a CA file that is missing is no error")
	}
}

func TestPermissionIsAskedForEveryRequest(t *testing.T) {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests++ }))
	defer server.Close()
	permitted := true
	c := newClient(t, Options{Allow: loopback, Permit: func() bool { return permitted }})
	for i := range 3 {
		permitted = i != 1
		if r := c.Send(t.Context(), newRequest(t, server.URL)); errors.Is(r.Err, ErrNotPermitted) == permitted || permitted && r.Err != nil {
			t.Errorf("permitted %t: got %v", permitted, r.Err)
		}
	}
	if requests != 2 {
		t.Errorf("%d requests, want 2", requests)
	}
}

func TestCancelledAttemptEndsAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	address := raw(t, func(_ net.Conn, stop <-chan struct{}) {
		cancel()
		<-stop
	})
	r := newClient(t, Options{Allow: loopback}).Send(ctx, newRequest(t, address))
	if !errors.Is(r.Err, context.Canceled) || r.Total > time.Second {
		t.Errorf("got %v after %s", r.Err, r.Total)
	}
}
