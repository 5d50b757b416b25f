package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestSlotAtRiskIsTold while a transaction that stays open has Postgres keep WAL:
// the relay delivers, and tells before some of it is removed.
func TestSlotAtRiskIsTold(t *testing.T) {
	settings := serverSettings("off")
	settings["max_slot_wal_keep_size"] = "128MB"
	db, rcv := newDatabaseOn(t, newServer(t, settings)), newReceiver(t, "/a")
	told := make(chan []byte, 10)
	onCall := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil {
			told <- body
		}
	}))
	defer onCall.Close()
	r := startRelayWith(t, db, rcv, `
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"], secret: "${SECRET}"}
  - {name: on-call, url: "${ON_CALL}", events: ["posthorn.slot.*"]}
`, "ON_CALL="+onCall.URL)
	r.waitReady()
	db.exec(t, `CREATE TABLE filler (data text)`)
	db.exec(t, `ALTER TABLE filler ALTER data SET STORAGE EXTERNAL`) // not compressed

	open, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Rollback(t.Context()) }()
	var id string
	if err := open.QueryRow(t.Context(), `SELECT pg_current_xact_id()::text`).Scan(&id); err != nil { // it has one only if it is asked for
		t.Fatal(err)
	}
	for begin := db.written(t); db.written(t)-begin < 112<<20; {
		db.exec(t, `INSERT INTO filler SELECT repeat('x', 1000000) FROM generate_series(1, 4)`)
	}
	var payload struct {
		Slot      string
		WALStatus string `json:"wal_status"`
		Retained  int    `json:"retained_bytes"`
		Safe      int    `json:"safe_bytes"`
	}
	select {
	case body := <-told:
		if err := json.Unmarshal(body, &payload); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was told within 30s")
	}
	if payload.Slot != db.slot || payload.WALStatus != "reserved" || payload.Retained < 96<<20 || payload.Safe <= 0 || payload.Safe > 32<<20 {
		t.Errorf("told %+v", payload)
	}
	t.Logf("FIGURE slot at risk: told with %d MB of WAL kept, %d MB before some would have been removed", payload.Retained>>20, payload.Safe>>20)
	r.waitLog("the slot is at risk: Postgres keeps much WAL for it, and may come to remove some", 1)
	if n := r.metrics()[`posthorn_operational_events_total{type="posthorn.slot.at_risk"}`]; n != 1 {
		t.Errorf("counted %v times", n)
	}

	// What was held up goes on, and is not news again.
	if err := open.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.mustWrite(t, bulk{From: 1, To: 100}, 10)
	eventually(t, time.Minute, func() error {
		if n := len(rcv.endpoints["/a"].delivered()); n != 100 {
			return fmt.Errorf("%d of 100 events delivered", n)
		}
		if kept := db.count(t, `SELECT pg_current_wal_lsn() - restart_lsn FROM pg_replication_slots WHERE slot_name = $1`, db.slot); kept > 32<<20 {
			db.exec(t, `CHECKPOINT`) // which writes what transactions run: only then the slot moves on
			return fmt.Errorf("%d bytes of WAL are kept", kept)
		}
		return nil
	})
	if len(told) > 0 {
		t.Errorf("told again: %s", <-told)
	}
}
