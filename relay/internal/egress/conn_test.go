package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// idleConn returns the idle connection of c, which has one.
func idleConn(t *testing.T, c *Client) *conn {
	t.Helper()
	c.idle.mu.Lock()
	defer c.idle.mu.Unlock()
	for _, all := range c.idle.idle {
		if len(all) == 1 {
			return all[0]
		}
	}
	t.Fatal("there is no idle connection")
	return nil
}

// waitPending returns when something has arrived on an idle connection.
func waitPending(t *testing.T, c *conn) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !c.socket.pending(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing arrives")
		}
	}
}

// TestConnectionThatWasGivenUpIsNotUsed has receivers that do something to a
// connection after an answer that promised to keep it.
func TestConnectionThatWasGivenUpIsNotUsed(t *testing.T) {
	certificate := newCertificate(t, "server", nil, nil)
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nasked"
	tests := []struct {
		name string
		then func(net.Conn)
	}{
		{"closed", func(c net.Conn) { _ = c.Close() }},
		{"reset", func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); _ = c.Close() }},
		{"an answer that nobody asked for", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nunasked")
		}},
		{"closed by TLS alone", func(c net.Conn) { _ = c.(*tls.Conn).CloseWrite() }},
		{"closed by TLS", func(c net.Conn) { _ = c.Close() }},
		{"an answer by TLS that nobody asked for", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nunasked")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			scheme := "http://"
			if strings.Contains(tt.name, "TLS") {
				scheme = "https://"
			}
			var conns atomic.Int64
			next := make(chan struct{})
			address := serveConns(t, func(c net.Conn, stop <-chan struct{}) {
				conns.Add(1)
				if scheme == "https://" {
					c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
				}
				if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
					return
				}
				_, _ = io.WriteString(c, strings.TrimSuffix(answer, "d"))
				select {
				case <-next:
					tt.then(c)
				case <-stop:
				}
			})
			c := newClient(t, Options{Allow: loopback})
			for n := range int64(3) {
				r := c.Send(t.Context(), insecure(t, c, scheme+address))
				if r.Err != nil || string(r.Excerpt) != "aske" || conns.Load() != n+1 {
					t.Fatalf("request %d: got %+v over %d connections", n+1, r, conns.Load())
				}
				idle := idleConn(t, c)
				next <- struct{}{}
				waitPending(t, idle)
			}
		})
	}
}

func TestTicketsDoNotCostTheConnection(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert} // whose answer the tickets wait for
	server.StartTLS()
	defer server.Close()
	c := newClient(t, Options{Allow: loopback})
	q := insecure(t, c, server.URL)
	q.Target.transport.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1) // not every server asks whether we want any
	a := begin(t.Context(), 10*time.Second)
	defer a.end()
	fresh, err := q.Target.transport.connect(a, place{q.Target.transport, "https", server.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	waitPending(t, fresh) // the handshake's tickets: nothing was read since
	if fresh.stale() {
		t.Error("it is taken for closed")
	}
	c.idle.put(fresh)
	if r := c.Send(t.Context(), q); r.Err != nil || r.Connect != 0 {
		t.Errorf("got %+v, want an answer over the same connection", r)
	}
}

// brittle is a connection whose writes fail when it says so.
type brittle struct {
	net.Conn
	fail func() (n int, err error)
}

func (c *brittle) Write(p []byte) (int, error) {
	if n, err := c.fail(); err != nil {
		return n, err
	}
	return c.Conn.Write(p)
}

func TestOnlyWhatWasNotWrittenIsSentAgain(t *testing.T) {
	tests := []struct {
		name        string
		fails       int64 // which write
		n           int
		err         error
		want        string
		conns, sent int64
	}{
		{"nothing of the second was written", 2, 0, syscall.EPIPE, "", 2, 3},
		{"nothing of it, by a reset", 2, 0, syscall.ECONNRESET, "", 2, 3},
		{"a part of the second was written", 2, 1, syscall.EPIPE, "the connection was reset before the answer was complete", 2, 2},
		{"nothing of the first was written", 1, 0, syscall.EPIPE, "the connection was reset before the answer was complete", 2, 2},
		{"nothing of it was permitted", 2, 0, ErrNotPermitted, ErrNotPermitted.Error(), 2, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var requests, writes, conns atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
			defer server.Close()
			c := newClient(t, Options{Allow: loopback})
			reach := c.dialer.reach
			c.dialer.reach = func(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
				conns.Add(1)
				raw, err := reach(ctx, target)
				return &brittle{raw, func() (int, error) {
					if writes.Add(1) == tt.fails {
						_ = raw.(*permittedConn).Conn.(*net.TCPConn).CloseWrite()
						return tt.n, tt.err
					}
					return 0, nil
				}}, err
			}
			for n := range int64(3) {
				r := c.Send(t.Context(), newRequest(t, server.URL))
				if failed := n+1 == tt.fails && tt.want != ""; failed != (r.Err != nil) || failed && r.Err.Error() != tt.want {
					t.Errorf("request %d: got %v", n+1, r.Err)
				}
			}
			if conns.Load() != tt.conns || requests.Load() != tt.sent {
				t.Errorf("%d requests over %d connections, want %d over %d", requests.Load(), conns.Load(), tt.sent, tt.conns)
			}
		})
	}
}

