// Package browser tests the dashboard from outside, as people use it: the built
// relay and a real Postgres, headless Chromium, and receivers that verify as
// the products' documents tell their customers to.
//
// POSTHORN_BIN names the relay to test; without it the tests build one.
// Chromium has to be there: ensure.sh installs it.
package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/posthorn/posthorn/integration/postgres"
)

var (
	binary = os.Getenv("POSTHORN_BIN")
	server *postgres.Server
	chrome context.Context //nolint:containedctx // chromedp keeps the browser in it; every person's context is made of it
)

func TestMain(m *testing.M) {
	code := 1
	if err := run(m, &code); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// run runs the tests with the relay's binary, a server and a browser around
// them.
func run(m *testing.M, code *int) (err error) {
	if binary == "" {
		dir, err := os.MkdirTemp("", "posthorn-browser-")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		binary = filepath.Join(dir, "posthorn")
		build := exec.Command("go", "build", "-o", binary, "../../cmd/posthorn")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build the relay: %w", err)
		}
	}
	stop, err := startChrome()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	server, err = postgres.Start(context.Background(), postgres.Options{Settings: map[string]string{"fsync": "off", "max_replication_slots": "40", "max_wal_senders": "40"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	*code = m.Run()
	return nil
}

// within bounds every step: what a person would not wait for either. It is
// generous because other tests may want the machine, too.
const within = 30 * time.Second

// eventually returns when cond returns nil. It fails the test with cond's last
// error when it does not in time, and with what more says then.
func eventually(t testing.TB, cond func() error, more ...func() string) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(within)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			for _, describe := range more {
				err = fmt.Errorf("%w\n%s", err, describe())
			}
			t.Fatalf("not within %s: %v", within, err)
		}
		<-ticker.C
	}
}
