package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// hostility is a way to answer a request that a receiver should not have, or
// one that looks odd and is right. All are at one address, and each request has
// a connection of its own: complete answers announce that it is closed.
type hostility struct {
	answer func(c net.Conn, stop <-chan struct{})
	status int    // that the ledger is to tell; 0 for none
	err    string // part of what it is to tell; "" for whatever fits status
}

// drip sends head and then unit each second until the other side hangs up.
func drip(head, unit string) func(net.Conn, <-chan struct{}) {
	return func(c net.Conn, stop <-chan struct{}) {
		_, _ = io.WriteString(c, head)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			if _, err := io.WriteString(c, unit); err != nil {
				return
			}
			select {
			case <-ticker.C:
			case <-stop:
				return
			}
		}
	}
}

func text(answer string) func(net.Conn, <-chan struct{}) {
	return func(c net.Conn, _ <-chan struct{}) { _, _ = io.WriteString(c, answer) }
}

const gigabyte = 1 << 30

var hostilities = map[string]hostility{
	"drips-header":  {drip("HTTP/1.1 200 OK\r\nX-Slow: ", "x"), 0, "no complete answer within 2s"},
	"drips-body":    {drip("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", "x"), 200, "no complete answer within 2s"},
	"drips-chunks":  {drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"), 200, "no complete answer within 2s"},
	"never-answers": {func(_ net.Conn, stop <-chan struct{}) { <-stop }, 0, "no complete answer within 2s"},
	"gigabyte": {func(c net.Conn, _ <-chan struct{}) {
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", gigabyte)
		chunk := bytes.Repeat([]byte("x"), 1<<20)
		for range gigabyte / len(chunk) {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}, 200, ""},
	"gigabyte-header": {func(c net.Conn, _ <-chan struct{}) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Large: ")
		chunk := bytes.Repeat([]byte("x"), 1<<20)
		for range gigabyte / len(chunk) {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}, 0, "header"},
	"resets": {func(c net.Conn, _ <-chan struct{}) {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}, 0, "connection"},
	"closes":        {func(net.Conn, <-chan struct{}) {}, 0, "the connection was closed before the answer was complete"},
	"invalid-chunk": {text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"), 200, "chunk"},
	"no-http":       {text("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), 0, ""}, // malformed, or closed if that is seen first
	"redirect":      {text("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"), 302, "answered 302 Found"},
	"no-content":    {text("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"), 204, ""},
	"early-hints":   {text("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"), 200, ""},
	"continues": {func(c net.Conn, _ <-chan struct{}) {
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\n"); err != nil {
				return
			}
		}
	}, 0, ""}, // too long, or timed out
}

// hostileReceiver answers a request for /NAME by that hostility, and NAME's
// later requests, once it is reformed, by 200.
type hostileReceiver struct {
	listener net.Listener
	stop     chan struct{}
	work     sync.WaitGroup

	mu       sync.Mutex
	reformed bool
	requests map[string]int
}

func newHostileReceiver(t *testing.T) *hostileReceiver {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hostileReceiver{listener: listener, stop: make(chan struct{}), requests: map[string]int{}}
	h.work.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			h.work.Go(func() { h.serve(c) })
		}
	})
	t.Cleanup(func() {
		close(h.stop)
		_ = listener.Close()
		h.work.Wait()
	})
	return h
}

func (h *hostileReceiver) serve(c net.Conn) {
	defer c.Close()
	done := make(chan struct{})
	defer close(done)
	h.work.Go(func() { // whatever c waits for ends with the test
		select {
		case <-h.stop:
			_ = c.SetDeadline(time.Unix(1, 0))
		case <-done:
		}
	})
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return
	}
	name := strings.TrimPrefix(req.URL.Path, "/")
	h.mu.Lock()
	h.requests[name]++
	reformed := h.reformed
	h.mu.Unlock()
	if reformed {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	hostilities[name].answer(c, h.stop)
}

// TestHostileReceivers has an endpoint with one worker for each hostility. The
// first event meets it; the second, once the receiver is reformed, shows that
// the worker is free.
func TestHostileReceivers(t *testing.T) {
	db := newDatabase(t)
	h := newHostileReceiver(t)
	var config strings.Builder
	config.WriteString("profiles:\n  strict: {timeout: 2s, concurrency: 1, retry: {schedule: []}, signatures: []}\nendpoints:\n")
	for name := range hostilities {
		fmt.Fprintf(&config, "  - {name: %s, url: \"http://%s/%s\", events: [\"*\"], profile: strict}\n", name, h.listener.Addr(), name)
	}
	rcv := newReceiver(t)
	r := startRelay(t, db, rcv, config.String())
	r.waitReady()
	before := r.peakRSS()
	db.mustWrite(t, bulk{From: 1, To: 1}, 1)
	waitFinal(t, db, len(hostilities))
	grown := r.peakRSS() - before
	for name, want := range hostilities {
		checkHostility(t, db, name, want)
	}
	if grown > 64<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	h.mu.Lock()
	h.reformed = true
	h.mu.Unlock()
	db.mustWrite(t, bulk{From: 2, To: 2}, 1)
	waitFinal(t, db, 2*len(hostilities))
	if got := db.count(t, `SELECT count(*) FROM posthorn.deliveries WHERE state = 'delivered' AND lsn = (SELECT max(lsn) FROM posthorn.deliveries)`); got != len(hostilities) {
		t.Errorf("%d of %d endpoints took the event after their hostility", got, len(hostilities))
	}
	slowest := db.count(t, `SELECT max(total_us) / 1000 FROM posthorn.attempts`)
	if slowest > 3000 {
		t.Errorf("an attempt took %d ms, with a timeout of 2 s", slowest)
	}
	t.Logf("FIGURE hostile receivers: %d ways, the slowest attempt ended after %d ms of a timeout of 2000 ms, memory grew by %d MiB at most", len(hostilities), slowest, grown>>20)
}

func waitFinal(t *testing.T, db *database, n int) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		if got := db.count(t, `SELECT count(*) FROM posthorn.deliveries`); got != n {
			return fmt.Errorf("%d of %d deliveries are final", got, n)
		}
		return nil
	})
}

// checkHostility holds what the ledger tells of an endpoint's first delivery.
func checkHostility(t *testing.T, db *database, name string, want hostility) {
	t.Helper()
	var state, message string
	var status int
	err := db.pool.QueryRow(t.Context(), `SELECT d.state, coalesce(d.status, 0), coalesce(d.error, '') FROM posthorn.deliveries d
JOIN posthorn.endpoints e ON e.id = d.endpoint_id WHERE e.name = $1`, name).Scan(&state, &status, &message)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%-16s %s %d %s", name, state, status, message)
	fine := want.err == "" && want.status != 0
	if fine != (state == "delivered") || status != want.status || fine != (message == "") || !strings.Contains(message, want.err) {
		t.Errorf("%s: the ledger tells %s, %d, %q; want %d, %q", name, state, status, message, want.status, want.err)
	}
}
