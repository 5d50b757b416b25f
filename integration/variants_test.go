package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

func TestDeliveriesOfARemovedEndpointEndAsFailed(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/kept")
	const (
		kept = `
endpoints:
  - {name: kept, url: "${RECEIVER}/kept", events: ["*"], secret: "${SECRET}"}
`
		gone = `  - {name: gone, url: "http://127.0.0.1:1/", events: ["*"], retry: {schedule: [1h]}}
`
	)
	r := startRelay(t, db, rcv, kept+gone)
	r.waitReady()
	const n = 20
	db.mustWrite(t, bulk{From: 1, To: n}, n)
	rcv.endpoints["/kept"].waitDelivered(n, time.Minute)
	if code, _ := r.stop(); code != 0 {
		t.Fatalf("the relay ended with %d", code)
	}
	if pending := db.count(t, `SELECT count(*) FROM posthorn.pending`); pending != n {
		t.Fatalf("%d deliveries are pending, want %d", pending, n)
	}
	startRelay(t, db, rcv, kept).waitReady()
	eventually(t, time.Minute, func() error { // the relay does not wait for that
		if failed := db.count(t, `SELECT count(*) FROM posthorn.deliveries WHERE state = 'failed' AND error = 'endpoint removed'`); failed != n {
			return fmt.Errorf("%d deliveries ended as failed: endpoint removed, want %d", failed, n)
		}
		return nil
	})
	if left := db.count(t, `SELECT (SELECT count(*) FROM posthorn.pending) + (SELECT count(*) FROM posthorn.payloads)`); left != 0 {
		t.Errorf("%d rows are left in pending and payloads", left)
	}
	if state := db.count(t, `SELECT count(*) FROM posthorn.endpoints WHERE name = 'gone' AND state = 'removed'`); state != 1 {
		t.Error("the endpoint is not recorded as removed")
	}
}

func TestLedgerMayBeInAnotherDatabase(t *testing.T) {
	db, led, rcv := newDatabase(t), newDatabase(t), newReceiver(t, "/a")
	config := fmt.Sprintf(`
ledger: {url: %q}
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"], secret: "${SECRET}", retry: {schedule: [100ms, 100ms, 100ms]}}
`, led.url)
	var once sync.Once
	rcv.endpoints["/a"].answers(func(*request) int {
		status := http.StatusOK
		once.Do(func() { status = http.StatusInternalServerError })
		return status
	})
	r := startRelay(t, db, rcv, config)
	r.waitReady()
	const n = 200
	db.mustWrite(t, bulk{From: 1, To: n}, 10)
	rcv.endpoints["/a"].waitDelivered(n, time.Minute)
	if code, _ := r.stop(); code != 0 {
		t.Fatalf("the relay ended with %d", code)
	}
	r = startRelay(t, db, rcv, config)
	r.waitReady()
	db.mustWrite(t, bulk{From: n + 1, To: 2 * n}, 10)
	rcv.endpoints["/a"].waitDelivered(2*n, time.Minute)
	if code, _ := r.stop(); code != 0 {
		t.Fatalf("the relay ended with %d", code)
	}
	if recorded := led.count(t, `SELECT count(*) FROM posthorn.deliveries WHERE state = 'delivered'`); recorded != 2*n {
		t.Errorf("%d deliveries in the ledger's database, want %d", recorded, 2*n)
	}
	if tables := db.count(t, `SELECT count(*) FROM pg_tables WHERE schemaname = 'posthorn' AND tablename <> 'outbox'`); tables != 0 {
		t.Errorf("%d tables of the ledger in the application's database", tables)
	}
	if d := rcv.endpoints["/a"].counts().Duplicates; d != 0 {
		t.Errorf("%d duplicates", d)
	}
}

func TestLogicalMessagesAreEventsWhereAskedFor(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t)
	bodies := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		bodies <- r.Header.Get("X-Type") + " " + string(body)
	}))
	defer server.Close()
	startRelay(t, db, rcv, fmt.Sprintf(`
source: {messages: app}
endpoints:
  - {name: a, url: %q, events: ["*"], concurrency: 1, headers: {X-Type: "{{ .Event.Type }}"}}
`, server.URL)).waitReady()
	const emit = `SELECT pg_logical_emit_message(%t, '%s', '{"id": "%s", "type": "%s", "payload": {"a":  1}}')`
	for _, m := range []struct {
		transactional bool
		prefix, typ   string
	}{{true, "other", "no"}, {false, "app", "no"}, {true, "app", "yes"}} {
		db.exec(t, fmt.Sprintf(emit, m.transactional, m.prefix, m.typ, m.typ))
	}
	db.exec(t, `BEGIN; `+fmt.Sprintf(emit, true, "app", "rolled-back", "no")+`; ROLLBACK`)
	db.exec(t, fmt.Sprintf(emit, true, "app", "last", "last"))
	for _, want := range []string{`yes {"a":  1}`, `last {"a":  1}`} {
		select {
		case got := <-bodies:
			if got != want {
				t.Errorf("%s arrived, want %s", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s did not arrive", want)
		}
	}
}
