package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/integration/postgres"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

func TestInitCanBeRunAgainAndLeavesThingsAsTheyAre(t *testing.T) {
	db := newDatabase(t)
	var first []string
	if err := Init(t.Context(), db.config(t, ""), InitOptions{Progress: func(s string) { first = append(first, s) }}); err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(first, "\n"); !strings.Contains(all, "slot "+db.slot+" is ready, from ") {
		t.Errorf("progress lacks the slot:\n%s", all)
	}
	place := db.text(t, `SELECT flushed_lsn::text FROM posthorn.relay`)
	if confirmed := db.text(t, `SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1`, db.slot); place != confirmed {
		t.Errorf("the ledger starts at %s, the slot at %s", place, confirmed)
	}
	db.script(t, `INSERT INTO posthorn.outbox (type, payload) VALUES ('a.b', '1');`)
	if err := Init(t.Context(), db.config(t, ""), InitOptions{}); err != nil {
		t.Fatal(err)
	}
	if again := db.text(t, `SELECT flushed_lsn::text FROM posthorn.relay`); again != place {
		t.Errorf("the second init moved the ledger from %s to %s", place, again)
	}
}

func TestInitCanBeRunByManyAtOnce(t *testing.T) {
	db := newDatabase(t)
	cfg := db.config(t, "")
	errs := make(chan error)
	for range 4 {
		go func() { errs <- Init(t.Context(), cfg, InitOptions{}) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestInitMendsAPublication(t *testing.T) {
	db := newDatabase(t)
	db.script(t, `CREATE TABLE other (a int PRIMARY KEY); CREATE PUBLICATION posthorn FOR TABLE other WITH (publish = 'update');`)
	db.initialised(t, "")
	got := db.text(t, `SELECT format('%s %s %s', pubinsert, pubupdate, pubdelete) FROM pg_publication`)
	if got != "t t f" {
		t.Errorf("inserts, updates, deletes: %s", got)
	}
	if got := db.text(t, `SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables`); got != "other outbox" {
		t.Errorf("published tables: %s", got)
	}
}

func TestInitAcceptsAPartitionedTableOfAnotherShape(t *testing.T) {
	db := newDatabase(t)
	db.script(t, `CREATE SCHEMA "my app";
		CREATE TABLE "my app"."Events" (no bigint, kind text, body jsonb, at timestamp) PARTITION BY RANGE (at);
		CREATE TABLE "my app".e1 PARTITION OF "my app"."Events" DEFAULT;`)
	db.initialised(t, `source: {table: my app.Events, columns: {id: no, type: kind, payload: body, created_at: at}}`)
	if got := db.text(t, `SELECT tablename FROM pg_publication_tables`); got != "Events" {
		t.Errorf("published: %s", got)
	}
	if got := db.text(t, `SELECT coalesce(to_regclass('posthorn.outbox')::text, 'none')`); got != "none" {
		t.Errorf("an outbox of ours was created beside the one that is mapped")
	}
}

func TestInitKeepsTheLedgerInAnotherDatabase(t *testing.T) {
	db, other := newDatabase(t), newDatabase(t)
	db.initialised(t, "ledger: {url: '"+other.url+"'}")
	if got := other.text(t, `SELECT slot FROM posthorn.relay`); got != db.slot {
		t.Errorf("the ledger belongs to slot %s", got)
	}
	if got := db.text(t, `SELECT coalesce(to_regclass('posthorn.relay')::text, 'none')`); got != "none" {
		t.Error("the application's database has a ledger, too")
	}
}

func TestInitRefuses(t *testing.T) {
	t.Run("a server that does not decode its WAL", func(t *testing.T) {
		replica, err := postgres.Start(t.Context(), postgres.Options{Settings: map[string]string{"wal_level": "replica"}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := replica.Stop(); err != nil {
				t.Error(err)
			}
		}()
		cfg := (&database{url: replica.URL("postgres"), slot: "s"}).config(t, "")
		wants(t, Init(t.Context(), cfg, InitOptions{}), "wal_level is replica and must be logical", "ALTER SYSTEM SET wal_level = 'logical'")
		wantFinding(t, Doctor(t.Context(), cfg), "wal_level", FindingFail, "replica", "ALTER SYSTEM SET wal_level = 'logical'")
	})
	t.Run("a role that may not replicate", func(t *testing.T) {
		db := newDatabase(t)
		limited := db.as(t, "NOREPLICATION")
		cfg := limited.config(t, "")
		wants(t, Init(t.Context(), cfg, InitOptions{}), "may not replicate", "ALTER ROLE", "REPLICATION")
		wantFinding(t, Doctor(t.Context(), cfg), "replication privilege", FindingFail, "may not replicate", "REPLICATION;")
	})
	t.Run("a server that is not there", func(t *testing.T) {
		cfg := (&database{url: "postgres://u:hidden@127.0.0.1:1/d", slot: "s"}).config(t, "")
		err := Init(t.Context(), cfg, InitOptions{})
		wants(t, err, "127.0.0.1")
		if strings.Contains(fmt.Sprint(err), "hidden") {
			t.Errorf("the error holds the password: %v", err)
		}
		wantFinding(t, Doctor(t.Context(), cfg), "database", FindingFail, "127.0.0.1", "start Postgres")
	})
	t.Run("a wrong password", func(t *testing.T) {
		cfg := (&database{url: strings.Replace(server.URL("postgres"), "//postgres:", "//postgres:wrong", 1), slot: "s"}).config(t, "")
		wants(t, Init(t.Context(), cfg, InitOptions{}), "database.url")
	})
	t.Run("a table that lacks a mapped column", func(t *testing.T) {
		db := newDatabase(t)
		cfg := db.config(t, "source: {columns: {key: aggregate_id}}")
		wants(t, Init(t.Context(), cfg, InitOptions{}), "aggregate_id (for key)", "source.columns")
		wantFinding(t, Doctor(t.Context(), cfg), "outbox", FindingFail, "aggregate_id", "posthorn init")
	})
	t.Run("a table that does not exist", func(t *testing.T) {
		db := newDatabase(t)
		wants(t, Init(t.Context(), db.config(t, "source: {table: app.events}"), InitOptions{}), "table app.events does not exist", "source.table")
	})
	t.Run("a slot that is gone although the ledger knows it", func(t *testing.T) {
		db := newDatabase(t)
		cfg := db.initialised(t, "")
		db.script(t, `SELECT pg_drop_replication_slot('`+db.slot+`');`)
		err := Init(t.Context(), cfg, InitOptions{})
		var step *OutOfStepError
		if !errors.As(err, &step) {
			t.Errorf("got %v, not an OutOfStepError", err)
		}
		wantFinding(t, Doctor(t.Context(), cfg), "slot", FindingFail, "missing although the ledger knows it", "posthorn uninstall")
	})
	t.Run("a ledger of another slot", func(t *testing.T) {
		db := newDatabase(t)
		db.initialised(t, "")
		db.script(t, `UPDATE posthorn.relay SET slot = 'another';`)
		wants(t, Init(t.Context(), db.config(t, ""), InitOptions{}), "belongs to slot another")
	})
	t.Run("a backfill of a slot that exists", func(t *testing.T) {
		db := newDatabase(t)
		cfg := db.initialised(t, "")
		wants(t, Init(t.Context(), cfg, InitOptions{Backfill: true}), "exists already", "--backfill")
	})
}

func TestInitEnrollsASlotThatTheLedgerDoesNotKnow(t *testing.T) {
	db := newDatabase(t)
	db.script(t, `SELECT pg_create_logical_replication_slot('`+db.slot+`', 'pgoutput');`)
	confirmed := db.text(t, `SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1`, db.slot)
	db.initialised(t, "")
	if got := db.text(t, `SELECT flushed_lsn::text FROM posthorn.relay`); got != confirmed {
		t.Errorf("the ledger starts at %s, the slot at %s", got, confirmed)
	}
}

// TestInitSaysWhoseTransactionItWaitsFor also holds that what init did before
// takes no lock that a transaction with an insert holds.
func TestInitSaysWhoseTransactionItWaitsFor(t *testing.T) {
	db := newDatabase(t)
	db.initialised(t, "") // all but the slot
	db.script(t, `SELECT pg_drop_replication_slot('`+db.slot+`'); DELETE FROM posthorn.relay;`)
	conn, err := pgx.Connect(t.Context(), db.url+"&application_name=slowpoke")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO posthorn.outbox (type, payload) VALUES ('a.b', '1')`); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 100)
	done := make(chan error, 1)
	go func() {
		done <- Init(t.Context(), db.config(t, ""), InitOptions{Progress: func(s string) { said <- s }})
	}()
	want := fmt.Sprintf("pid %d (user postgres, application slowpoke", conn.PgConn().PID())
	for waiting := true; waiting; {
		select {
		case s := <-said:
			waiting = !strings.Contains(s, want)
		case err := <-done:
			t.Fatalf("init did not wait: %v", err)
		case <-time.After(30 * time.Second):
			t.Fatalf("init does not say %q", want)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestInitThatIsCancelledLeavesNoSlot(t *testing.T) {
	db := newDatabase(t)
	tx, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `SELECT pg_current_xact_id()`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = Init(ctx, db.config(t, ""), InitOptions{Progress: func(s string) {
		if strings.HasPrefix(s, "waiting for open transactions") {
			cancel()
		}
	}})
	if err == nil || ctx.Err() == nil {
		t.Fatalf("init was not cancelled: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone := `SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = $1`
	deadline := time.Now().Add(20 * time.Second)
	for db.text(t, gone, db.slot) != "0" { // the server notices in its own time
		if time.Now().After(deadline) {
			t.Fatal("the slot is still there")
		}
	}
}

func TestBackfillSendsTheRowsBeforeTheSlotOnce(t *testing.T) {
	db := newDatabase(t)
	db.initialised(t, "")
	db.script(t, `SELECT pg_drop_replication_slot('`+db.slot+`'); DELETE FROM posthorn.relay;
		INSERT INTO posthorn.outbox (id, type, tenant, key, payload, headers, created_at) VALUES
		('0198f1d2-0000-7000-8000-000000000002', 'b.c', NULL, NULL, '{"b":  1.0, "a": "<ü>", "b": 2}', NULL, 'infinity'),
		('0198f1d2-0000-7000-8000-000000000001', 'a.b', 't', 'k', '"x"', '{"h": "v"}', '2026-01-02 03:04:05.678901+02');`)
	if err := Init(t.Context(), db.config(t, ""), InitOptions{Backfill: true}); err != nil {
		t.Fatal(err)
	}
	type message struct {
		ID, Type, Tenant, Key string
		Payload, Headers      json.RawMessage
		CreatedAt             time.Time `json:"created_at"`
	}
	rows, err := db.pool.Query(t.Context(), `SELECT convert_from(substring(data from 1), 'UTF8') FROM (
		SELECT substring(data from position('{'::bytea in data)) AS data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', 'posthorn', 'messages', 'true') WHERE get_byte(data, 0) = ascii('M')) m`, db.slot)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	var got []message
	for _, text := range texts {
		var m message
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatalf("decode %s: %v", text, err)
		}
		m.CreatedAt = m.CreatedAt.UTC()
		got = append(got, m)
	}
	want := []message{
		{"0198f1d2-0000-7000-8000-000000000001", "a.b", "t", "k", json.RawMessage(`"x"`), json.RawMessage(`{"h": "v"}`), time.Date(2026, 1, 2, 1, 4, 5, 678901000, time.UTC)},
		{"0198f1d2-0000-7000-8000-000000000002", "b.c", "", "", json.RawMessage(`{"b":  1.0, "a": "<ü>", "b": 2}`), json.RawMessage(`null`), time.Time{}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages differ (-want +got):\n%s", diff)
	}
}

func TestBackfillThatFailsLeavesNoSlot(t *testing.T) {
	db := newDatabase(t)
	db.script(t, `CREATE TABLE events (id int PRIMARY KEY, type text, payload text); INSERT INTO events VALUES (1, 'a', 'not json');`)
	wants(t, Init(t.Context(), db.config(t, "source: {table: events}"), InitOptions{Backfill: true}), "public.events holds already", "json")
	if n := db.text(t, `SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = $1`, db.slot); n != "0" {
		t.Error("the slot is still there")
	}
}

// as returns the database for a new role that may log in.
func (db *database) as(t *testing.T, attributes string) *database {
	t.Helper()
	role := "role_" + db.slot
	db.script(t, `CREATE ROLE `+role+` LOGIN PASSWORD 'x' `+attributes+`;`)
	t.Cleanup(func() {
		if _, err := db.pool.Exec(context.Background(), `DROP OWNED BY `+role+`; DROP ROLE `+role, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(db.url)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "x")
	return &database{url: u.String(), slot: db.slot, pool: db.pool}
}

// TestInitSQLGivesARoleJustWhatTheRelayNeeds does as that role what a relay
// does, from acquiring to dropping partitions.
func TestInitSQLGivesARoleJustWhatTheRelayNeeds(t *testing.T) {
	db := newDatabase(t)
	limited := db.as(t, "REPLICATION")
	cfg := limited.config(t, `endpoints: [{name: e, url: "http://127.0.0.1:1/", events: ["*"]}]`)
	db.script(t, InitSQL(cfg, "role_"+db.slot))
	db.script(t, `INSERT INTO posthorn.outbox (type, payload, created_at) VALUES ('a.b', '1', now() - interval '1 year');`)

	if err := Init(t.Context(), cfg, InitOptions{}); err != nil { // finds everything done
		t.Fatal(err)
	}
	for _, f := range Doctor(t.Context(), cfg) {
		if f.State == FindingFail || f.State == FindingSkipped {
			t.Errorf("doctor: %+v", f)
		}
	}
	r, err := New(cfg, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer r.databases.close()
	defer r.client.Close()
	s, err := r.acquire(t.Context()) // checks, Place, Start, Acquire, SyncEndpoints, Backlogs, keys
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	read := make(chan error)
	go func() { read <- s.reader.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-read; err != nil {
			t.Error(err)
		}
	}()
	endpoint := r.endpoints.lanes[0].ID
	written := make(chan struct{}, 2)
	for i, state := range []ledger.State{ledger.Pending, ledger.Failed} { // parked with its payload, then final
		e := &event.Event{ID: uuid.Nil, Type: "a.b", Payload: []byte("1"), CreatedAt: time.Now(), CommittedAt: time.Now().Add(-90 * 24 * time.Hour)}
		s.ledger.Put(&ledger.Record{
			ID: event.DeliveryID(e.ID, endpoint), Endpoint: endpoint, Event: e, State: state, Attempts: 1, Stored: i > 0,
			Attempt: &ledger.Attempt{Number: 1, StartedAt: time.Now(), Outcome: "failed"}, Committed: func() { written <- struct{}{} },
		})
	}
	s.ledger.Finish()
	if err := s.ledger.Run(t.Context(), s.tracker, func() {}); err != nil {
		t.Fatal(err)
	}
	<-written
	<-written
	if _, err := s.ledger.Claim(t.Context(), ledger.Claim{Endpoint: endpoint, Rows: 1, Bytes: 1}); err != nil {
		t.Error(err)
	}
	for name, do := range map[string]func(context.Context) error{
		"heartbeat": s.beat, "health": func(ctx context.Context) error {
			return s.ledger.SetHealth(ctx, endpoint, ledger.Health{State: ledger.Enabled, Failing: true, Failures: 5})
		},
		"sessions": func(ctx context.Context) error {
			opened := ledger.Session{Name: "ops", Role: "viewer", Via: "web", Lasts: time.Hour}
			return errors.Join(s.ledger.OpenSession(ctx, opened, testActor), s.ledger.CloseSession(ctx, opened.Hash, ""))
		},
		"changes": func(ctx context.Context) error { _, err := s.ledger.Changed(ctx, time.Time{}); return err },
		"hold":    func(ctx context.Context) error { return s.ledger.Hold(ctx, endpoint, ledger.Paused, "it fails") },
	} {
		if err := do(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	limited.retryAndDrop(t, s, event.DeliveryID(uuid.Nil, endpoint))
	if _, err := r.databases.source.Pool.Exec(t.Context(), `DELETE FROM posthorn.outbox WHERE created_at < now() - interval '1 day'`); err != nil {
		t.Errorf("clean: %v", err)
	}
	for what, sql := range map[string]string{
		"insert events": `INSERT INTO posthorn.outbox (type, payload) VALUES ('a', '1')`,
		"drop a table":  `DROP TABLE posthorn.pending`,
		"truncate":      `TRUNCATE posthorn.audit`,
	} {
		if _, err := r.databases.source.Pool.Exec(t.Context(), sql); err == nil {
			t.Errorf("the relay's role may %s", what)
		}
	}
}

// retryAndDrop resumes an endpoint and retries a final delivery as an operator
// does, then ends it again, and drops its partition.
func (db *database) retryAndDrop(t *testing.T, s *session, id uuid.UUID) {
	t.Helper()
	o, err := OpenOperator(s.relay.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if _, err := o.Show(t.Context(), id); err != nil {
		t.Error(err)
	}
	if list, err := o.Endpoints(t.Context(), true); err != nil || len(list) != 1 || list[0].State != EndpointPaused {
		t.Errorf("endpoints: %+v, %v", list, err)
	}
	if _, err := o.Pause(t.Context(), "e", "by hand", testActor); err != nil {
		t.Error(err)
	}
	if _, err := o.Resume(t.Context(), "e", "", testActor); err != nil {
		t.Error(err)
	}
	if _, err := o.Retry(t.Context(), id, testActor); err != nil {
		t.Error(err)
	}
	dropped, err := s.ledger.DropPartitions(t.Context(), 24*time.Hour)
	if err != nil || len(dropped) != 1 {
		t.Errorf("dropped %v, %v", dropped, err)
	}
}

func TestInitSQLForALedgerElsewhereIsCompletedByInit(t *testing.T) {
	db, other := newDatabase(t), newDatabase(t)
	cfg := db.config(t, "ledger: {url: '"+other.url+"'}")
	sql := InitSQL(cfg, "postgres")
	first, second, ok := strings.Cut(sql, "-- PART 2: the database of ledger.url")
	if !ok {
		t.Fatalf("no second part:\n%s", sql)
	}
	db.script(t, first)
	other.script(t, second)
	db.initialised(t, "ledger: {url: '"+other.url+"'}")
	if got := other.text(t, `SELECT slot FROM posthorn.relay`); got != db.slot {
		t.Errorf("the ledger belongs to slot %s", got)
	}
}