// TestEarlyAnswersAreAnswers has receivers that answer before they read a body
// that no buffer holds.
func TestEarlyAnswersAreAnswers(t *testing.T) {
	const answer = "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
	for _, scheme := range []string{"http", "https"} {
		for name, then := range map[string]func(stop <-chan struct{}){"closes": func(<-chan struct{}) {}, "reads nothing": func(stop <-chan struct{}) { <-stop }} {
			t.Run(scheme+", "+name, func(t *testing.T) {
				certificate := newCertificate(t, "server", nil, nil)
				address := serveConns(t, func(c net.Conn, stop <-chan struct{}) {
					if scheme == "https" {
						c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
					}
					if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
						_, _ = io.WriteString(c, answer)
						then(stop)
					}
				})
				c := newClient(t, Options{Allow: loopback})
				q := insecure(t, c, scheme+"://"+address)
				q.Body = make([]byte, 32<<20)
				if r := c.Send(t.Context(), q); r.Err != nil || r.Status != 413 || string(r.Excerpt) != "big" {
					t.Errorf("got %d %q, %v", r.Status, r.Excerpt, r.Err)
				}
			})
		}
	}
}

func TestBodiesOfAllSizesArriveOverOneConnection(t *testing.T) {
	var conns atomic.Int64
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			conns.Store(0)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				for i := range body {
					if body[i] != byte(i/1000) {
						t.Errorf("byte %d is %d", i, body[i])
						break
					}
				}
				fmt.Fprint(w, len(body))
			}))
			server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				if s == http.StateNew {
					conns.Add(1)
				}
			}
			if scheme == "https" {
				server.StartTLS()
			} else {
				server.Start()
			}
			defer server.Close()
			c := newClient(t, Options{Allow: loopback})
			for _, size := range []int{0, 1, inlineBytes - 1, inlineBytes, inlineBytes + 1, 64 << 10, 1 << 20, 5} {
				q := insecure(t, c, server.URL)
				q.Body = make([]byte, size)
				for i := range q.Body {
					q.Body[i] = byte(i / 1000)
				}
				if r := c.Send(t.Context(), q); r.Err != nil || string(r.Excerpt) != fmt.Sprint(size) {
					t.Errorf("%d bytes: got %q, %v", size, r.Excerpt, r.Err)
				}
			}
			if conns.Load() != 1 {
				t.Errorf("%d connections, want 1", conns.Load())
			}
		})
	}
}

