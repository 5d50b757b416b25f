package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// checkFailed fails the test unless the event's delivery ended as failed
// without a request, for a reason that contains why.
func checkFailed(t *testing.T, db *database, event, why string) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		var state, reason string
		var attempts int
		err := db.pool.QueryRow(t.Context(), `SELECT state, attempts, coalesce(error, '') FROM posthorn.deliveries WHERE event_id = $1`, event).
			Scan(&state, &attempts, &reason)
		if err != nil {
			return fmt.Errorf("read delivery of event %s: %w", event, err)
		}
		if state != "failed" || attempts != 0 || !strings.Contains(reason, why) {
			return fmt.Errorf("the delivery of event %s is %s after %d attempts: %s; it should have failed: %s", event, state, attempts, reason, why)
		}
		return nil
	})
}

func TestTemplateThatYieldsNoJSONFailsThatDeliveryOnly(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/a")
	r := startRelay(t, db, rcv, `
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"], secret: "${SECRET}",
     body: '{"n": {{ get .Payload "n" }}, "name": "{{ get .Payload "name" }}"}'}
`)
	r.waitReady()
	const bad = "11111111-1111-4111-8111-111111111111"
	// The template quotes what is quoted already, which only a number bears.
	db.exec(t, `INSERT INTO posthorn.outbox (type, payload) VALUES ('test.created', '{"n": 1, "name": 1}')`)
	db.exec(t, `INSERT INTO posthorn.outbox (id, type, payload) VALUES ($1, 'test.created', '{"n": 5, "name": "x"}')`, bad)
	db.exec(t, `INSERT INTO posthorn.outbox (type, payload) VALUES ('test.created', '{"n": 2, "name": 2}')`)
	position := db.written(t)
	rcv.endpoints["/a"].waitDelivered(2, 30*time.Second)
	checkFailed(t, db, bad, "the body is not JSON")
	if code, _ := r.stop(); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
	db.waitConfirmed(t, position, time.Second)
}

func TestPayloadThatIsNoJSONFailsThatDeliveryOnly(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/a")
	db.exec(t, `CREATE TABLE app_events (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), kind text NOT NULL, body text)`)
	r := startRelay(t, db, rcv, `
source: {table: public.app_events, columns: {type: kind, payload: body}}
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"], secret: "${SECRET}"}
`)
	r.waitReady()
	insert := func(id, body any) {
		t.Helper()
		db.exec(t, `INSERT INTO app_events (id, kind, body) VALUES (coalesce($1::text::uuid, gen_random_uuid()), 'test.created', $2)`, id, body)
	}
	bad := []struct {
		id        string
		body      any
		complaint string
	}{
		{"11111111-1111-4111-8111-111111111111", `{"n": `, "the payload is not JSON"},
		{"22222222-2222-4222-8222-222222222222", `not JSON at all`, "the payload is not JSON"},
		{"33333333-3333-4333-8333-333333333333", ``, "the event has no payload"},
		{"44444444-4444-4444-8444-444444444444", nil, "the event has no payload"},
	}
	for i, b := range bad {
		insert(nil, fmt.Sprintf(`{"n": %d}`, i+1))
		insert(b.id, b.body)
	}
	insert(nil, fmt.Sprintf(`{"n": %d}`, len(bad)+1))
	position := db.written(t)
	rcv.endpoints["/a"].waitDelivered(len(bad)+1, 30*time.Second)
	for _, b := range bad {
		checkFailed(t, db, b.id, b.complaint)
	}
	if code, _ := r.stop(); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
	db.waitConfirmed(t, position, time.Second)
}
