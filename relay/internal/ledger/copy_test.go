package ledger

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// rowsAsText returns all deliveries, without the server's time.
func rowsAsText(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	return texts(t, pool, `SELECT (to_jsonb(d) - 'finished_at')::text FROM posthorn.deliveries d ORDER BY index`)
}

// Whatever the way, a record is the same row.
func TestRecordIsCopiedAsItIsInserted(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	l.bodies = BodiesAll
	bare := newRecord(0, Skipped)
	bare.Status, bare.Attempts, bare.Error = 0, 0, "dropped by \xff \x00 "+strings.Repeat("ü", errorLimit)
	full := newRecord(1, Delivered)
	full.Event.Tenant, full.Event.Key, full.Event.Headers = "acme", "k\u2028\"'\\", []byte(`{"a":"b"}`)
	full.Event.Position.LSN = event.LSN(0xfedcba98_76543210)
	full.Event.CreatedAt = time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC)
	full.Request = &Request{Method: "PUT", Headers: [][2]string{{"X-A", "ü"}}, Body: []byte("\x00\xff body")}
	large := newRecord(2, Failed) // larger than what is sent at once
	large.Event.Payload = nil
	large.Request = &Request{Method: "POST", Body: bytes.Repeat([]byte("large "), 50_000)}
	records := []*Record{bare, large, full} // the last one is sent after another
	if err := l.rewrite(t.Context(), records, 300); err != nil {
		t.Fatal(err)
	}
	want := rowsAsText(t, pool)
	if _, err := pool.Exec(t.Context(), `TRUNCATE posthorn.deliveries`); err != nil {
		t.Fatal(err)
	}
	if err := l.write(t.Context(), records, 300); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, rowsAsText(t, pool)); diff != "" || len(want) != len(records) {
		t.Errorf("%d rows; inserted and copied (-want +got):\n%s", len(want), diff)
	}
	if got := texts(t, pool, `SELECT count(*)::text FROM posthorn.deliveries WHERE finished_at BETWEEN now() - interval '1 minute' AND now()`); got[0] != "3" {
		t.Errorf("%s rows say when they became final, want 3", got[0])
	}
}

// mixed returns records of each way into the ledger: copied, parked, tried.
func mixed() []*Record {
	var records []*Record
	for i := range 20 {
		r := newRecord(i, Delivered)
		switch i % 5 {
		case 1:
			r.State = Pending
		case 2:
			r.State = Failed
			r.Attempt = &Attempt{Number: 1, StartedAt: committed, Outcome: "rejected", Status: 500}
		}
		records = append(records, r)
	}
	return records
}

func counts(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	return texts(t, pool, `SELECT concat_ws(' ', (SELECT count(*) FROM posthorn.deliveries), (SELECT count(*) FROM posthorn.pending),
  (SELECT count(*) FROM posthorn.payloads), (SELECT count(*) FROM posthorn.attempts))`)[0]
}

// The answer to a commit can get lost with the connection.
func TestBatchThatWasCommittedAlreadyIsWrittenAgain(t *testing.T) {
	pool := open(t)
	l, p := acquire(t, pool), &positions{flush: 300}
	if err := l.write(t.Context(), mixed(), 250); err != nil {
		t.Fatal(err)
	}
	rows := rowsAsText(t, pool)
	if err := write(t, l, p, append(mixed(), newRecord(20, Delivered))...); err != nil {
		t.Fatal(err)
	}
	if got := counts(t, pool); got != "17 4 4 4" || l.Flushed() != 300 {
		t.Errorf("%s rows, flushed %s; want 17 4 4 4, 0/12C", got, l.Flushed())
	}
	if diff := cmp.Diff(rows, rowsAsText(t, pool)[:16]); diff != "" {
		t.Errorf("deliveries (-before +after):\n%s", diff)
	}
}