func TestPermissionIsAskedForEveryPartOfABody(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); err == nil {
			t.Errorf("all of the body arrived: %d bytes", n)
		}
	}))
	defer server.Close()
	var asked atomic.Int64
	c := newClient(t, Options{Allow: loopback, Permit: func() bool { return asked.Add(1) == 1 }})
	q := newRequest(t, server.URL)
	q.Body = make([]byte, 1<<20)
	if r := c.Send(t.Context(), q); !errors.Is(r.Err, ErrNotPermitted) {
		t.Errorf("got %+v", r)
	}
}

func TestEndOfOneSessionLeavesTheNextAlone(t *testing.T) {
	arrived, answer := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			arrived <- struct{}{}
			<-answer
		}
	}))
	defer server.Close()
	c := newClient(t, Options{Allow: loopback})
	first, endFirst := context.WithCancelCause(t.Context())
	second, endSecond := context.WithCancelCause(t.Context())
	if r := c.Send(first, newRequest(t, server.URL)); r.Err != nil {
		t.Fatal(r.Err)
	}
	done := make(chan Response)
	go func() { done <- c.Send(second, newRequest(t, server.URL+"/wait")) }()
	<-arrived
	endFirst(errors.New("the first session ended"))
	answer <- struct{}{}
	if r := <-done; r.Err != nil || r.Connect != 0 {
		t.Errorf("got %+v, want an answer over the same connection", r)
	}
	ended := errors.New("the second session ended")
	go func() { done <- c.Send(second, newRequest(t, server.URL+"/wait")) }()
	<-arrived
	endSecond(ended)
	if r := <-done; !errors.Is(r.Err, ended) || r.Connect != 0 {
		t.Errorf("got %+v, want that it ends with its session", r)
	}
	answer <- struct{}{}
	if r := c.Send(second, newRequest(t, server.URL)); !errors.Is(r.Err, ended) {
		t.Errorf("got %+v after the session", r)
	}
}

