package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/relay/internal/event"
)

// positions counts what is settled and says that everything up to it is.
type positions struct {
	mu      sync.Mutex
	settled int
	flush   event.LSN
}

func (p *positions) Settle(_ *event.Tx, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled += n
}

func (p *positions) Flushable() event.LSN {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flush
}

func (p *positions) set(flush event.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flush = flush
}

// open returns a migrated database's pool.
func open(t testing.TB) *pgxpool.Pool {
	t.Helper()
	url, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if _, err := pool.Exec(t.Context(), outbox.Schema()); err != nil {
		t.Fatal(err)
	}
	if _, err := Migrate(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if err := Enroll(t.Context(), pool, "s", 100); err != nil {
		t.Fatal(err)
	}
	return pool
}

// acquire returns a ledger that holds the slot.
func acquire(t testing.TB, pool *pgxpool.Pool) *Ledger {
	t.Helper()
	l := New(pool, "s", BodiesFailed, slog.New(slog.DiscardHandler))
	if _, err := l.Acquire(t.Context(), "test", "sys", 1); err != nil {
		t.Fatal(err)
	}
	return l
}

// write puts records and runs the writer until they are written.
func write(t *testing.T, l *Ledger, p *positions, records ...*Record) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, r := range records {
		l.Put(r)
	}
	l.Finish()
	err := l.Run(ctx, p, func() {})
	l.queue.closed = false
	return err
}

var committed = time.Date(2026, 5, 22, 9, 30, 0, 123456000, time.UTC)

func newRecord(n int, state State) *Record {
	e := &event.Event{
		ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, n)), Type: "t", Payload: []byte(`{"a": 1}`), CreatedAt: committed, CommittedAt: committed,
		Position: event.Position{LSN: 200, Index: int64(n)}, Tx: &event.Tx{},
	}
	return &Record{ID: event.DeliveryID(e.ID, endpointID), Endpoint: endpointID, Event: e, State: state, Attempts: 1, Settles: true, Status: 200}
}

var endpointID = event.EndpointID("e")

func texts(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSuccessIsOneRowAndPositionsAreRaised(t *testing.T) {
	pool := open(t)
	l, p := acquire(t, pool), &positions{flush: 300}
	if err := write(t, l, p, newRecord(1, Delivered), newRecord(2, Delivered)); err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]int{"deliveries": 2, "pending": 0, "payloads": 0, "attempts": 0} {
		if got := texts(t, pool, "SELECT count(*)::text FROM posthorn."+table); got[0] != fmt.Sprint(want) {
			t.Errorf("%s rows in %s, want %d", got[0], table, want)
		}
	}
	place, err := l.Place(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Place{SystemID: "sys", Timeline: 1, Epoch: 1, Holder: "test", Recorded: event.Position{LSN: 200, Index: 2}, Flushed: 300}
	if diff := cmp.Diff(want, place); diff != "" {
		t.Errorf("place (-want +got):\n%s", diff)
	}
	if p.settled != 2 || l.Flushed() != 300 {
		t.Errorf("settled %d, flushed %s; want 2, 0/12C", p.settled, l.Flushed())
	}
	p.set(250) // whatever is said later, the flushed position never goes back
	if err := write(t, l, p, newRecord(3, Delivered)); err != nil {
		t.Fatal(err)
	}
	if place, err = l.Place(t.Context()); err != nil || place.Flushed != 300 {
		t.Errorf("flushed %s, %v; want 0/12C", place.Flushed, err)
	}
}

func TestRelayOfAnOlderEpochIsFenced(t *testing.T) {
	pool := open(t)
	old := acquire(t, pool)
	acquire(t, pool)
	err := write(t, old, &positions{flush: 300}, newRecord(1, Delivered))
	if !errors.Is(err, ErrFenced) {
		t.Errorf("got %v, want ErrFenced", err)
	}
	if got := texts(t, pool, `SELECT count(*)::text FROM posthorn.deliveries`); got[0] != "0" {
		t.Errorf("the fenced relay wrote %s rows", got[0])
	}
}

func TestDeliveryInFlightOfAnOlderEpochIsDueAgain(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	if err := write(t, l, &positions{}, newRecord(1, Sending)); err != nil {
		t.Fatal(err)
	}
	claim := Claim{Endpoint: endpointID, Rows: 10, Bytes: 1 << 20}
	page, err := l.Claim(t.Context(), claim)
	if err != nil || len(page.Deliveries) != 0 {
		t.Fatalf("claimed %d, %v; want none while it is being sent", len(page.Deliveries), err)
	}
	page, err = acquire(t, pool).Claim(t.Context(), claim)
	if err != nil || len(page.Deliveries) != 1 {
		t.Fatalf("claimed %d, %v; want 1", len(page.Deliveries), err)
	}
}

func TestPoisonousRecordDoesNotStopTheRest(t *testing.T) {
	tests := []struct{ name, ddl, want string }{
		{"texts are refused", `ALTER TABLE posthorn.deliveries ADD CHECK (type <> 'poison')`, "99 t, 1 "},
		{"the event is refused altogether", `ALTER TABLE posthorn.deliveries ADD CHECK (index <> 50)`, "99 t"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pool := open(t)
			if _, err := pool.Exec(t.Context(), tt.ddl); err != nil {
				t.Fatal(err)
			}
			l, p := acquire(t, pool), &positions{flush: 300}
			var records []*Record
			for i := range 100 {
				records = append(records, newRecord(i, Delivered))
			}
			records[50].Event.Type = "poison"
			if err := write(t, l, p, records...); err != nil {
				t.Fatal(err)
			}
			got := texts(t, pool, `SELECT string_agg(n || ' ' || type, ', ' ORDER BY n DESC) FROM (SELECT count(*) AS n, type FROM posthorn.deliveries GROUP BY type) x`)
			if got[0] != tt.want {
				t.Errorf("recorded %q, want %q", got[0], tt.want)
			}
			if l.Flushed() != 300 {
				t.Errorf("flushed %s, want 0/12C", l.Flushed())
			}
		})
	}
}

