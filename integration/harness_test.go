// Package integration tests the built relay from outside: real processes, a
// real Postgres, real receivers, and the faults that befall them.
//
// The counts and sizes are those that the promises are made for when
// POSTHORN_TEST_FULL is set, else a tenth of them. POSTHORN_BIN names the
// relay to test; without it the tests build one.
package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/posthorn/posthorn/integration/postgres"
)

var (
	full   = os.Getenv("POSTHORN_TEST_FULL") != ""
	binary = os.Getenv("POSTHORN_BIN")
	server *postgres.Server // what newDatabase uses; fsync is off
)

// TestMain runs the tests, or is a plugin when a relay starts it as one.
func TestMain(m *testing.M) {
	if os.Getenv(pluginCookie) != "" {
		servePlugin()
		return
	}
	goleak.VerifyTestMain(suite{m})
}

// suite is the package's tests with the relay's binary and a server around
// them.
type suite struct{ m *testing.M }

func (s suite) Run() (code int) {
	if err := s.run(&code); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

func (s suite) run(code *int) (err error) {
	if binary == "" {
		dir, err := os.MkdirTemp("", "posthorn-integration-")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		binary = filepath.Join(dir, "posthorn")
		build := exec.Command("go", "build", "-o", binary, "../cmd/posthorn")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build the relay: %w", err)
		}
	}
	server, err = postgres.Start(context.Background(), postgres.Options{Settings: serverSettings("off")})
	if err != nil {
		return err
	}
	*code = s.m.Run()
	return server.Stop()
}

// serverSettings are what a test's server runs with. Only tests that crash a
// machine would need fsync; those that crash the server want it nevertheless.
func serverSettings(fsync string) map[string]string {
	return map[string]string{"fsync": fsync, "max_replication_slots": "40", "max_wal_senders": "40", "max_wal_size": "4GB"}
}

// scaled returns n in a full run, else a tenth of it.
func scaled(n int) int {
	if full {
		return n
	}
	return n / 10
}

// eventually returns when cond returns nil. It fails the test with cond's last
// error when it does not within timeout.
func eventually(t testing.TB, timeout time.Duration, cond func() error) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(timeout)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", timeout, err)
		}
		<-ticker.C
	}
}

// database is one test's database, with a slot of its own: slots belong to the
// whole server.
type database struct {
	url  string
	slot string
	pool *pgxpool.Pool
}

// newDatabase returns an empty database on the tests' common server.
func newDatabase(t testing.TB) *database { return newDatabaseOn(t, server) }

// newDatabaseOn returns an empty database on s. Its slot is dropped when the
// test ends.
func newDatabaseOn(t testing.TB, s *postgres.Server) *database {
	t.Helper()
	ctx := context.Background()
	url, err := s.Database(ctx)
	if err != nil {
		t.Fatal(err)
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 20
	config.ConnConfig.RuntimeParams["statement_timeout"] = "120s" // a test that hangs says where
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	db := &database{url: url, slot: "slot_" + config.ConnConfig.Database, pool: pool}
	t.Cleanup(func() { db.dropSlot(t) })
	return db
}

// dropSlot drops the slot once its relays, which are dead, have let go of it.
func (db *database) dropSlot(t testing.TB) {
	eventually(t, 30*time.Second, func() error {
		_, err := db.pool.Exec(context.Background(), `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`, db.slot)
		return err
	})
}

// exec runs one statement.
func (db *database) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := db.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("run %s: %v", sql, err)
	}
}

// count returns the number that a query yields.
func (db *database) count(t testing.TB, sql string, args ...any) int {
	t.Helper()
	var n int
	if err := db.pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("run %s: %v", sql, err)
	}
	return n
}

// bulk is a run of numbered events. The payload of number n, from From to To,
// is {"n": n, "key": …, "seq": …}: of Keys keys in turn, seq counts from 1
// within each. With Keys 0 they have no key. Pad is that many bytes more.
type bulk struct {
	From, To int
	Keys     int
	Type     string // default test.created
	Pad      int
	// RolledBack marks the events as such, for the receiver to complain.
	RolledBack bool
}

const insertBulk = `INSERT INTO posthorn.outbox (type, key, payload)
SELECT $1, key, json_build_object('n', n, 'key', key, 'seq', seq, 'rolledBack', $5::boolean, 'pad', repeat('x', $6::int))
FROM (SELECT n, CASE WHEN $4 > 0 THEN 'key-' || (n - 1) % $4 END AS key, CASE WHEN $4 > 0 THEN (n - 1) / $4 + 1 END AS seq
      FROM generate_series($2::int, $3::int) AS n ORDER BY n) AS numbered`

// insert writes the events in one statement.
func (b bulk) insert(ctx context.Context, tx interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
},
) error {
	if b.Type == "" {
		b.Type = "test.created"
	}
	var inserted int
	return tx.QueryRow(ctx, `WITH inserted AS (`+insertBulk+` RETURNING 1) SELECT count(*) FROM inserted`,
		b.Type, b.From, b.To, b.Keys, b.RolledBack, b.Pad).Scan(&inserted)
}

// write commits the events in transactions of at most size events, one after
// the other, and rolls one of the same size back after each tenth. It returns
// how many were rolled back.
func (db *database) write(ctx context.Context, b bulk, size int) (rolledBack int, err error) {
	round := 0
	for from := b.From; from <= b.To; from += size {
		part := b
		part.From, part.To = from, min(from+size-1, b.To)
		if err := part.insert(ctx, db.pool); err != nil {
			return rolledBack, fmt.Errorf("write events: %w", err)
		}
		if round++; round%10 != 0 {
			continue
		}
		part.RolledBack = true
		err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
			if err := part.insert(ctx, tx); err != nil {
				return err
			}
			return errRollBack
		})
		if !errors.Is(err, errRollBack) {
			return rolledBack, fmt.Errorf("write events to roll back: %w", err)
		}
		rolledBack += part.To - part.From + 1
	}
	return rolledBack, nil
}

var errRollBack = errors.New("roll back")

// mustWrite is write for the test's own goroutine.
func (db *database) mustWrite(t testing.TB, b bulk, size int) {
	t.Helper()
	if _, err := db.write(t.Context(), b, size); err != nil {
		t.Fatal(err)
	}
}

// list prints the first few of many numbers.
func list(numbers []int) string {
	text := strings.Trim(fmt.Sprint(numbers[:min(len(numbers), 10)]), "[]")
	if len(numbers) > 10 {
		text += fmt.Sprintf(" and %d more", len(numbers)-10)
	}
	return text
}
