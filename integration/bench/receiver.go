package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// path is that of the endpoint of scenarios that have one endpoint only.
const path = "/events"

// answer is what the receiver says to every request; answers are many of them.
const answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"

var answers = bytes.Repeat([]byte(answer), 64)

const (
	firstBuffer = 16 << 10 // of a connection; it grows with what arrives
	maxRequest  = 32 << 20

	maxConnections = 1 << 14 // at one time, of endpoints that take their time
)

// receiver is a bare HTTP/1.1 server, as light as it can be, so that it is
// never what limits: one goroutine a connection, one buffer, one answer. It
// reads bodies by their Content-Length and takes pipelined requests.
type receiver struct {
	listener net.Listener
	served   sync.WaitGroup
	late     chan *connection // those whose answer waits, in the order in which it is due

	mu        sync.Mutex
	conns     map[net.Conn]bool
	endpoints map[string]*endpointStats
	closed    bool

	total totals
}

// totals are over all endpoints.
type totals struct {
	requests, distinct atomic.Int64
	first, last        atomic.Int64 // Unix nanoseconds of the first request and of the last distinct event; 0: none
}

// newReceiver listens on a port of its own. close ends it.
func newReceiver() (*receiver, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0") //nolint:noctx // returns at once
	if err != nil {
		return nil, fmt.Errorf("start the receiver: %w", err)
	}
	r := &receiver{listener: listener, late: make(chan *connection, maxConnections), conns: map[net.Conn]bool{}, endpoints: map[string]*endpointStats{}}
	r.served.Go(r.accept)
	go pace(r.late)
	return r, nil
}

func (r *receiver) url() string { return "http://" + r.listener.Addr().String() }

// close returns once no goroutine of the receiver is left.
func (r *receiver) close() {
	r.mu.Lock()
	r.closed = true
	_ = r.listener.Close()
	for conn := range r.conns {
		_ = conn.Close()
	}
	r.mu.Unlock()
	r.served.Wait()
	close(r.late)
}

// pace lets go of each connection when its answer is due. A goroutine's own
// time.Sleep ends up to a millisecond late, which is much of 20 ms. All that
// wait at one time wait for the same delay.
func pace(late <-chan *connection) {
	runtime.LockOSThread()
	for c := range late {
		for wait := time.Until(c.due); wait > 0; wait = time.Until(c.due) {
			sleep(wait)
		}
		c.wake <- struct{}{}
	}
}

// reset forgets all endpoints and what they received. No sender is connected.
func (r *receiver) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.endpoints)
	r.total.requests.Store(0)
	r.total.distinct.Store(0)
	r.total.first.Store(0)
	r.total.last.Store(0)
}

// endpoint returns the endpoint at a path, which begins with a slash. It is
// made on first use.
func (r *receiver) endpoint(path string) *endpointStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.endpoints[path]
	if e == nil {
		e = &endpointStats{path: path}
		r.endpoints[path] = e
	}
	return e
}

// requests returns how many requests came, to whatever endpoint.
func (r *receiver) requests() int { return int(r.total.requests.Load()) }

// distinct returns how many distinct events the endpoints have, all together.
func (r *receiver) distinct() int { return int(r.total.distinct.Load()) }

// took returns the time from the first request to the last distinct event.
func (r *receiver) took() time.Duration {
	return time.Duration(r.total.last.Load() - r.total.first.Load())
}

func (r *receiver) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		r.mu.Lock()
		if r.closed {
			_ = conn.Close()
		} else {
			r.conns[conn] = true
			r.served.Go(func() { r.serve(conn) })
		}
		r.mu.Unlock()
	}
}

// connection is one sender's.
type connection struct {
	net.Conn
	buf        []byte
	begin, end int // of what is read and not yet used
	unanswered int
	due        time.Time     // when to answer
	wake       chan struct{} // it is

	path     []byte // of the last request
	endpoint *endpointStats
}

// serve answers the requests of a connection until its sender closes it.
func (r *receiver) serve(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		r.mu.Lock()
		delete(r.conns, conn)
		r.mu.Unlock()
	}()
	c := &connection{Conn: conn, buf: make([]byte, firstBuffer), wake: make(chan struct{}, 1)}
	for {
		path, body, err := c.next()
		if err != nil {
			return
		}
		now := time.Now()
		if c.endpoint == nil || !bytes.Equal(path, c.path) {
			c.path = append(c.path[:0], path...)
			c.endpoint = r.endpoint(string(path))
		}
		r.total.take(c.endpoint.take(numberOf(body), now), now)
		if c.endpoint.hang.Load() {
			_, _ = io.Copy(io.Discard, conn) // until its sender gives up
			return
		}
		if delay := time.Duration(c.endpoint.delay.Load()); delay > 0 {
			c.due = now.Add(delay)
			r.late <- c
			<-c.wake
		}
		c.unanswered++
	}
}