func TestSessionThatEndsFirstOverIdleConnection(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	c := newClient(t, Options{Allow: loopback})
	ctx, cancel := context.WithCancel(t.Context())
	if r := c.Send(ctx, newRequest(t, server.URL)); r.Err != nil {
		t.Fatal(r.Err)
	}
	cancel()
	if r := c.Send(ctx, newRequest(t, server.URL)); !errors.Is(r.Err, context.Canceled) {
		t.Errorf("got %v", r.Err)
	}
	if r := c.Send(context.WithoutCancel(t.Context()), newRequest(t, server.URL)); r.Err != nil {
		t.Errorf("of a context without end: got %v", r.Err)
	}
	if r := c.Send(t.Context(), newRequest(t, server.URL)); r.Err != nil || r.Connect != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestContextThatEndsBeforeTheTimeout(t *testing.T) {
	requests := 0
	address := raw(t, func(c net.Conn, stop <-chan struct{}) {
		if requests++; requests == 1 {
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
		<-stop
	})
	c := newClient(t, Options{Allow: loopback})
	if r := c.Send(t.Context(), newRequest(t, address)); r.Err != nil {
		t.Fatal(r.Err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if r := c.Send(ctx, newRequest(t, address)); !errors.Is(r.Err, context.DeadlineExceeded) {
		t.Errorf("got %v", r.Err)
	}
}

func TestConnectionsOfIncompleteAnswersAreNotKept(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + strings.Repeat("x", 5000),
		"HTTP/1.1 200 OK\r\nX: ",
	} {
		t.Run(answer[:min(len(answer), 60)], func(t *testing.T) {
			address := raw(t, func(c net.Conn, stop <-chan struct{}) { _, _ = io.WriteString(c, answer); <-stop })
			c := newClient(t, Options{Allow: loopback})
			q := newRequest(t, address)
			q.Timeout = 100 * time.Millisecond
			if r := c.Send(t.Context(), q); r.Err == nil || len(c.idle.idle) > 0 {
				t.Errorf("got %+v, kept: %t", r, len(c.idle.idle) > 0)
			}
		})
	}
}

// pipedServer answers requests to wherever c connects to, in the bubble of a
// test. It returns what ends it, and how many connections are open.
func pipedServer(c *Client) (stop func(), open *atomic.Int64) {
	var running sync.WaitGroup
	open = new(atomic.Int64)
	c.dialer.reach = func(context.Context, netip.AddrPort) (net.Conn, error) {
		here, there := net.Pipe()
		open.Add(1)
		running.Go(func() {
			defer open.Add(-1)
			in := bufio.NewReader(there)
			for {
				req, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				time.Sleep(time.Second)
				if _, err := io.WriteString(there, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
					return
				}
			}
		})
		return here, nil
	}
	return func() { c.Close(); running.Wait() }, open
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Options{Resolver: fixed("93.184.216.34")})
		stop, open := pipedServer(c)
		defer stop()
		send := func(n int) {
			t.Helper()
			var running sync.WaitGroup
			for range n {
				running.Go(func() {
					if r := c.Send(t.Context(), newRequest(t, "http://hooks.example")); r.Err != nil {
						t.Error(r.Err)
					}
				})
			}
			running.Wait()
		}
		want := func(n int64) {
			t.Helper()
			synctest.Wait()
			if open.Load() != n {
				t.Errorf("%d connections are open, want %d", open.Load(), n)
			}
		}
		send(3)
		want(3)
		time.Sleep(idleTimeout - 10*time.Second)
		send(1) // over one of them
		want(3)
		time.Sleep(10 * time.Second)
		want(1) // the two that nobody used
		for range 5 {
			time.Sleep(idleTimeout - 10*time.Second)
			send(1)
			want(1)
		}
		time.Sleep(idleTimeout)
		want(0)
		if c.idle.sweep != nil || len(c.idle.idle) > 0 {
			t.Errorf("something is left of %v", c.idle.idle)
		}
		send(2)
		want(2)
		c.Close()
		want(0)
		send(1) // and kept no longer
		want(0)
	})
}

func TestConnectionsOfAReplacedAuthorityAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Options{Resolver: fixed("93.184.216.34")})
		stop, open := pipedServer(c)
		defer stop()
		other, err := c.Target(TLS{MinVersion: tls.VersionTLS13}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range []*Target{nil, other} {
			q := newRequest(t, "http://hooks.example")
			q.Target = target
			if r := c.Send(t.Context(), q); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		c.idle.drop(other.transport)
		synctest.Wait()
		if open.Load() != 1 {
			t.Errorf("%d connections are open, want that of the other TLS", open.Load())
		}
	})
}

func TestHostThatChangesItsProtocol(t *testing.T) {
	serve := func(http2 bool) *httptest.Server {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
		server.EnableHTTP2 = http2
		server.StartTLS()
		t.Cleanup(server.Close)
		return server
	}
	one, two := serve(false), serve(true)
	now := one
	c := newClient(t, Options{Resolver: fixed("93.184.216.34")})
	var dials int
	c.dialer.reach = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
		dials++
		return (&net.Dialer{}).DialContext(ctx, "tcp", now.Listener.Addr().String())
	}
	q := insecure(t, c, "https://hooks.example")
	change := func(server *httptest.Server) {
		now.CloseClientConnections()
		q.Target.transport.CloseIdleConnections()
		c.idle.drop(q.Target.transport)
		now = server
	}
	send := func(want string, lean bool, all int) {
		t.Helper()
		r := c.Send(t.Context(), q)
		if kept := len(c.idle.idle) > 0; r.Err != nil || string(r.Excerpt) != want || kept != lean || dials != all {
			t.Errorf("got %q, %v, kept here: %t, after %d connects", r.Excerpt, r.Err, kept, dials)
		}
	}
	send("HTTP/1.1", true, 1)
	change(two)
	send("HTTP/2.0", false, 2) // not one connect more
	send("HTTP/2.0", false, 2)
	change(one)
	send("HTTP/1.1", false, 3) // by net/http, which made the connection
	send("HTTP/1.1", true, 4)
	send("HTTP/1.1", true, 4)
}

