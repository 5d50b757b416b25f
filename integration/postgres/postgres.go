// Package postgres runs a private PostgreSQL server for the demo and the
// tests: a cluster of its own in a folder of its own, on a loopback port of
// its own, which is gone when the program that started it is gone.
//
// It uses the server programs of the machine, see Find. It runs on Linux; on
// macOS it is untested.
package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	superuser = "postgres"

	// Ports are taken from below the range that systems give to outgoing
	// connections: in it, a client that reconnects while the server is down
	// can be given the server's own port and connect to itself.
	firstPort, lastPort = 20000, 29999

	// startTries is how often another port is tried when the server ends
	// before it is ready, as it does when the port was taken meanwhile.
	startTries = 3

	readyTimeout   = 2 * time.Minute // from start to the first connection, crash recovery included
	readyInterval  = 20 * time.Millisecond
	probeTimeout   = 5 * time.Second
	fastLimit      = 20 * time.Second // a fast shutdown waits for stuck replication clients
	immediateLimit = 10 * time.Second
)

// ErrStopped is returned by Crash and Restart once the server was stopped.
var ErrStopped = errors.New("server is stopped")

// Options say how a server is set up. The zero value is fit for use.
type Options struct {
	// Dir is the folder to keep the cluster in; it is created where it is
	// missing, must not hold a cluster yet, and stays after Stop. Default: a
	// temporary folder that Stop removes.
	Dir string

	// Settings are PostgreSQL configuration parameters, over the defaults:
	// logical WAL, ten replication slots and senders, UTC, fsync on.
	Settings map[string]string

	// Log receives the server's log and what initdb prints. Default: none.
	Log io.Writer
}

// Server is a running private server. Its methods are safe for concurrent use.
type Server struct {
	bin       string
	dir       string
	temporary bool
	cred      *syscall.Credential
	password  string
	log       *tail

	port      int          // fixed once Start has returned
	databases atomic.Int64 // created by Database

	mu      sync.Mutex
	process *process
	stopped bool
}

// Start creates a cluster and starts a server for it. It returns when the
// server accepts connections, usually within a few seconds; ctx bounds the
// start only. The server listens on 127.0.0.1 alone, asks for a password that
// is made for it, and ends with this process, however that ends; call Stop to
// end it in good order. The error of a failed start holds the log's end.
func Start(ctx context.Context, opts Options) (*Server, error) {
	bin, err := Find()
	if err != nil {
		return nil, err
	}
	cred, err := account()
	if err != nil {
		return nil, err
	}
	dir, err := makeFolder(opts.Dir, cred)
	if err != nil {
		return nil, fmt.Errorf("create the server's folder: %w", err)
	}
	s := &Server{
		bin: bin, dir: dir, temporary: opts.Dir == "", cred: cred,
		password: rand.Text(), log: &tail{next: opts.Log},
	}
	if err := s.create(ctx, opts.Settings); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	if err := s.startOnFreePort(ctx); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

// startOnFreePort starts the server on a port that is free, trying another
// one when the server ends before it is ready.
func (s *Server) startOnFreePort(ctx context.Context) error {
	for try := 1; ; try++ {
		port, err := freePort(ctx)
		if err != nil {
			return err
		}
		s.port = port
		err = s.start(ctx)
		if err == nil || try == startTries || !errors.Is(err, errEnded) {
			return err
		}
	}
}

// freePort returns a loopback port that nobody listens on at the moment.
func freePort(ctx context.Context) (int, error) {
	var listen net.ListenConfig
	var lastErr error
	for range 100 {
		port := firstPort + mathrand.IntN(lastPort-firstPort+1)
		listener, err := listen.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			lastErr = err
			continue
		}
		return port, listener.Close()
	}
	return 0, fmt.Errorf("find a free port from %d to %d: %w", firstPort, lastPort, lastErr)
}

// errEnded reports a server that ended before it was ready.
var errEnded = errors.New("server ended before it accepted connections")

// start starts the server on its port and returns when it accepts
// connections. After an error no server is left running.
func (s *Server) start(ctx context.Context) error {
	cmd := s.command("postgres", "-D", s.dataDir(), "-p", strconv.Itoa(s.port))
	process, err := startProcess(cmd)
	if err != nil {
		return err
	}
	s.process = process
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := s.waitReady(ctx); err != nil {
		s.shutDown(syscall.SIGQUIT, immediateLimit)
		return fmt.Errorf("start PostgreSQL on port %d: %w\n%s", s.port, err, s.log)
	}
	return nil
}

// waitReady returns when a connection works, the server has ended or ctx is
// done. The password rules out that it is another server that answers.
func (s *Server) waitReady(ctx context.Context) error {
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	for {
		err := s.probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.process.done:
			return fmt.Errorf("%w: %w", errEnded, s.process.err)
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// probe connects once. Its time is limited so that whoever else may have the
// port cannot hide the end of ours by not answering.
func (s *Server) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return s.do(ctx, func(*pgx.Conn) error { return nil })
}

// do calls f with a connection to the database postgres.
func (s *Server) do(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.URL(superuser))
	if err != nil {
		return err
	}
	return errors.Join(f(conn), conn.Close(ctx))
}

// shutDown sends sig and waits for the server to end, at most for limit; then
// it shuts the server down at once, and at last kills it.
func (s *Server) shutDown(sig syscall.Signal, limit time.Duration) {
	if s.process.end(sig, limit) || s.process.end(syscall.SIGQUIT, immediateLimit) {
		return
	}
	_ = s.process.cmd.Process.Kill() // it may have ended by now
	<-s.process.done
}

// remove removes the folder where it is temporary.
func (s *Server) remove() error {
	if !s.temporary {
		return nil
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove the server's folder: %w", err)
	}
	return nil
}

// Port returns the port on 127.0.0.1 that the server listens on. Restart
// keeps it.
func (s *Server) Port() int { return s.port }

// URL returns the connection URL of a database, password included, for the
// superuser. The database "postgres" exists from the start.
func (s *Server) URL(database string) string {
	return (&url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}).String()
}

// Database creates an empty database with a name of its own and returns its
// connection URL. Replication slots made in it stay until they are dropped,
// and the server has a limited number of them: see Options.
func (s *Server) Database(ctx context.Context) (url string, err error) {
	name := fmt.Sprintf("posthorn_%d", s.databases.Add(1))
	err = s.do(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "CREATE DATABASE "+name)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("create database %s: %w", name, err)
	}
	return s.URL(name), nil
}

// Crash stops the server without a checkpoint and without a word to its
// clients, as pg_ctl stop -m immediate does. It returns when the server has
// ended. Restart starts it again.
func (s *Server) Crash() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return ErrStopped
	}
	s.shutDown(syscall.SIGQUIT, immediateLimit)
	return nil
}

// Restart starts the server again on the same port and folder, after a fast
// shutdown if it runs. It returns when the server accepts connections; ctx
// bounds the start only.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return ErrStopped
	}
	s.shutDown(syscall.SIGINT, fastLimit)
	return s.start(ctx)
}

// PID returns the process id of the server's first process, whose children the
// others are. Restart changes it; after Stop it is that of the last one.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.cmd.Process.Pid
}

// Stop shuts the server down fast, disconnecting its clients, or at once if
// that takes more than 20 seconds, and removes its folder if it is temporary.
// Further calls do nothing and return nil.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	s.shutDown(syscall.SIGINT, fastLimit)
	return s.remove()
}
