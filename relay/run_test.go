package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/integration/postgres"
)

// anyPort lets relays listen beside each other.
const anyPort = "http: {listen: '127.0.0.1:0'}\n"

// logLines is a log that a test reads line by line.
type logLines chan string

func (l logLines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// waitFor returns the next line that holds all of texts.
func (l logLines) waitFor(t *testing.T, texts ...string) string {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case line := <-l:
			found := true
			for _, text := range texts {
				found = found && strings.Contains(line, text)
			}
			if found {
				return line
			}
		case <-limit:
			t.Fatalf("the relay does not log %q", texts)
		}
	}
}

// runInBackground runs a relay until the test ends and returns its log.
func runInBackground(t *testing.T, cfg *config.Config, initFirst bool) logLines {
	t.Helper()
	log := make(logLines, 10_000)
	r, err := New(cfg, "test", slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	r.InitFirst = initFirst
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return log
}

// runToEnd returns the error with which a relay ends by itself, nil when it
// does not within half a minute.
func runToEnd(t *testing.T, cfg *config.Config, initFirst bool) error {
	t.Helper()
	r, err := New(cfg, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.InitFirst = initFirst
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return r.Run(ctx)
}

func TestHealthIsAnsweredWhileInitWaits(t *testing.T) {
	db := newDatabase(t)
	tx, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `SELECT pg_current_xact_id()`); err != nil {
		t.Fatal(err)
	}
	log := runInBackground(t, db.config(t, anyPort), true)
	address := regexp.MustCompile(`listen=(\S+)`).FindStringSubmatch(log.waitFor(t, "posthorn starts"))[1]
	log.waitFor(t, "init", "waiting for open transactions to end")

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + address + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var health struct{ Status, Role string }
	if err := json.NewDecoder(res.Body).Decode(&health); err != nil || health.Status != "ok" || health.Role != "connecting" {
		t.Errorf("/healthz answers %+v, %v", health, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	log.waitFor(t, "slot acquired, delivering")
}

func TestRunThatIsStoppedWhileInitWaitsEndsInGoodOrder(t *testing.T) {
	db := newDatabase(t)
	tx, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `SELECT pg_current_xact_id()`); err != nil {
		t.Fatal(err)
	}
	cfg := db.config(t, anyPort)
	t.Run("run", func(t *testing.T) { // its cleanup stops the relay and wants no error
		runInBackground(t, cfg, true).waitFor(t, "waiting for open transactions to end")
	})
}

// TestSlotOfSomebodyElseIsRefused: two applications on one server, both with
// the default slot name, run into it.
func TestSlotOfSomebodyElseIsRefused(t *testing.T) {
	of := func(sql string) func(*testing.T) (*database, string) {
		return func(t *testing.T) (*database, string) {
			db := newDatabase(t)
			db.script(t, fmt.Sprintf(sql, db.slot))
			return db, db.slot
		}
	}
	cases := []struct {
		name         string
		prepare      func(*testing.T) (db *database, slot string)
		detail, mend string
	}{
		{
			"another database", func(t *testing.T) (*database, string) {
				first, second := newDatabase(t), newDatabase(t)
				first.initialised(t, "")
				return &database{url: second.url, slot: first.slot, pool: second.pool}, first.slot + " belongs to database " + first.pool.Config().ConnConfig.Database
			},
			" (slot names are shared by all databases of a server)", "choose another source.slot",
		},
		{
			"another plugin", of(`SELECT pg_create_logical_replication_slot('%s', 'test_decoding');`),
			" uses plugin test_decoding, not pgoutput", "choose another source.slot, or drop that slot and run posthorn init",
		},
		{
			"physical", of(`SELECT pg_create_physical_replication_slot('%s');`),
			" is a physical slot, not one of pgoutput", "choose another source.slot, or drop that slot and run posthorn init",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			db, slot := c.prepare(t)
			cfg := db.config(t, anyPort)
			detail := "slot " + slot + c.detail
			wants(t, Init(t.Context(), cfg, InitOptions{}), detail+": "+c.mend) // all but the slot is there now
			wants(t, runToEnd(t, cfg, false), detail+": "+c.mend)
			wants(t, runToEnd(t, cfg, true), detail+": "+c.mend)
			wantFinding(t, Doctor(t.Context(), cfg), "slot", FindingFail, detail, c.mend)
		})
	}
}

func TestWantOfWALSendersIsWaitedFor(t *testing.T) {
	const senders = 2
	s, err := postgres.Start(t.Context(), postgres.Options{Settings: map[string]string{"max_wal_senders": fmt.Sprint(senders), "fsync": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	cfg := (&database{url: s.URL("postgres"), slot: "s"}).initialised(t, anyPort)
	var taken []*pgconn.PgConn
	free := func() {
		for _, conn := range taken {
			_ = conn.Close(context.Background())
		}
	}
	defer free()
	for deadline := time.Now().Add(30 * time.Second); len(taken) < senders; { // those of init may not have ended yet
		conn, err := pgconn.Connect(t.Context(), s.URL("postgres")+"&replication=database")
		if err == nil {
			taken = append(taken, conn)
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	wantFinding(t, Doctor(t.Context(), cfg), "slot", FindingFail, "53300", "raise max_wal_senders")
	for _, initFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("init first: %t", initFirst), func(t *testing.T) {
			runInBackground(t, cfg, initFirst).waitFor(t, "trying again", "53300", "raise max_wal_senders")
		})
	}
	log := runInBackground(t, cfg, true)
	log.waitFor(t, "trying again", "53300")
	free()
	log.waitFor(t, "slot acquired, delivering")
}
