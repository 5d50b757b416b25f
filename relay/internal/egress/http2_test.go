package egress

import (
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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// serveHTTP2 serves h over TLS by HTTP/2 alone and counts the connections.
func serveHTTP2(t *testing.T, h http.HandlerFunc) (server *httptest.Server, connections *atomic.Int64) {
	t.Helper()
	connections = new(atomic.Int64)
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("a request came by %s", r.Proto)
		}
		h(w, r)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, connections
}

// insecure returns a request to address and what sends it without verifying.
func insecure(t *testing.T, c *Client, address string) *Request {
	t.Helper()
	how, err := c.Target(TLS{Insecure: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	q := newRequest(t, address)
	q.Target = how
	return q
}

func TestHTTP2SharesOneConnection(t *testing.T) {
	const n = 8
	arrived, all := make(chan struct{}, n), make(chan struct{})
	server, connections := serveHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/wait" {
			arrived <- struct{}{}
			<-all
		}
		_, _ = w.Write(append(body, bytes.Repeat([]byte("x"), 3*excerptBytes)...))
	})
	c := newClient(t, Options{Allow: loopback})
	if r := c.Send(t.Context(), insecure(t, c, server.URL)); r.Err != nil || r.Status != 200 || r.TLS <= 0 || !bytes.HasPrefix(r.Excerpt, []byte(`{"a":1}x`)) {
		t.Fatalf("got %+v", r)
	}
	var running sync.WaitGroup
	for range n {
		running.Go(func() {
			if r := c.Send(t.Context(), insecure(t, c, server.URL+"/wait")); r.Err != nil || len(r.Excerpt) != excerptBytes {
				t.Errorf("got %d bytes, %v", len(r.Excerpt), r.Err)
			}
		})
	}
	for range n {
		<-arrived
	}
	close(all)
	running.Wait()
	if connections.Load() != 1 {
		t.Errorf("%d connections, want 1", connections.Load())
	}
}

func TestHTTP2AnswersAreBounded(t *testing.T) {
	block := bytes.Repeat([]byte("x"), 1<<16)
	server, _ := serveHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless":
			for {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		case "/drip":
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, "x")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		case "/interim":
			w.Header().Set("X-A", strings.Repeat("x", 10_000))
			for r.Context().Err() == nil {
				w.WriteHeader(http.StatusEarlyHints)
			}
		case "/header":
			for i := range 200 {
				w.Header().Set("X-"+strings.Repeat("a", i+1), strings.Repeat("x", 1000))
			}
		case "/never":
			<-r.Context().Done()
		case "/reset":
			panic(http.ErrAbortHandler)
		}
	})
	tests := []struct{ path, want string }{
		{"/endless", ""},
		{"/drip", "no complete answer within 300ms"},
		{"/interim", "header"},
		{"/header", "PROTOCOL_ERROR"},
		{"/never", "no complete answer within 300ms"},
		{"/reset", "stream error"},
		{"/", ""},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			c := newClient(t, Options{Allow: loopback})
			q := insecure(t, c, server.URL+tt.path)
			if strings.Contains(tt.want, "300ms") {
				q.Timeout = 300 * time.Millisecond
			}
			r := c.Send(t.Context(), q)
			if (r.Err == nil) != (tt.want == "") || r.Err != nil && !strings.Contains(r.Err.Error(), tt.want) {
				t.Errorf("got %v, want %q", r.Err, tt.want)
			}
			if r.Total > q.Timeout+time.Second {
				t.Errorf("it took %s", r.Total)
			}
		})
	}
}

