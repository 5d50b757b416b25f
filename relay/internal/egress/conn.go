package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	// inlineBytes of a body are written together with the head. They fit a
	// socket's buffer, so that no receiver can keep the attempt from reading
	// its answer; what is longer is written beside the reading.
	inlineBytes = 16 << 10
	// lateWrite is how long the end of a write may come after the answer.
	lateWrite = 50 * time.Millisecond
	// ticketWait is how long to look for the end of what waits on an idle TLS
	// connection: a server may send tickets for later sessions at any time.
	ticketWait = time.Millisecond
)

// conn is a connection that speaks HTTP/1.1. One attempt at a time has it, and
// does everything on its own goroutine.
type conn struct {
	net.Conn
	place     place
	permitted *permittedConn // under it; nil in some tests
	socket    *socket        // nil where there is none to look at
	in        *bufio.Reader
	left      int64  // how many bytes Read may return
	out       []byte // kept from request to request
	used      bool
	overdue   bool // the last read ended by its deadline
	watcher   *watcher
	idleSince time.Time
}

func newConn(raw net.Conn, at place) *conn {
	c := &conn{Conn: raw, place: at, permitted: permittedUnder(raw)}
	c.in = bufio.NewReaderSize(c, excerptBytes)
	if c.permitted != nil {
		c.socket = newSocket(c.permitted.Conn)
	}
	return c
}

// errLongHead has net/http's words.
var errLongHead = errors.New("server response headers exceeded " + strconv.Itoa(headerBytes) + " bytes")

// Read reads no more than c.left bytes.
func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errLongHead
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.overdue = errors.Is(err, os.ErrDeadlineExceeded)
	return n, err
}

// send makes one attempt over c, and then keeps c or closes it. It reports
// unsent if c had been used before and took nothing of the request.
func (c *conn) send(a *attempt, q *Request, o *opening, header Header) (r Response, unsent bool) {
	a.conn.Store(c.permitted)
	c.watch(a.parent)
	deadline, _ := a.Deadline()
	_ = c.SetDeadline(deadline) // on a connection that is closed all else fails too
	if a.parent.Err() != nil {  // before which the watcher may have set another
		c.end(false)
		return Response{Err: context.Cause(a)}, false
	}
	inline := min(len(q.Body), inlineBytes)
	c.out = append(append(header.appendTo(append(c.out[:0], o.line...)), "Content-Length: "...), strconv.Itoa(len(q.Body))...)
	c.out = append(append(c.out, "\r\n\r\n"...), q.Body[:inline]...)
	n, failed := c.Write(c.out)
	if failed != nil && n == 0 && c.used && !errors.Is(failed, ErrNotPermitted) && !errors.Is(failed, os.ErrDeadlineExceeded) {
		c.end(false)
		return r, true
	}
	var rest chan error
	if failed == nil && inline < len(q.Body) {
		rest = make(chan error, 1)
		go func() {
			_, err := c.Write(q.Body[inline:])
			rest <- err
		}()
	}
	// A receiver may answer what it did not read to the end.
	keep, err := c.read(a, &r)
	if failed != nil && errors.Is(err, io.EOF) { // which says less
		err = failed
	}
	if keep = keep && failed == nil && c.in.Buffered() == 0; rest != nil {
		keep = c.written(rest, keep)
	}
	if err != nil && c.overdue { // then so is the attempt, if perhaps a moment later
		<-a.Done()
	}
	r.Err = explain(a, err, byTLS)
	c.used = true
	if keep {
		c.place.transport.idle.put(c)
	} else {
		c.end(r.Err == nil)
	}
	return r, false
}

// written waits for the end of a write, and reports whether c can be kept: only
// after one that succeeded. One that c cannot end is ended.
func (c *conn) written(rest <-chan error, keep bool) bool {
	if keep {
		timer := time.NewTimer(lateWrite)
		defer timer.Stop()
		select {
		case err := <-rest:
			return err == nil
		case <-timer.C:
		}
	}
	abandon(c.Conn)
	<-rest //nolint:errcheck // why is known: it was abandoned
	return false
}

// read reads the answer into r. It reports whether c can be used again, if
// nothing else was sent.
func (c *conn) read(a *attempt, r *Response) (keep bool, err error) {
	c.left = headerBytes
	if _, err := c.in.Peek(1); err != nil {
		return false, err
	}
	a.firstByte.Store(a.now())
	buffered, _ := c.in.Peek(c.in.Buffered())
	h, ok := parseHead(buffered)
	if !ok {
		return c.readAny(r)
	}
	r.Status, r.RetryAfter = h.status, h.retryAfter
	_, _ = c.in.Discard(h.size) // which is buffered
	c.left = math.MaxInt64
	r.Excerpt = make([]byte, min(h.length, excerptBytes))
	n, err := io.ReadFull(c.in, r.Excerpt)
	r.Excerpt = r.Excerpt[:n]
	more := h.length - int64(n)
	if err == nil && more > 0 {
		_, err = c.in.Discard(int(min(more, drainBytes)))
	}
	return err == nil && !h.close && more < drainBytes, inBody(err)
}

// end closes c, and politely only where the receiver listens: it
// is told of the end in TLS, for which it may let us wait.
func (c *conn) end(politely bool) {
	if c.watcher != nil {
		c.watcher.leave()
	}
	if politely {
		_ = c.Close()
	} else {
		abandon(c.Conn)
	}
}

// abandon closes c without a word to the other end.
func abandon(c net.Conn) {
	if under := permittedUnder(c); under != nil {
		c = under
	}
	_ = c.Close()
}

// stale reports whether the receiver closed c, which is idle, or sent something
// that nobody asked for. TLS may hold some of that itself, where the socket has
// nothing any more; it may have tickets, too, which are no reason to end c.
func (c *conn) stale() bool {
	pending := c.socket != nil && c.socket.pending()
	if _, secure := c.Conn.(*tls.Conn); !secure {
		return pending
	}
	until := time.Unix(1, 0) // what is held is read all the same
	if pending {
		until = time.Now().Add(ticketWait)
	}
	c.left = headerBytes
	_ = c.SetWriteDeadline(time.Now().Add(ticketWait)) // TLS may have to answer: a write that fails is never forgotten
	_ = c.SetReadDeadline(until)
	_, err := c.in.Peek(1)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// watch has what runs on c end with ctx. The lanes give every attempt the same
// one, so that it is registered once for each connection.
func (c *conn) watch(ctx context.Context) {
	if c.watcher != nil {
		if c.watcher.done == ctx.Done() {
			return
		}
		c.watcher.leave()
		c.watcher = nil
	}
	if ctx.Done() != nil {
		c.watcher = &watcher{done: ctx.Done(), conn: c.Conn}
		c.watcher.stop = context.AfterFunc(ctx, c.watcher.end)
	}
}

// watcher ends what runs on a connection when a context ends.
type watcher struct {
	done <-chan struct{} // the context's
	stop func() bool

	mu   sync.Mutex
	conn net.Conn // nil when it is another's
}

func (w *watcher) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.conn.SetDeadline(time.Unix(1, 0))
	}
}

// leave leaves the connection alone from now on.
func (w *watcher) leave() {
	w.stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn = nil
}
