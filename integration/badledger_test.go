package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// unrecorded is how many deliveries the relay makes, beside those in flight,
// while none of them can be recorded; inFlight is how many an endpoint has in
// flight by default.
const (
	unrecorded = 1000
	inFlight   = 16
)

// affliction is something that befalls the ledger, and its cure.
type affliction struct {
	name      string
	afflict   func(t *testing.T, db *database) (mend func())
	ownServer bool
	says      string // in the relay's log, what is wrong
}

var afflictions = []affliction{
	{name: "full", afflict: fillLedger, says: "SQLSTATE 53100"},
	{name: "locked", afflict: lockLedger, says: "timeout"},
	{name: "read-only", afflict: makeReadOnly, ownServer: true, says: "read-only transaction"},
}

// fillLedger has each insert of a delivery fail as on a full disk.
func fillLedger(t *testing.T, db *database) (mend func()) {
	db.script(t, `
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON posthorn.deliveries FOR EACH STATEMENT EXECUTE FUNCTION refuse()`)
	return func() { db.exec(t, `DROP TRIGGER full_disk ON posthorn.deliveries`) }
}

// lockLedger holds a lock on the deliveries.
func lockLedger(t *testing.T, db *database) (mend func()) {
	tx, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // an error if it was mended
	if _, err := tx.Exec(t.Context(), `LOCK TABLE posthorn.deliveries IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// makeReadOnly does what providers do to a server whose disk is nearly full.
func makeReadOnly(t *testing.T, db *database) (mend func()) {
	alter := func(statement string) {
		db.exec(t, statement)
		db.exec(t, `SELECT pg_reload_conf()`)
	}
	alter(`ALTER SYSTEM SET default_transaction_read_only = on`)
	eventually(t, 10*time.Second, func() error {
		var state string
		if err := db.pool.QueryRow(t.Context(), `SHOW default_transaction_read_only`).Scan(&state); err != nil {
			return err
		}
		if state != "on" {
			return fmt.Errorf("default_transaction_read_only is %s", state)
		}
		return nil
	})
	return func() { alter(`ALTER SYSTEM RESET default_transaction_read_only`) }
}

func TestLedgerThatCannotBeWrittenStopsAcknowledging(t *testing.T) {
	t.Parallel() // what takes long is the server's patience
	for _, a := range afflictions {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			testAffliction(t, a)
		})
	}
}

func testAffliction(t *testing.T, a affliction) {
	s := server
	if a.ownServer {
		s = newServer(t, serverSettings("off"))
	}
	db, rcv := newDatabaseOn(t, s), newReceiver(t, "/a")
	e := rcv.endpoints["/a"]
	r := startRelay(t, db, rcv, plainConfig)
	r.waitReady()
	db.mustWrite(t, bulk{From: 1, To: 10}, 1)
	db.waitDeliveries(t, "delivered", 10)
	walsender := db.count(t, `SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1`, db.slot)

	mend := a.afflict(t, db)
	before := db.written(t)
	n := 10 + scaled(5000)
	err := pgx.BeginTxFunc(t.Context(), db.pool, pgx.TxOptions{AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		return bulk{From: 11, To: n}.insert(t.Context(), tx)
	})
	if err != nil {
		t.Fatal(err)
	}
	made := 10 + min(n-10, unrecorded)
	e.waitSome(made)
	r.waitLog("ledger cannot be written", 1)
	if got := r.metrics()["posthorn_ledger_unwritable"]; got != 1 {
		t.Errorf("posthorn_ledger_unwritable is %v", got)
	}
	if line := r.logged("ledger cannot be written")[0].Text; !strings.Contains(line, a.says) {
		t.Errorf("the relay does not say %q: %s", a.says, line)
	}

	// For longer than the server's patience, of 8 seconds, the relay is heard
	// on the same connection.
	const patience = 10 * time.Second
	begin := time.Now()
	eventually(t, time.Minute, func() error {
		var age float64
		err := db.pool.QueryRow(t.Context(), `SELECT extract(epoch FROM now() - reply_time) FROM pg_stat_replication WHERE pid = $1`, walsender).Scan(&age)
		switch {
		case err != nil:
			t.Fatalf("the stream's connection is gone: %v", err)
		case age > 4:
			t.Errorf("nothing was heard of the relay for %.1fs", age)
		case time.Since(begin) < patience:
			return fmt.Errorf("heard of the relay for %s", time.Since(begin))
		}
		return nil
	})
	if got := e.counts().Delivered; got > made+inFlight {
		t.Errorf("%d deliveries were made, of which none could be recorded but the first 10", got)
	}
	if at := db.confirmed(t); at > before {
		t.Errorf("the slot was confirmed up to %d, beyond %d, though nothing could be recorded", at, before)
	}

	mend()
	position, mended := db.written(t), time.Now()
	r.waitLog("ledger is written again", 1)
	db.waitDeliveries(t, "delivered", n)
	t.Logf("FIGURE ledger %s: the slot stood still and the relay was heard of for %s; all %d outcomes were recorded %.1fs after it was mended",
		a.name, patience, n, time.Since(mended).Seconds())
	db.mustWrite(t, bulk{From: n + 1, To: n + 1}, 1)
	e.waitDelivered(n+1, time.Minute)
	if d := e.counts().Duplicates; d != 0 {
		t.Errorf("%d of %d events arrived again", d, n)
	}
	if code, _ := r.stop(); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
	db.waitConfirmed(t, position, time.Second)
}

func TestPoisonousRecordStopsNoOther(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/a")
	r := startRelay(t, db, rcv, plainConfig)
	r.waitReady()
	db.exec(t, `ALTER TABLE posthorn.deliveries ADD CONSTRAINT no_poison CHECK (type <> 'test.poison')`)
	n := scaled(2000)
	tx, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []bulk{{From: 1, To: n / 2}, {From: n/2 + 1, To: n/2 + 1, Type: "test.poison"}, {From: n/2 + 2, To: n}} {
		if err := b.insert(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	position := db.written(t)
	rcv.endpoints["/a"].waitDelivered(n, time.Minute)
	db.waitDeliveries(t, "delivered", n)
	if got := db.count(t, `SELECT count(*) FROM posthorn.deliveries WHERE error = 'ledger refused the record: SQLSTATE 23514'`); got != 1 {
		t.Errorf("%d records say that the ledger refused them, not 1", got)
	}
	r.waitLog("ledger refuses a record", 1)
	if code, _ := r.stop(); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
	db.waitConfirmed(t, position, time.Second)
	if d := rcv.endpoints["/a"].counts().Duplicates; d != 0 {
		t.Errorf("%d of %d events arrived again", d, n)
	}
}