// An application may write one id twice in one transaction, where nothing
// refuses it: as logical messages, or into a table of its own.
func TestOneDeliveryTwiceInABatchIsRecorded(t *testing.T) {
	pool := open(t)
	l, p := acquire(t, pool), &positions{flush: 300}
	again := newRecord(1, Delivered)
	again.Event.Position.Index = 9
	if err := write(t, l, p, newRecord(0, Delivered), newRecord(1, Delivered), again, newRecord(2, Delivered)); err != nil {
		t.Fatal(err)
	}
	if got := texts(t, pool, `SELECT count(*)::text FROM posthorn.deliveries WHERE type = 't'`); got[0] != "3" || l.Flushed() != 300 {
		t.Errorf("%s deliveries recorded and flushed %s, want 3 and 0/12C", got[0], l.Flushed())
	}
}

func TestCommitIsOnDiskAndLocksAreBoundedWhateverTheDatabaseSays(t *testing.T) {
	pool := open(t)
	if _, err := pool.Exec(t.Context(), `CREATE TABLE seen AS SELECT ''::text AS setting WHERE false;
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (current_setting('synchronous_commit') || ' ' ||
  current_setting('idle_in_transaction_session_timeout') || ' ' || current_setting('statement_timeout')); RETURN NULL; END $$;
CREATE TRIGGER see AFTER UPDATE ON posthorn.relay FOR EACH STATEMENT EXECUTE FUNCTION see();
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$`); err != nil {
		t.Fatal(err)
	}
	pool.Reset() // the setting is a new session's
	if err := write(t, acquire(t, pool), &positions{flush: 300}, newRecord(1, Delivered)); err != nil {
		t.Fatal(err)
	}
	want := []string{"on 5s 0", "on 5s 30s"} // the epoch, the batch
	if diff := cmp.Diff(want, texts(t, pool, `SELECT setting FROM seen`)); diff != "" {
		t.Errorf("synchronous_commit and how long an idle transaction and a statement may last (-want +got):\n%s", diff)
	}
}

func TestReaderOfTheLedgerHoldsNoNewDayUp(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `SELECT count(*) FROM posthorn.deliveries`); err != nil { // as a backup does
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // less than the lock's bound
	defer cancel()
	if err := l.write(ctx, []*Record{newRecord(1, Delivered)}, 300); err != nil {
		t.Error(err)
	}
	if err := l.PreparePartitions(ctx); err != nil {
		t.Error(err)
	}
}

