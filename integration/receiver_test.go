package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/posthorn/posthorn/relay/signing"
)

// secret is every endpoint's.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// receiver is the other side: one HTTP server with a path for each endpoint.
type receiver struct {
	t         testing.TB
	address   string
	endpoints map[string]*endpoint

	mu     sync.Mutex
	server *http.Server // nil while it refuses connections
	served chan struct{}
}

// newReceiver serves the endpoints at the paths, which all answer 200 until
// they are told otherwise. What they find wrong fails the test at its end.
func newReceiver(t testing.TB, paths ...string) *receiver {
	t.Helper()
	r := &receiver{t: t, address: "127.0.0.1:0", endpoints: map[string]*endpoint{}}
	for _, path := range paths {
		r.endpoints[path] = newEndpoint(t, path)
	}
	r.listen()
	t.Cleanup(func() {
		r.refuse()
		for _, path := range slices.Sorted(maps.Keys(r.endpoints)) {
			r.endpoints[path].report()
		}
	})
	return r
}

func (r *receiver) url() string { return "http://" + r.address }

// listen accepts connections, after refuse at the same address as before.
func (r *receiver) listen() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	listener, err := net.Listen("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.address = listener.Addr().String()
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	r.served = make(chan struct{})
	go func(server *http.Server, served chan struct{}) {
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			r.t.Errorf("serve endpoints: %v", err)
		}
	}(r.server, r.served)
}

// refuse closes all connections and has new ones refused.
func (r *receiver) refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server == nil {
		return
	}
	_ = r.server.Close() // the listener's error is of no interest
	<-r.served
	r.server = nil
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if e, ok := r.endpoints[req.URL.Path]; ok {
		e.serve(w, req)
		return
	}
	r.t.Errorf("a request for %s, where no endpoint is", req.URL.Path)
	http.NotFound(w, req)
}

// request is one request as an endpoint's answer sees it.
type request struct {
	*http.Request
	Body  []byte
	Event numbered
	Try   int // counts the requests of this event from 1
}

// numbered is the payload that a bulk's events have. N is 0 for others, of
// which the endpoint keeps no account.
type numbered struct {
	N          int    `json:"n"`
	Key        string `json:"key"`
	Seq        int    `json:"seq"`
	RolledBack bool   `json:"rolledBack"`
}

// endpoint is one path and the account of what arrived there.
type endpoint struct {
	t    testing.TB
	path string
	// verify checks a request's signature; Standard Webhooks is the default.
	verify func(http.Header, []byte) error
	// ordered has the endpoint complain when an event of a key arrives before
	// the one before it was answered with success.
	ordered bool

	mu       sync.Mutex
	answer   func(*request) int // the status to answer with; 0 cuts the connection
	events   []arrival          // by number
	keys     map[string]int     // highest seq of each key that was answered with success
	problems []string
	account
}

// account is what an endpoint counted.
type account struct {
	Requests   int // all
	Delivered  int // events that were answered with success
	Duplicates int // requests for events that had been answered with success
	Again      int // requests for events that had been seen, but not so
}

// arrival is what is known of one event. A million of them fit.
type arrival struct {
	seen, delivered, recorded bool
	tries                     int32
	id, body                  [16]byte // digests of delivery id and body
}

func newEndpoint(t testing.TB, path string) *endpoint {
	e := &endpoint{t: t, path: path, keys: map[string]int{}, answer: func(*request) int { return http.StatusOK }}
	e.verify = verifier(t, signing.Options{Scheme: "standard-webhooks"})
	return e
}

// verifier returns the check of a signature by secret.
func verifier(t testing.TB, o signing.Options) func(http.Header, []byte) error {
	t.Helper()
	signer, err := signing.New(o)
	if err != nil {
		t.Fatal(err)
	}
	key, err := signing.ParseKey(o.Scheme, secret)
	if err != nil {
		t.Fatal(err)
	}
	return func(h http.Header, body []byte) error { return signer.Verify(h, body, []signing.Key{key}, time.Now()) }
}

// answers sets what the endpoint does with a request from now on: f returns
// the status, when it likes. It may wait for the request's context, which ends
// when the relay gives up.
func (e *endpoint) answers(f func(*request) int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = f
}

