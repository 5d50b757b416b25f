package integration

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// lateness is how long after an attempt its outcome may be recorded.
const lateness = 5 * time.Second

// followSchedule waits for each of the schedule's retries of the event's one
// delivery, whose attempts must all fail, and turns the clock on to it. It
// returns once the last one has been made.
func followSchedule(t testing.TB, db *database, n *nodeReceiver, event uuid.UUID, schedule []time.Duration) {
	t.Helper()
	for i, wait := range schedule {
		var due, recorded, ended time.Time
		var status int
		eventually(t, 30*time.Second, func() error {
			err := db.pool.QueryRow(t.Context(), `SELECT p.due_at, p.updated_at, p.status, a.started_at + a.total_us * interval '1 microsecond'
				FROM posthorn.pending p JOIN posthorn.attempts a ON a.delivery_id = p.id AND a.number = p.attempts
				WHERE p.event_id = $1 AND p.state = 'pending' AND p.attempts = $2`, event, i+1).Scan(&due, &recorded, &status, &ended)
			if err != nil {
				return fmt.Errorf("attempt %d: %w", i+1, err)
			}
			return nil
		})
		if got := due.Sub(recorded); got != wait || status != http.StatusInternalServerError {
			t.Fatalf("retry %d is due %s after an answer of %d was recorded, want %s after 500", i+1, got, status, wait)
		}
		if late := recorded.Sub(ended); late < -time.Second || late > lateness {
			t.Errorf("attempt %d was recorded %s after its end", i+1, late)
		}
		if got := len(n.arrived()); got != i+1 {
			t.Errorf("%d requests before retry %d is due", got, i+1)
		}
		db.exec(t, `UPDATE posthorn.pending SET due_at = now() WHERE event_id = $1`, event)
		db.exec(t, `UPDATE posthorn.endpoints SET updated_at = clock_timestamp()`) // so that the relay looks
	}
	n.waitArrived(len(schedule) + 1)
}

// finished is a final delivery as the ledger has it.
type finished struct {
	ID               uuid.UUID
	State            string
	Attempts, Status int
	Error            string
}

// waitFinal returns the event's one delivery once it is final.
func (db *database) waitFinal(t testing.TB, event uuid.UUID) (f finished) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		err := db.pool.QueryRow(t.Context(), `SELECT id, state, attempts, coalesce(status, 0), coalesce(error, '') FROM posthorn.deliveries WHERE event_id = $1`, event).
			Scan(&f.ID, &f.State, &f.Attempts, &f.Status, &f.Error)
		if err != nil {
			return fmt.Errorf("delivery of event %s: %w", event, err)
		}
		return nil
	})
	return f
}

// sameBytes says that all requests have the first one's method, headers and
// body.
func sameBytes(t testing.TB, requests []nodeRequest) {
	t.Helper()
	for i := range requests {
		q, first := &requests[i], &requests[0]
		if q.Method != first.Method || !bytes.Equal(q.Body, first.Body) || !slices.Equal(q.Headers, first.Headers) {
			t.Errorf("request %d of a delivery differs from its first: %s\n%s\nand\n%s", i+1, cmp.Diff(first.Headers, q.Headers), first.Body, q.Body)
		}
	}
}

// command runs a command of the binary with the product's configuration. It
// must succeed.
func (p product) command(t testing.TB, env []string, args ...string) {
	t.Helper()
	r := startProcess(t, env, append(args, "--config", p.example())...)
	if code := r.wait(time.Minute); code != 0 {
		t.Fatalf("posthorn %v ended with %d:\n%s", args, code, r.tail(10))
	}
}

const leaveApproved = `{"id": "lr_8f14e45f-ceea-467f", "user_id": "usr_a1b2c3d4", "status": "approved"}`