func TestBatchIsOneTransactionWhicheverWaysItsRecordsGo(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	if _, err := pool.Exec(t.Context(), `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER full_disk AFTER INSERT ON posthorn.deliveries FOR EACH STATEMENT EXECUTE FUNCTION full_disk()`); err != nil {
		t.Fatal(err)
	}
	connections := pool.Stat().NewConnsCount()
	for range 3 {
		if err := l.write(t.Context(), mixed(), 300); codeOf(err) != "53100" {
			t.Fatalf("got %v, want SQLSTATE 53100", err)
		}
	}
	if got := counts(t, pool); got != "0 0 0 0" {
		t.Errorf("%s rows are left of a batch that failed", got)
	}
	if place, err := l.Place(t.Context()); err != nil || place.Flushed != 100 || place.Recorded.LSN != 0 {
		t.Errorf("the batch that failed left %+v, %v", place, err)
	}
	if got := pool.Stat().NewConnsCount(); got != connections {
		t.Errorf("%d connections were made anew", got-connections)
	}
	if _, err := pool.Exec(t.Context(), `DROP TRIGGER full_disk ON posthorn.deliveries`); err != nil {
		t.Fatal(err)
	}
	if err := l.write(t.Context(), mixed(), 300); err != nil {
		t.Fatal(err)
	}
	if got := counts(t, pool); got != "16 4 4 4" {
		t.Errorf("%s rows, want 16 4 4 4", got)
	}
}

// A transaction that fails leaves a connection that can be used again, wherever
// it fails and however much of the rows is still under way.
func TestConnectionOutlivesACopyThatFails(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	var batch []*Record
	for i := range 20 {
		r := newRecord(i, Failed)
		r.Error = strings.Repeat("x", errorLimit)
		r.Request = &Request{Method: "POST", Body: bytes.Repeat([]byte("large "), 20_000)}
		batch = append(batch, r)
	}
	l.bodies = BodiesFailed
	exec := func(sql string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'a word for each row'; RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON posthorn.deliveries FOR EACH ROW EXECUTE FUNCTION full_disk()`)
	connections := pool.Stat().NewConnsCount()
	for range 3 {
		if err := l.write(t.Context(), batch, 300); codeOf(err) != "53100" {
			t.Fatalf("got %v, want SQLSTATE 53100", err)
		}
	}
	exec(`DROP TRIGGER full_disk ON posthorn.deliveries`)
	exec(`UPDATE posthorn.relay SET epoch = epoch + 1`)
	if err := l.write(t.Context(), batch, 300); codeOf(err) != "PH001" {
		t.Fatalf("got %v, want SQLSTATE PH001", err)
	}
	exec(`UPDATE posthorn.relay SET epoch = epoch - 1`)
	if err := l.write(t.Context(), batch, 300); err != nil {
		t.Fatal(err)
	}
	if got := counts(t, pool); got != "20 0 0 0" {
		t.Errorf("%s rows, want 20 0 0 0", got)
	}
	if got := pool.Stat().NewConnsCount(); got != connections {
		t.Errorf("%d connections were made anew", got-connections)
	}
}

// Who is cut off in the midst of a batch learns what the server said, if it
// said something, and gets a new connection.
func TestCopyThatIsCutOffTellsWhy(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	exec := func(sql string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE FUNCTION stopped() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(5); RETURN NEW; END $$;
CREATE TRIGGER stopped BEFORE INSERT ON posthorn.deliveries FOR EACH ROW EXECUTE FUNCTION stopped()`)
	batch := []*Record{newRecord(1, Delivered)}
	if err := l.write(t.Context(), batch, 300); codeOf(err) != "57P01" {
		t.Errorf("got %v, want SQLSTATE 57P01", err)
	}
	exec(`CREATE OR REPLACE FUNCTION stopped() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NEW; END $$`)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := l.write(ctx, batch, 300); err == nil || ctx.Err() == nil {
		t.Errorf("got %v before the deadline", err)
	}
	exec(`DROP TRIGGER stopped ON posthorn.deliveries`) // once the session that sleeps has committed, which nobody told us
	if err := l.write(t.Context(), batch, 300); codeOf(err) != uniqueViolation {
		t.Errorf("got %v, want SQLSTATE %s", err, uniqueViolation)
	}
	if err := l.rewrite(t.Context(), batch, 300); err != nil {
		t.Error(err)
	}
}