func (e *endpoint) serve(w http.ResponseWriter, req *http.Request) {
	var body bytes.Buffer
	if n := req.ContentLength; n > 0 && n < 64<<20 {
		body.Grow(int(n) + bytes.MinRead)
	}
	if _, err := io.Copy(&body, req.Body); err != nil {
		return // the relay was killed while it sent
	}
	q := &request{Request: req, Body: body.Bytes()}
	if err := e.verify(req.Header, q.Body); err != nil {
		e.complain("request for delivery %s: %v", req.Header.Get("webhook-id"), err)
	}
	_ = json.Unmarshal(q.Body, &q.Event) // not every test's payload is a numbered one
	answer := e.arrived(q)
	status := answer(q)
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	if status >= 200 && status <= 299 {
		e.succeeded(q) // before the relay can know it
	}
	w.WriteHeader(status)
}

// arrived enters a request into the account.
func (e *endpoint) arrived(q *request) (answer func(*request) int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Requests++
	v := q.Event
	if v.RolledBack {
		e.complainLocked("event %d arrived, which was rolled back", v.N)
	}
	if v.N <= 0 {
		q.Try = 1
		return e.answer
	}
	for v.N >= len(e.events) {
		e.events = append(e.events, make([]arrival, max(1024, v.N+1-len(e.events)))...)
	}
	a := &e.events[v.N]
	id, sum := digest([]byte(q.Header.Get("webhook-id"))), digest(q.Body)
	switch {
	case !a.seen:
		a.seen, a.id, a.body = true, id, sum
	case a.id != id || a.body != sum:
		e.complainLocked("event %d came again with another delivery id or body", v.N)
	}
	if a.recorded {
		e.complainLocked("event %d came again although the ledger held its delivery", v.N)
	}
	if a.tries++; a.delivered {
		e.Duplicates++
	} else if a.tries > 1 {
		e.Again++
	}
	if e.ordered && v.Seq > e.keys[v.Key]+1 {
		e.complainLocked("event %d, the %dth of %s, came when only %d of them had been answered", v.N, v.Seq, v.Key, e.keys[v.Key])
	}
	q.Try = int(a.tries)
	return e.answer
}

func digest(b []byte) [16]byte {
	sum := sha256.Sum256(b)
	return [16]byte(sum[:16])
}

// succeeded enters a success.
func (e *endpoint) succeeded(q *request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := q.Event
	if v.N <= 0 {
		e.Delivered++
		return
	}
	if a := &e.events[v.N]; !a.delivered {
		a.delivered = true
		e.Delivered++
	}
	if v.Seq == e.keys[v.Key]+1 {
		e.keys[v.Key] = v.Seq
	}
}

// recorded says that the ledger holds these events as delivered: they must not
// come again.
func (e *endpoint) recorded(numbers []int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range numbers {
		if n >= len(e.events) || !e.events[n].delivered {
			e.complainLocked("the ledger holds event %d as delivered, which it was not", n)
			continue
		}
		e.events[n].recorded = true
	}
}

func (e *endpoint) complain(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.complainLocked(format, args...)
}

func (e *endpoint) complainLocked(format string, args ...any) {
	e.problems = append(e.problems, fmt.Sprintf(format, args...))
}

// report fails the test with the first few problems.
func (e *endpoint) report() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, problem := range e.problems[:min(len(e.problems), 10)] {
		e.t.Errorf("%s: %s", e.path, problem)
	}
	if more := len(e.problems) - 10; more > 0 {
		e.t.Errorf("%s: %d problems more", e.path, more)
	}
}

// counts returns the account so far.
func (e *endpoint) counts() account {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.account
}

// undelivered returns which of the events 1 to n were not answered with
// success.
func (e *endpoint) undelivered(n int) []int {
	e.mu.Lock()
	defer e.mu.Unlock()
	var missing []int
	for i := 1; i <= n; i++ {
		if i >= len(e.events) || !e.events[i].delivered {
			missing = append(missing, i)
		}
	}
	return missing
}

// waitSome returns once n events were delivered, whichever they are.
func (e *endpoint) waitSome(n int) {
	e.t.Helper()
	eventually(e.t, time.Minute, func() error {
		if got := e.counts().Delivered; got < n {
			return fmt.Errorf("%s: %d events delivered, waiting for %d", e.path, got, n)
		}
		return nil
	})
}

// waitDelivered returns once the events 1 to n were delivered.
func (e *endpoint) waitDelivered(n int, timeout time.Duration) {
	e.t.Helper()
	eventually(e.t, timeout, func() error {
		if got := e.counts().Delivered; got < n {
			return fmt.Errorf("%s: %d of %d events delivered", e.path, got, n)
		}
		if missing := e.undelivered(n); len(missing) > 0 {
			return fmt.Errorf("%s: %d events not delivered: %s", e.path, len(missing), list(missing))
		}
		return nil
	})
}