func TestProductByroPausesAfterItsRetries(t *testing.T) {
	db, n := newDatabase(t), byro.receiver(t, productSecret)
	env := byro.env(db, n, productSecret)
	byro.start(t, env)
	n.answers(http.StatusInternalServerError)
	event := db.publish(t, "pr.submitted", "acme", `{"prId": "clx123"}`)
	if _, err := db.pool.Exec(t.Context(), `INSERT INTO posthorn.outbox (id, type, tenant, payload) VALUES ($1, 'pr.approved', 'acme', '{}')`, event); err == nil {
		t.Error("the same event id was taken twice")
	}
	schedule := []time.Duration{30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}
	followSchedule(t, db, n, event, schedule)
	f := db.waitFinal(t, event)
	if f.State != "failed" || f.Attempts != 7 || f.Status != http.StatusInternalServerError {
		t.Errorf("after the last retry: %+v", f)
	}
	waitStanding(t, db, "acme-erp", "paused", "relay")
	if audited := db.count(t, `SELECT count(*) FROM posthorn.audit WHERE actor = 'relay' AND action = 'endpoint.pause'`); audited != 1 {
		t.Errorf("the pause was recorded %d times, want once", audited)
	}

	// Later events are parked, and sent once the endpoint is resumed.
	n.answers(http.StatusOK)
	var later []uuid.UUID
	for i := range 20 {
		later = append(later, db.publish(t, "po.issued", "acme", fmt.Sprintf(`{"poId": "clx%d"}`, i)))
	}
	eventually(t, 30*time.Second, func() error {
		parked := db.count(t, `SELECT count(*) FROM posthorn.pending WHERE state = 'pending' AND attempts = 0 AND reason = 'endpoint paused'`)
		return atLeast(parked, len(later))
	})
	if got := len(n.arrived()); got != len(schedule)+1 {
		t.Errorf("%d requests reached the paused endpoint", got-len(schedule)-1)
	}
	byro.command(t, env, "endpoints", "resume", "acme-erp")
	for _, id := range later {
		if got := db.waitFinal(t, id); got.State != "delivered" || got.Attempts != 1 {
			t.Errorf("after resuming: %+v", got)
		}
	}
	waitStanding(t, db, "acme-erp", "enabled", "operator")
	sameBytes(t, n.waitArrived(len(schedule) + 1)[:len(schedule)+1])

	// So is the one that failed, by hand.
	byro.command(t, env, "deliveries", "retry", f.ID.String())
	requests := n.waitArrived(len(schedule) + 1 + len(later) + 1)
	sameBytes(t, []nodeRequest{requests[0], requests[len(requests)-1]})
	retried(t, db, event, f)
	t.Logf("FIGURE product Byro: %d retries due at exactly %v after each failure, then failed and paused; %d later events parked, delivered after resuming; retried by hand with the same bytes", len(schedule), schedule, len(later))
}

// waitStanding waits until the ledger has the endpoint in state, with whom that
// is from and, unless it is enabled, why.
func waitStanding(t testing.TB, db *database, endpoint, state, by string) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		var gotState, gotBy, reason string
		err := db.pool.QueryRow(t.Context(), `SELECT state, state_by, coalesce(reason, '') FROM posthorn.endpoints WHERE name = $1`, endpoint).Scan(&gotState, &gotBy, &reason)
		if err == nil && (gotState != state || gotBy != by || reason == "" && state != "enabled") {
			err = fmt.Errorf("endpoint %s is %s by %s because %q, want %s by %s", endpoint, gotState, gotBy, reason, state, by)
		}
		return err
	})
}