func TestKnownProtocolsAreBounded(t *testing.T) {
	server, _ := serveHTTP2(t, func(http.ResponseWriter, *http.Request) {})
	c := newClient(t, Options{Allow: loopback})
	q := insecure(t, c, server.URL)
	for i := range maxHTTP2 {
		q.Target.transport.http2[fmt.Sprint(i)] = struct{}{}
	}
	for range 2 {
		if r := c.Send(t.Context(), q); r.Err != nil {
			t.Error(r.Err)
		}
	}
	if n := len(q.Target.transport.http2); n != 1 || !q.Target.transport.speaksHTTP2(server.Listener.Addr().String()) {
		t.Errorf("%d addresses are known", n)
	}
}

func TestFirstRequestsBySeveralAttemptsOverHTTP2(t *testing.T) {
	server, _ := serveHTTP2(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	c := newClient(t, Options{Allow: loopback})
	var running sync.WaitGroup
	for range 16 {
		running.Go(func() {
			if r := c.Send(t.Context(), insecure(t, c, server.URL)); r.Err != nil || string(r.Excerpt) != `{"a":1}` {
				t.Errorf("got %q, %v", r.Excerpt, r.Err)
			}
		})
	}
	running.Wait()
}

// segment gathers what is written while it is open, for one write.
type segment struct {
	net.Conn
	open bool
	text bytes.Buffer
}

func (s *segment) Write(p []byte) (int, error) {
	if s.open {
		return s.text.Write(p)
	}
	return s.Conn.Write(p)
}

func (s *segment) send() {
	s.open = false
	_ = s.SetWriteDeadline(time.Time{}) // TLS's own end sets one
	_, _ = s.Conn.Write(s.text.Bytes()) // the client sees what is missing
	s.text.Reset()
}

// What came in one segment with the answer is in TLS's own buffers, not in the
// socket, when the next attempt looks.
func TestWhatFollowsAnAnswerOverTLSEndsTheConnection(t *testing.T) {
	certificate := newCertificate(t, "server", nil, nil)
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nasked"
	tests := map[string]func(c *tls.Conn) error{
		"another answer": func(c *tls.Conn) error {
			_, err := io.WriteString(c, answer)
			_, err2 := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nunasked")
			return errors.Join(err, err2)
		},
		"a body where there is none": func(c *tls.Conn) error {
			_, err := io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			_, err2 := io.WriteString(c, `{"ok":true}`)
			return errors.Join(err, err2)
		},
		"the end": func(c *tls.Conn) error {
			_, err := io.WriteString(c, answer)
			return errors.Join(err, c.CloseWrite())
		},
	}
	for name, reply := range tests {
		t.Run(name, func(t *testing.T) {
			address := serveConns(t, func(raw net.Conn, _ <-chan struct{}) {
				s := &segment{Conn: raw}
				c := tls.Server(s, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
				for in := bufio.NewReader(c); ; {
					q, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, q.Body) // it is empty
					s.open = true
					if err := reply(c); err != nil {
						t.Error(err)
					}
					s.send()
				}
			})
			c := newClient(t, Options{Allow: loopback})
			q := insecure(t, c, "https://"+address)
			for n := range 3 {
				r := c.Send(t.Context(), q)
				if r.Err != nil || string(r.Excerpt) != "asked" && r.Status != http.StatusNoContent || r.TLS == 0 {
					t.Errorf("request %d got %d %q, %v, over a connection of its own: %t", n, r.Status, r.Excerpt, r.Err, r.TLS != 0)
				}
			}
		})
	}
}
