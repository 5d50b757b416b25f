package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/posthorn/posthorn/config"
)

const (
	// The shares of requests that the receiver answers with 500 and does not
	// answer at all.
	demoRefused = 0.025
	demoDropped = 0.025

	maxDemoBody = 1 << 20 // bytes
)

// demoReceiver is every product's receiver, each at a path of its own. It
// verifies all requests and fails some. It is the customers', too, whose
// requests nobody judges.
type demoReceiver struct {
	socket   net.Listener
	url      string
	handlers map[string]demoHandler // by path
	started  time.Time

	mu        sync.Mutex
	random    *rand.Rand
	customers []int64 // requests that each of demoCustomers had
}

// demoHandler receives for one endpoint.
type demoHandler struct {
	endpoint int
	verifier *verifier
	mayFail  bool
	tracker  *tracker
}

// newDemoReceiver opens a port on loopback.
func newDemoReceiver(ctx context.Context, seed uint64) (*demoReceiver, error) {
	var lc net.ListenConfig
	socket, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the demo's webhooks: %w", err)
	}
	return &demoReceiver{
		socket: socket, url: "http://" + socket.Addr().String(), handlers: map[string]demoHandler{},
		started: time.Now(), random: rand.New(rand.NewPCG(seed, 0)), customers: make([]int64, len(demoCustomers)),
	}, nil
}

// receiveFor takes on the endpoints, whose numbers the tracker knows.
func (d *demoReceiver) receiveFor(endpoints []config.Endpoint, t *tracker) error {
	for i := range endpoints {
		ep := &endpoints[i]
		if !ep.Enabled {
			continue
		}
		v, err := endpointVerifier(ep)
		if err != nil {
			return fmt.Errorf("verify for endpoint %s: %w", ep.Name, err)
		}
		path, ok := strings.CutPrefix(ep.URL.Reveal(), d.url)
		if !ok || v == nil || d.handlers[path].verifier != nil {
			return fmt.Errorf("endpoint %s must send signed requests to a path of its own", ep.Name)
		}
		d.handlers[path] = demoHandler{endpoint: i, verifier: v, mayFail: len(ep.Retry.Schedule) > 0, tracker: t}
	}
	return nil
}

// run receives until ctx ends.
func (d *demoReceiver) run(ctx context.Context) error {
	server := &http.Server{
		Handler: d, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // by then nobody sends any more
	defer stop()
	if err := server.Serve(d.socket); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("receive the demo's webhooks: %w", err)
	}
	return nil
}

// ServeHTTP verifies a request and answers it, or not.
func (d *demoReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.serveCustomer(w, r) {
		return
	}
	h, ok := d.handlers[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	body, err := readBody(w, r, maxDemoBody)
	if err != nil {
		return // answered
	}
	if h.verifier.verify(r, body) != nil {
		h.tracker.wrongSignature()
		http.Error(w, "invalid signature", http.StatusUnauthorized)
		return
	}
	refused, dropped := d.pick(h.mayFail)
	h.tracker.arrived(h.endpoint, r.Header.Get(demoHeader), !refused && !dropped)
	switch {
	case dropped:
		panic(http.ErrAbortHandler) // closes the connection without a word
	case refused:
		http.Error(w, "failed on purpose", http.StatusInternalServerError)
	default:
		w.WriteHeader(http.StatusOK)
	}
}

// pick decides what happens to a request.
func (d *demoReceiver) pick(mayFail bool) (refused, dropped bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.random.Float64()
	return mayFail && p < demoRefused, mayFail && p >= demoRefused && p < demoRefused+demoDropped
}