// retried waits until the delivery f, which failed, has been delivered by one
// attempt more.
func retried(t testing.TB, db *database, event uuid.UUID, f finished) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		got := db.waitFinal(t, event)
		if want := (finished{ID: f.ID, State: "delivered", Attempts: f.Attempts + 1, Status: http.StatusOK}); got != want {
			return fmt.Errorf("retried by hand: %+v, want %+v", got, want)
		}
		return nil
	})
	numbers := db.count(t, `SELECT count(DISTINCT number) FROM posthorn.attempts WHERE delivery_id = $1`, f.ID)
	last := db.count(t, `SELECT number FROM posthorn.attempts WHERE delivery_id = $1 AND outcome = 'delivered'`, f.ID)
	if numbers != f.Attempts+1 || last != f.Attempts+1 {
		t.Errorf("%d attempts are recorded, the delivered one as number %d; want %d", numbers, last, f.Attempts+1)
	}
}

func TestProductOfflyFailsAfterItsRetriesAndIsRetriedByHand(t *testing.T) {
	db, n := newDatabase(t), offly.receiver(t, productSecret)
	env := offly.env(db, n, productSecret)
	offly.start(t, env)
	n.answers(http.StatusInternalServerError)
	event := db.publish(t, "leave_request.approved", "northwind", leaveApproved)
	schedule := []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute}
	followSchedule(t, db, n, event, schedule)
	f := db.waitFinal(t, event)
	if f.State != "failed" || f.Attempts != 4 || f.Status != http.StatusInternalServerError {
		t.Errorf("after the last retry: %+v", f)
	}
	waitStanding(t, db, "northwind-backend", "enabled", "configuration")

	n.answers(http.StatusOK)
	offly.command(t, env, "deliveries", "retry", f.ID.String())
	requests := n.waitArrived(len(schedule) + 2)
	sameBytes(t, requests)
	retried(t, db, event, f)
	if last := requests[len(requests)-1]; !last.Verified || len(requests) != len(schedule)+2 {
		t.Errorf("%d requests, the last of which verified: %t", len(requests), last.Verified)
	}
	t.Logf("FIGURE product Offly: %d retries due at exactly %v after each failure, then failed; retried by hand: delivered, same delivery id, same bytes, attempt %d", len(schedule), schedule, f.Attempts+1)
}

func TestProductDanbyteTriesOnce(t *testing.T) {
	db, n := newDatabase(t), danbyte.receiver(t, productSecret)
	r := danbyte.start(t, danbyte.env(db, n, productSecret))
	n.answers(http.StatusInternalServerError)
	refused := db.publish(t, "device.update", "", `{"id": 412, "name": "edge-ams-01"}`)
	got := []finished{db.waitFinal(t, refused)}
	requests := n.arrived()
	if id := requests[0].header().Get("X-Danbyte-Delivery"); len(requests) != 1 || id != got[0].ID.String() {
		t.Errorf("%d requests, of delivery %s; want one of %s", len(requests), id, got[0].ID)
	}
	n.stop()
	unreachable := db.publish(t, "device.delete", "", `{"id": 412, "name": "edge-ams-01"}`)
	got = append(got, db.waitFinal(t, unreachable))
	for i, status := range []int{http.StatusInternalServerError, 0} {
		if f := got[i]; f.State != "failed" || f.Attempts != 1 || f.Status != status || f.Error == "" {
			t.Errorf("a delivery that failed: %+v, want status %d after 1 attempt", f, status)
		}
	}
	if pending, kept := db.count(t, `SELECT count(*) FROM posthorn.pending`), db.count(t, `SELECT count(*) FROM posthorn.attempts`); pending != 0 || kept != 2 {
		t.Errorf("%d deliveries are pending and %d attempts recorded, want none and 2", pending, kept)
	}
	if logged := r.logged("delivery failed"); len(logged) != 2 {
		t.Errorf("%d failures are logged, want 2:\n%s", len(logged), r.tail(10))
	}
	if stored := db.count(t, `SELECT count(*) FROM posthorn.outbox`); stored != 2 {
		t.Errorf("%d changes are in the outbox, want 2", stored)
	}
	waitStanding(t, db, "automation", "enabled", "configuration")
	t.Logf("FIGURE product Danbyte: a refused and an unreachable delivery failed after one attempt each, recorded and logged")
}
