// Package admin is what people and machines ask the relay by HTTP: health,
// metrics and the API for operators.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The roles that a relay can have.
const (
	RoleActive     = "active"     // holds the slot and delivers
	RoleStandby    = "standby"    // another relay holds the slot
	RoleConnecting = "connecting" // Postgres was not reached yet
)

// Server answers /healthz, /readyz, /metrics and what is under /api and /admin.
type Server struct {
	listener net.Listener
	http     *http.Server
	working  sync.RWMutex // held for reading while a request is answered
	stopped  bool         // no more are
}

// Listen opens address, so that a port in use is an error before anything
// else starts.
func Listen(ctx context.Context, address string, metrics *Metrics, snapshot func() Snapshot, operators http.Handler, logger *slog.Logger) (*Server, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for health, metrics and API: %w: choose another http.listen", err)
	}
	mux := http.NewServeMux()
	// A process that answers is alive, and a relay that waits for the slot or
	// for Postgres is ready: neither may take the application's pod down.
	health := func(w http.ResponseWriter, _ *http.Request) {
		s := snapshot()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if err := json.NewEncoder(w).Encode(Health{Status: "ok", Role: s.Role, LedgerUnwritable: s.LedgerDown}); err != nil {
			logger.Debug("health answer not written", slog.Any("err", err))
		}
	}
	mux.HandleFunc("GET /healthz", health)
	mux.HandleFunc("GET /readyz", health)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics.registry, promhttp.HandlerOpts{}))
	mux.Handle("/api/", operators)
	mux.Handle("/admin/", operators)
	s := &Server{listener: listener}
	s.http = &http.Server{
		Handler: s.whileRunning(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// whileRunning returns a handler that Run can wait for.
func (s *Server) whileRunning(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.working.RLock()
		defer s.working.RUnlock()
		if !s.stopped {
			next.ServeHTTP(w, r)
		}
	})
}

// Health is what /healthz and /readyz answer.
type Health struct {
	Status           string `json:"status"`
	Role             string `json:"role"`
	LedgerUnwritable bool   `json:"ledger_unwritable,omitempty"`
}

// Addr returns the address that is listened on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run serves until ctx ends, which ends what is being done for requests, too.
func (s *Server) Run(ctx context.Context) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		_ = s.http.Close() // answers are short; nobody waits for the rest of one
	}()
	err := s.http.Serve(s.listener) // returns only once Close was called, or on an error of the listener
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		s.working.Lock()
		s.stopped = true
		s.working.Unlock()
		return nil
	}
	return fmt.Errorf("serve health, metrics and API: %w", err)
}