// next returns the next request. Before it waits for one it answers those that
// came together. What it returns is valid until the next call.
func (c *connection) next() (path, body []byte, err error) {
	head := 0
	for {
		unread := c.buf[c.begin:c.end]
		if at := bytes.Index(unread[max(0, head-3):], []byte("\r\n\r\n")); at >= 0 {
			head = max(0, head-3) + at + 4
			break
		}
		head = len(unread)
		if err := c.read(head + 1); err != nil {
			return nil, nil, err
		}
	}
	length, err := contentLength(c.buf[c.begin : c.begin+head])
	if err != nil {
		return nil, nil, err
	}
	if err := c.read(head + length); err != nil {
		return nil, nil, err
	}
	request := c.buf[c.begin : c.begin+head+length]
	c.begin += len(request)
	_, path, _ = bytes.Cut(request[:head], []byte(" "))
	path, _, _ = bytes.Cut(path, []byte(" "))
	return path, request[head:], nil
}

// read returns once n bytes at least are unused.
func (c *connection) read(n int) error {
	if c.end-c.begin >= n {
		return nil
	}
	if n > maxRequest {
		return errors.New("request is too large")
	}
	if err := c.answer(); err != nil {
		return err
	}
	if c.begin == c.end {
		c.begin, c.end = 0, 0
	}
	if c.begin+n > len(c.buf) {
		to := c.buf
		if n > len(to) {
			to = make([]byte, 2*n)
		}
		c.end = copy(to, c.buf[c.begin:c.end])
		c.buf, c.begin = to, 0
	}
	for c.end-c.begin < n {
		got, err := c.Read(c.buf[c.end:])
		if err != nil {
			return err
		}
		c.end += got
	}
	return nil
}

// answer answers the requests that were not answered yet.
func (c *connection) answer() error {
	for c.unanswered > 0 {
		n := min(c.unanswered, len(answers)/len(answer))
		if _, err := c.Write(answers[:n*len(answer)]); err != nil {
			return err
		}
		c.unanswered -= n
	}
	return nil
}

// contentLength returns the length of the body that follows head.
func contentLength(head []byte) (int, error) {
	const name = "Content-Length:"
	for len(head) > 0 {
		var line []byte
		line, head, _ = bytes.Cut(head, []byte("\r\n"))
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			length, err := strconv.ParseUint(string(bytes.TrimSpace(line[len(name):])), 10, 31)
			return int(length), err
		}
	}
	return 0, errors.New("request has no Content-Length")
}

// numberOf returns the number of the event in a body, which stands near its
// beginning, or 0.
func numberOf(body []byte) int {
	const name = `"n":`
	at := bytes.Index(body[:min(len(body), 256)], []byte(name))
	if at < 0 {
		return 0
	}
	number := 0
	for _, c := range body[at+len(name):] {
		if c < '0' || c > '9' {
			break
		}
		number = 10*number + int(c-'0')
	}
	return number
}

// take counts a request, which brought a distinct event or not.
func (t *totals) take(distinct bool, now time.Time) {
	t.first.CompareAndSwap(0, now.UnixNano())
	if distinct {
		t.last.Store(now.UnixNano())
		t.distinct.Add(1)
	}
	t.requests.Add(1)
}

// endpointStats is what one endpoint received, and how it answers.
type endpointStats struct {
	path  string
	delay atomic.Int64 // nanoseconds until the answer
	hang  atomic.Bool  // no answer at all

	mu              sync.Mutex
	requestCount    int
	distinctCount   int
	highest         int
	seen            []uint64 // a bit for each number of an event
	firstAt, lastAt time.Time
	arrivalTimes    []time.Time // by number - 1; nil unless asked for
}

// set makes the endpoint answer after delay, or not at all. Requests that wait
// already are not touched.
func (e *endpointStats) set(delay time.Duration, hang bool) {
	e.delay.Store(int64(delay))
	e.hang.Store(hang)
}

// take counts a request, and reports whether it brought an event that had not
// come before. Number 0 is no event.
func (e *endpointStats) take(number int, now time.Time) (distinct bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requestCount++
	if e.firstAt.IsZero() {
		e.firstAt = now
	}
	word, bit := number/64, uint64(1)<<(number%64)
	if word >= len(e.seen) {
		e.seen = append(e.seen, make([]uint64, 2*word+1-len(e.seen))...)
	}
	if number == 0 || e.seen[word]&bit != 0 {
		return false
	}
	e.seen[word] |= bit
	e.distinctCount++
	e.highest = max(e.highest, number)
	e.lastAt = now
	if number <= len(e.arrivalTimes) {
		e.arrivalTimes[number-1] = now
	}
	return true
}

// requests returns how many requests came.
func (e *endpointStats) requests() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requestCount
}

// distinct returns how many distinct events came.
func (e *endpointStats) distinct() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.distinctCount
}

// first returns when the first request came.
func (e *endpointStats) first() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.firstAt
}

// last returns when the last event came that had not come before.
func (e *endpointStats) last() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lastAt
}

// keepArrivals makes arrivals know when the events up to number n came.
func (e *endpointStats) keepArrivals(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.arrivalTimes = make([]time.Time, n)
}

// arrivals returns when each event came, by number - 1; zero for one that did
// not. No request comes any more.
func (e *endpointStats) arrivals() []time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.arrivalTimes
}

// exactly returns an error unless each of the events 1 to n came, and once.
func (e *endpointStats) exactly(n int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.distinctCount != n || e.requestCount != n || e.highest != n {
		return fmt.Errorf("%s got %d events, the highest number %d, in %d requests, and not each of %d once",
			e.path, e.distinctCount, e.highest, e.requestCount, n)
	}
	return nil
}