func TestParkedDeliveryComesBackAsItWas(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	r := newRecord(1, Pending)
	r.Event.Tenant, r.Event.Key, r.Event.Headers = "acme", "k\u2028\"'", []byte(`{"a":"b"}`)
	r.Request = &Request{Method: "PUT", Headers: [][2]string{{"X-A", "1"}, {"X-B", "ü"}}, Body: []byte("\x00\xff body")}
	r.Attempt = &Attempt{Number: 1, StartedAt: committed, Outcome: "failed", Error: "bad \x00 text \xff", Response: []byte{0, 1, 255}}
	if err := write(t, l, &positions{}, r); err != nil {
		t.Fatal(err)
	}
	page, err := l.Claim(t.Context(), Claim{Endpoint: endpointID, Rows: 10, Bytes: 1 << 20})
	if err != nil || len(page.Deliveries) != 1 {
		t.Fatalf("claimed %d, %v", len(page.Deliveries), err)
	}
	got := page.Deliveries[0]
	sameEvent := cmp.Comparer(func(a, b *event.Event) bool {
		return a.ID == b.ID && a.Type == b.Type && a.Tenant == b.Tenant && a.Key == b.Key && string(a.Payload) == string(b.Payload) &&
			string(a.Headers) == string(b.Headers) && a.Position == b.Position && a.CommittedAt.Equal(b.CommittedAt) && a.CreatedAt.Equal(b.CreatedAt)
	})
	if !cmp.Equal(r.Event, got.Event, sameEvent) {
		t.Errorf("event %+v, want %+v", got.Event, r.Event)
	}
	if diff := cmp.Diff(r.Request, got.Request); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	done := newRecord(1, Delivered)
	done.Event, done.Stored, done.Settles, done.Attempts = got.Event, true, false, 2
	if err := write(t, l, &positions{}, done); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"pending", "payloads"} {
		if got := texts(t, pool, "SELECT count(*)::text FROM posthorn."+table); got[0] != "0" {
			t.Errorf("%s rows are left in %s", got[0], table)
		}
	}
}

// ordered returns a parked delivery of a key, at position n.
func ordered(n int, key string) *Record {
	r := newRecord(n, Pending)
	r.Attempts, r.Event.Key = 0, key
	hash, _ := r.Event.KeyHash()
	r.KeyHash = &hash
	return r
}

func TestOrderedClaimIsTheHeadsWithTheirFollowers(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	retrying := ordered(4, "b")
	retrying.Attempts, retrying.Wait = 1, time.Hour
	if err := write(t, l, &positions{}, ordered(3, "a"), ordered(1, "a"), ordered(2, "a"), retrying, ordered(5, "b"), ordered(6, "c")); err != nil {
		t.Fatal(err)
	}
	claim := func(exclude ...uuid.UUID) (got []int64) {
		page, err := l.Claim(t.Context(), Claim{Endpoint: endpointID, Ordered: true, Rows: 100, Bytes: 1 << 20, Exclude: exclude})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.Deliveries {
			got = append(got, d.Event.Position.Index)
		}
		return got
	}
	if diff := cmp.Diff([]int64{1, 6, 2, 3}, claim()); diff != "" {
		t.Errorf("claimed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{6}, claim(ordered(1, "a").ID)); diff != "" {
		t.Errorf("claimed while 1 is being sent (-want +got):\n%s", diff)
	}
	done := ordered(1, "a")
	done.State, done.Stored, done.Settles = Delivered, true, false
	if err := write(t, l, &positions{}, done); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{6, 2, 3}, claim()); diff != "" {
		t.Errorf("claimed after 1 is final (-want +got):\n%s", diff)
	}
}

func TestClaimIsBoundedInRowsAndBytes(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	var records []*Record
	for i := range 20 {
		r := newRecord(i, Pending)
		r.Event.Payload = make([]byte, 1000)
		for j := range r.Event.Payload {
			r.Event.Payload[j] = ' '
		}
		records = append(records, r)
	}
	if err := write(t, l, &positions{}, records...); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		rows  int
		bytes int64
		want  int
	}{{5, 1 << 20, 5}, {100, 3500, 4}, {100, 1, 1}, {100, 1 << 20, 20}} {
		page, err := l.Claim(t.Context(), Claim{Endpoint: endpointID, Rows: tt.rows, Bytes: tt.bytes})
		if err != nil || len(page.Deliveries) != tt.want || page.More != (tt.want < 20) {
			t.Errorf("rows %d, bytes %d: claimed %d, more %t, %v; want %d", tt.rows, tt.bytes, len(page.Deliveries), page.More, err, tt.want)
		}
	}
}

