package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	r, err := newReceiver()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

func eventBody(n, size int) []byte {
	head := fmt.Sprintf(`{"n":%d,"pad":"`, n)
	return []byte(head + strings.Repeat("x", size-len(head)-2) + `"}`)
}

// TestClientsReachTheReceiver sends bodies around the sizes of the receiver's
// buffer by each client.
func TestClientsReachTheReceiver(t *testing.T) {
	sizes := []int{30, firstBuffer - 200, firstBuffer, firstBuffer + 1, 3 * firstBuffer, 1 << 20, 30}
	r := startReceiver(t)
	bare, err := newBareClient(r.url() + "/bare")
	if err != nil {
		t.Fatal(err)
	}
	shared := newClient(r.url()+"/http", 1)
	t.Cleanup(shared.http.CloseIdleConnections)
	for path, client := range map[string]sender{"/bare": bare, "/http": shared.signed("secret")} {
		e := r.endpoint(path)
		e.keepArrivals(len(sizes))
		began := time.Now()
		for i, size := range sizes {
			if err := client.post(eventBody(i+1, size)); err != nil {
				t.Fatalf("%s, %d bytes: %v", path, size, err)
			}
		}
		if err := e.exactly(len(sizes)); err != nil {
			t.Error(err)
		}
		arrivals := e.arrivals()
		if e.first().Before(began) || !e.first().Equal(arrivals[0]) || !e.last().Equal(arrivals[len(sizes)-1]) {
			t.Errorf("%s: arrived %s, first %s, last %s", path, arrivals, e.first(), e.last())
		}
	}
	if err := bare.conn.Close(); err != nil {
		t.Error(err)
	}
	if r.requests() != 2*len(sizes) || r.distinct() != 2*len(sizes) || r.took() <= 0 {
		t.Errorf("%d requests with %d events in %s, want %d of both", r.requests(), r.distinct(), r.took(), 2*len(sizes))
	}
	r.reset()
	if r.requests() != 0 || r.endpoint("/bare").requests() != 0 {
		t.Error("something is left after a reset")
	}
}

// TestReceiverAnswersPipelinedRequests writes many requests at once, cut at
// every place in turn, in the middle of a head and of a body.
func TestReceiverAnswersPipelinedRequests(t *testing.T) {
	const requests = 100
	var all []byte
	for n := range requests {
		body := eventBody(n+1, 40)
		all = fmt.Appendf(all, "POST /e/%d HTTP/1.1\r\nHost: a\r\ncontent-length: %d\r\n\r\n%s", n%2, len(body), body)
	}
	r := startReceiver(t)
	for cut := 1; cut < 2*len(all)/requests; cut++ {
		conn, err := net.Dial("tcp", r.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range [][]byte{all[:cut], all[cut:]} {
			if _, err := conn.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		reader := bufio.NewReader(conn)
		for n := range requests {
			res, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatalf("cut at %d, answer %d: %v", cut, n, err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != http.StatusOK || !bytes.Equal(body, []byte("ok")) {
				t.Fatalf("cut at %d, answer %d: %s, %q, %v", cut, n, res.Status, body, err)
			}
		}
		_ = conn.Close()
		if a, b := r.endpoint("/e/0"), r.endpoint("/e/1"); a.distinct()+b.distinct() != requests || a.requests()+b.requests() != requests {
			t.Fatalf("cut at %d: %d and %d events", cut, a.distinct(), b.distinct())
		}
		r.reset()
	}
}

func TestReceiverTellsLostAndDoubledEvents(t *testing.T) {
	tests := map[string]struct {
		numbers []int
		n       int
		ok      bool
	}{
		"each once":     {numbers: []int{3, 1, 2}, n: 3, ok: true},
		"one lost":      {numbers: []int{1, 3}, n: 3},
		"one twice":     {numbers: []int{1, 2, 3, 2}, n: 3},
		"one for other": {numbers: []int{1, 2, 4}, n: 3},
		"no event":      {numbers: []int{1, 2, 3, 0}, n: 3},
		"many":          {numbers: []int{64, 129}, n: 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := &endpointStats{path: "/a"}
			for _, n := range test.numbers {
				e.take(n, time.Now())
			}
			if err := e.exactly(test.n); (err == nil) != test.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestHangingEndpointAnswersNothing waits until the request was counted, and
// then that no byte of an answer is there.
func TestHangingEndpointAnswersNothing(t *testing.T) {
	r := startReceiver(t)
	e := r.endpoint("/hang")
	e.set(0, true)
	conn, err := net.Dial("tcp", r.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "POST /hang HTTP/1.1\r\nContent-Length: 7\r\n\r\n{\"n\":1}"); err != nil {
		t.Fatal(err)
	}
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for e.requests() == 0 {
		<-ticker.C
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); len(got) > 0 || err != nil {
		t.Errorf("got %q, %v; want no answer", got, err)
	}
	_ = conn.Close()
}

func TestRequestWithoutLengthEndsItsConnection(t *testing.T) {
	r := startReceiver(t)
	for _, head := range []string{"Transfer-Encoding: chunked", "Content-Length: some", "Content-Length: 1000000000", "Content-Length: -100"} {
		conn, err := net.Dial("tcp", r.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\n%s\r\n\r\n", head); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); len(got) > 0 || err != nil {
			t.Errorf("%s: got %q, %v; want the end", head, got, err)
		}
		_ = conn.Close()
	}
}
