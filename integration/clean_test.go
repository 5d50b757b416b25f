package integration

import (
	"fmt"
	"testing"
	"time"
)

// TestOldEventsAreCleanedOnceTheSlotPassedThem takes one of the relay's
// cleaning rounds, which come each minute, and in a full run a second one
// before it, in which nothing may be deleted yet.
func TestOldEventsAreCleanedOnceTheSlotPassedThem(t *testing.T) {
	t.Parallel() // it mostly waits
	const round = time.Minute
	const config = `
source: {retention: 1h}
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"], secret: "${SECRET}"}
  - {name: b, url: "%s/b", events: ["*"], secret: "${SECRET}", retry: {schedule: %s, jitter: 0}}
`
	db, well, ill := newDatabase(t), newReceiver(t, "/a"), newReceiver(t, "/b")
	initialise(t, db, nowhere)
	old := scaled(5000)
	db.mustWrite(t, bulk{From: 1, To: old}, 1000)
	db.exec(t, `UPDATE posthorn.outbox SET created_at = now() - interval '2 hours'`)
	position := db.written(t)
	const remaining = `SELECT count(*) FROM posthorn.outbox WHERE created_at < now() - interval '1 hour'`

	ill.refuse()
	mend := func() {}
	if full {
		mend = lockLedger(t, db) // nothing is acknowledged meanwhile
	}
	r := startRelay(t, db, well, fmt.Sprintf(config, ill.url(), waits("5s", 50)))
	r.waitReady()
	well.endpoints["/a"].waitSome(min(old, unrecorded))
	if full {
		began := time.Now()
		eventually(t, 2*round, func() error {
			if left := db.count(t, remaining); left != old {
				t.Fatalf("%d of %d events were deleted before the slot passed them", old-left, old)
			}
			if time.Since(began) < round+10*time.Second {
				return fmt.Errorf("one round of %s is not over", round)
			}
			return nil
		})
		if at := db.confirmed(t); at >= position {
			t.Fatalf("the slot passed %d although nothing could be recorded", position)
		}
	}
	mend()

	n, next := old, time.Now()
	eventually(t, 3*round, func() error {
		if time.Now().After(next) { // the slot moves on
			n, next = n+1, next.Add(time.Second)
			db.mustWrite(t, bulk{From: n, To: n}, 1)
		}
		left := db.count(t, remaining)
		if at := db.confirmed(t); left < old && at < position {
			t.Fatalf("%d events were deleted when the slot stood at %d, before %d", old-left, at, position)
		}
		if left > 0 {
			return fmt.Errorf("%d of %d old events are left", left, old)
		}
		return nil
	})
	if got := db.count(t, `SELECT count(*) FROM posthorn.outbox`); got != n-old {
		t.Errorf("the outbox has %d events, the young ones are %d", got, n-old)
	}
	ill.listen() // what is parked does not need the outbox's row
	ill.endpoints["/b"].waitDelivered(n, 2*time.Minute)
	t.Logf("FIGURE cleaning: %d old events deleted, %d young ones kept, all delivered to an endpoint that was dead until then", old, n-old)
}