func TestLostPermissionEndsAllThatIsOnTheConnection(t *testing.T) {
	arrived := make(chan struct{})
	var refused atomic.Bool
	server, _ := serveHTTP2(t, func(_ http.ResponseWriter, r *http.Request) {
		if refused.Load() {
			t.Error("a request arrived without permission")
		}
		if r.URL.Path == "/first" {
			arrived <- struct{}{}
			<-r.Context().Done()
		}
	})
	var permitted atomic.Bool
	permitted.Store(true)
	c := newClient(t, Options{Allow: loopback, Permit: permitted.Load})
	first := make(chan Response)
	go func() { first <- c.Send(t.Context(), insecure(t, c, server.URL+"/first")) }()
	<-arrived
	permitted.Store(false)
	refused.Store(true)
	if r := c.Send(t.Context(), insecure(t, c, server.URL+"/second")); !errors.Is(r.Err, ErrNotPermitted) {
		t.Errorf("the second: got %v", r.Err)
	}
	if r := <-first; !errors.Is(r.Err, ErrNotPermitted) {
		t.Errorf("the first, which waited for its answer: got %v", r.Err)
	}
	refused.Store(false)
	permitted.Store(true)
	if r := c.Send(t.Context(), insecure(t, c, server.URL+"/third")); r.Err != nil {
		t.Errorf("permitted again: got %v", r.Err)
	}
}

// stallingConn swallows what is written while it is stalled, as if the cable
// was cut.
type stallingConn struct {
	net.Conn
	stalled *atomic.Bool
}

func (c *stallingConn) Write(p []byte) (int, error) {
	if c.stalled.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// pipes is a listener for connections that tests make.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error { close(p); return nil }

func (p pipes) Addr() net.Addr { return new(net.TCPAddr) }

// servePiped serves h to c by HTTP/2 in the bubble of a test, wherever c
// connects to, over connections that stall with stalled. It returns what ends
// it, and how many connections there were.
func servePiped(t *testing.T, c *Client, stalled *atomic.Bool, h http.HandlerFunc) (stop func(), connections *int) {
	t.Helper()
	listener := make(pipes)
	server := &http.Server{Handler: h, TLSConfig: &tls.Config{Certificates: []tls.Certificate{newCertificate(t, "server", nil, nil)}}}
	served := make(chan error)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	connections = new(int)
	c.dialer.reach = func(context.Context, netip.AddrPort) (net.Conn, error) {
		*connections++
		here, there := net.Pipe()
		listener <- there
		return &stallingConn{here, stalled}, nil
	}
	return func() {
		c.Close()
		_ = server.Close()
		<-served
	}, connections
}

func TestDeadHTTP2ConnectionIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Options{Resolver: fixed("93.184.216.34")})
		var stalled atomic.Bool
		stop, connections := servePiped(t, c, &stalled, func(http.ResponseWriter, *http.Request) {})
		defer stop()
		if r := c.Send(t.Context(), insecure(t, c, "https://hooks.example")); r.Err != nil || r.Status != 200 {
			t.Fatalf("got %+v", r)
		}
		stalled.Store(true)
		q := insecure(t, c, "https://hooks.example")
		q.Timeout = time.Minute
		r := c.Send(t.Context(), q)
		if r.Err == nil || r.Total > 20*time.Second {
			t.Errorf("got %v after %s, want that the connection is given up", r.Err, r.Total)
		}
		stalled.Store(false)
		if r := c.Send(t.Context(), insecure(t, c, "https://hooks.example")); r.Err != nil || *connections != 2 {
			t.Errorf("got %v and %d connections, want a new one", r.Err, *connections)
		}
	})
}

func TestHTTP2ServersCannotSendFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Options{Resolver: fixed("93.184.216.34")})
		sent := 0
		stop, _ := servePiped(t, c, new(atomic.Bool), func(w http.ResponseWriter, _ *http.Request) {
			block := bytes.Repeat([]byte("x"), 1<<12)
			for {
				n, err := w.Write(block)
				if sent += n; err != nil {
					return
				}
			}
		})
		defer stop()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://hooks.example", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := insecure(t, c, "https://hooks.example").Target.transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		synctest.Wait() // until the server cannot go on, since nobody reads
		if sent < excerptBytes || sent > 2*(excerptBytes+drainBytes) {
			t.Errorf("the server sent %d bytes ahead", sent)
		}
	})
}
