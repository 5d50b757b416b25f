package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// confirmed returns the slot's confirmed_flush_lsn as a number of bytes.
func (db *database) confirmed(t testing.TB) int {
	t.Helper()
	return db.count(t, `SELECT pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::bigint FROM pg_replication_slots WHERE slot_name = $1`, db.slot)
}

// waitSlotFree returns once no relay holds the slot: the server notices the
// end of one a moment later.
func (db *database) waitSlotFree(t testing.TB) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if db.count(t, `SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND active`, db.slot) > 0 {
			return fmt.Errorf("slot %s is active", db.slot)
		}
		return nil
	})
}

// written returns up to where WAL was written, as a number of bytes: all that
// was committed stands before it.
func (db *database) written(t testing.TB) int {
	t.Helper()
	return db.count(t, `SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint`)
}

// waitConfirmed returns once the slot is confirmed up to position. The relay
// flushes a small remainder only once in a while.
func (db *database) waitConfirmed(t testing.TB, position int, timeout time.Duration) {
	t.Helper()
	eventually(t, timeout, func() error {
		if at := db.confirmed(t); at < position {
			return fmt.Errorf("the slot is confirmed up to %d, %d bytes before %d", at, position-at, position)
		}
		return nil
	})
}

// deliveries returns how many deliveries the ledger has in a state.
func (db *database) deliveries(t testing.TB, state string) int {
	t.Helper()
	return db.count(t, `SELECT count(*) FROM posthorn.deliveries WHERE state = $1`, state)
}

// waitDeliveries returns once the ledger has n deliveries in a state.
func (db *database) waitDeliveries(t testing.TB, state string, n int) {
	t.Helper()
	eventually(t, 60*time.Second, func() error {
		if got := db.deliveries(t, state); got != n {
			return fmt.Errorf("the ledger has %d deliveries %s, not %d", got, state, n)
		}
		return nil
	})
}

// delivered returns the numbers of the events that were answered with success.
func (e *endpoint) delivered() []int {
	e.mu.Lock()
	defer e.mu.Unlock()
	var numbers []int
	for n := range e.events {
		if e.events[n].delivered {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// runToEnd runs a command of the relay on db until it ends by itself, and
// returns its exit code and all that it printed. env is added to what every
// test has in common.
func runToEnd(t testing.TB, db *database, config string, env []string, args ...string) (code int, output string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "posthorn.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append(args, "--config", file)...)
	cmd.Env = append([]string{
		"POSTHORN_DATABASE__URL=" + db.url,
		"POSTHORN_SOURCE__SLOT=" + db.slot,
		"POSTHORN_HTTP__LISTEN=127.0.0.1:0",
		"POSTHORN_LOG__FORMAT=json",
	}, env...)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil || cmd.ProcessState == nil {
		t.Fatalf("posthorn %v did not end: %v\n%s", args, err, out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// initialise runs posthorn init.
func initialise(t testing.TB, db *database, config string) {
	t.Helper()
	if code, output := runToEnd(t, db, config, nil, "init"); code != 0 {
		t.Fatalf("posthorn init ended with %d:\n%s", code, output)
	}
}

// atLeast returns an error when got is below want.
func atLeast(got, want int) error {
	if got < want {
		return fmt.Errorf("%d, not at least %d", got, want)
	}
	return nil
}

// sameNumbers returns an error that says in what got differs from want; both
// are sorted.
func sameNumbers(want, got []int) error {
	in := func(numbers []int) map[int]bool {
		m := make(map[int]bool, len(numbers))
		for _, n := range numbers {
			m[n] = true
		}
		return m
	}
	var missing, extra []int
	inGot, inWant := in(got), in(want)
	for _, n := range want {
		if !inGot[n] {
			missing = append(missing, n)
		}
	}
	for _, n := range got {
		if !inWant[n] {
			extra = append(extra, n)
		}
	}
	if len(missing)+len(extra) > 0 {
		return fmt.Errorf("%d missing: %s; %d too many: %s", len(missing), list(missing), len(extra), list(extra))
	}
	return nil
}

// waits returns a retry schedule of n equal waits, in YAML.
func waits(wait string, n int) string {
	return "[" + strings.Join(slices.Repeat([]string{wait}, n), ", ") + "]"
}