// What was rendered needs no transform, whatever its type.
func TestClaimLeavesTypesOut(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	var records []*Record
	for i, eventType := range []string{"slow", "slow", "quick", "other"} {
		r := newRecord(i, Pending)
		r.Event.Type = eventType
		if i == 1 {
			r.Attempts, r.Request = 1, &Request{Method: "POST"}
		}
		records = append(records, r)
	}
	if err := write(t, l, &positions{}, records...); err != nil {
		t.Fatal(err)
	}
	for _, ordered := range []bool{false, true} {
		page, err := l.Claim(t.Context(), Claim{Endpoint: endpointID, Ordered: ordered, Except: []string{"slow", "other"}, Rows: 100, Bytes: 1 << 20})
		if err != nil || len(page.Deliveries) != 2 || page.More || page.NextDue >= 0 {
			t.Fatalf("claimed %+v, %v", page, err)
		}
		for _, d := range page.Deliveries {
			if d.Event.Type != "quick" && d.Request == nil {
				t.Errorf("claimed one of type %s that was not rendered", d.Event.Type)
			}
		}
	}
}

func TestPartitionsAreDroppedButNoneAboveTheFlushedPosition(t *testing.T) {
	pool := open(t)
	l, p := acquire(t, pool), &positions{flush: 150}
	old, newer := newRecord(1, Delivered), newRecord(2, Delivered)
	old.Event.CommittedAt = time.Now().Add(-72 * time.Hour)
	newer.Event.CommittedAt = time.Now()
	if err := write(t, l, p, old, newer); err != nil {
		t.Fatal(err)
	}
	drop := func() int {
		dropped, err := l.DropPartitions(t.Context(), 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return len(dropped)
	}
	if n := drop(); n != 0 {
		t.Errorf("%d partitions dropped although a delivery in them is above the flushed position", n)
	}
	p.set(300)
	if err := write(t, l, p); err != nil {
		t.Fatal(err)
	}
	if n := drop(); n != 1 {
		t.Errorf("%d partitions dropped, want 1", n)
	}
	if got := texts(t, pool, `SELECT count(*)::text FROM posthorn.deliveries`); got[0] != "1" {
		t.Errorf("%s deliveries are left, want 1", got[0])
	}
	old.Event.ID, old.ID = uuid.New(), uuid.New() // its day comes again: the partition does too
	if err := write(t, l, p, old); err != nil {
		t.Fatal(err)
	}
}

func TestLedgerThatCannotBeWrittenSettlesNothingAndRecovers(t *testing.T) {
	pool := open(t)
	l, p := acquire(t, pool), &positions{flush: 300}
	if _, err := pool.Exec(t.Context(), `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON posthorn.deliveries FOR EACH STATEMENT EXECUTE FUNCTION full_disk()`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	l.Put(newRecord(1, Delivered))
	go func() { done <- l.Run(ctx, p, func() {}) }()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !l.Unreachable() {
		<-ticker.C
	}
	if l.Flushed() != 100 {
		t.Errorf("flushed %s although nothing was written", l.Flushed())
	}
	if _, err := pool.Exec(t.Context(), `DROP TRIGGER full_disk ON posthorn.deliveries`); err != nil {
		t.Fatal(err)
	}
	l.Finish()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if l.Flushed() != 300 || l.Unreachable() {
		t.Errorf("flushed %s, unreachable %t; want 0/12C, false", l.Flushed(), l.Unreachable())
	}
}

// A relay that was stopped while the server waits for the rest of its COPY
// keeps its row locked: no timeout of the server's ends that.
func TestWhoTakesOverEndsABatchThatStands(t *testing.T) {
	pool := open(t)
	acquire(t, pool)
	stopped, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stopped.Release()
	if _, err := stopped.Exec(t.Context(), `BEGIN; UPDATE posthorn.relay SET updated_at = now()`); err != nil {
		t.Fatal(err)
	}
	place, err := New(pool, "s", BodiesFailed, slog.New(slog.DiscardHandler)).Acquire(t.Context(), "other", "sys", 1)
	if err != nil || place.Epoch != 2 {
		t.Errorf("epoch %d: %v", place.Epoch, err)
	}
	if _, err := stopped.Exec(t.Context(), `COMMIT`); err == nil {
		t.Error("the relay before could go on")
	}
}
