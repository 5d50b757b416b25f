package integration

import (
	"fmt"
	"testing"
	"time"
)

// maxMemory is what the relay may have resident at its peak.
const maxMemory = 256 << 20

const largeConfig = `
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"], secret: "${SECRET}", concurrency: 64, retry: {schedule: [1s, 1s, 1s], jitter: 0}}
`

// checkMemory fails the test if the process ever had too much memory.
func checkMemory(t *testing.T, r *relay, when string) {
	t.Helper()
	peak := r.peakRSS()
	t.Logf("FIGURE peak resident memory %s: %.0f MiB", when, float64(peak)/(1<<20))
	if peak >= maxMemory {
		t.Errorf("the relay's memory peaked at %d MiB %s", peak>>20, when)
	}
}

// transactions returns how many were committed in the database so far.
func (db *database) transactions(t *testing.T) int {
	t.Helper()
	return db.count(t, `SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()`)
}

func TestLargeTransactionIsResumedInItsMiddle(t *testing.T) {
	n := scaled(1_000_000)
	db, rcv := newDatabase(t), newReceiver(t, "/a")
	a := rcv.endpoints["/a"]
	first := startRelay(t, db, rcv, largeConfig)
	first.waitReady()
	started := time.Now()
	db.mustWrite(t, bulk{From: 1, To: n}, n)
	inserted := time.Since(started)
	eventually(t, 5*time.Minute, func() error {
		if got := a.counts().Delivered; got < n/2 {
			return fmt.Errorf("%d of %d events delivered", got, n)
		}
		return nil
	})
	checkMemory(t, first, "in the middle of a large transaction")
	first.kill()
	recorded := db.deliveries(t, "delivered")

	second := startRelay(t, db, rcv, largeConfig)
	second.waitReady()
	position, before, resumed := db.written(t), db.transactions(t), time.Now()
	a.waitDelivered(n, 10*time.Minute)
	took := time.Since(resumed)
	transactions := db.transactions(t) - before
	db.waitConfirmed(t, position, 75*time.Second)
	checkMemory(t, second, "after the restart in its middle")

	again := a.counts().Duplicates
	t.Logf("FIGURE one transaction of %d events: insert %.1fs; killed with %d recorded; resumed and delivered in %.1fs with %d transactions; %d duplicates",
		n, inserted.Seconds(), recorded, took.Seconds(), transactions, again)
	// What had been sent and was not recorded: at most what the buffer holds
	// of events that count a KiB each and more.
	if held := 16 << 10; again > held {
		t.Errorf("%d events arrived again, source.buffer holds %d", again, held)
	}
	if most := recorded/100 + n/20; transactions > most {
		t.Errorf("%d transactions after the restart, at most %d are expected when look-ups come in batches", transactions, most)
	}
	db.waitDeliveries(t, "delivered", n)
}

func TestLargeTransactionForDeadEndpoint(t *testing.T) {
	n := scaled(1_000_000)
	db, rcv := newDatabase(t), newReceiver(t, "/a")
	rcv.refuse()
	r := startRelay(t, db, rcv, largeConfig)
	r.waitReady()
	db.mustWrite(t, bulk{From: 1, To: n}, n)
	started, position := time.Now(), db.written(t)
	db.waitConfirmed(t, position, 10*time.Minute)
	parked := time.Since(started)
	total := db.count(t, `SELECT (SELECT count(*) FROM posthorn.pending) + (SELECT count(*) FROM posthorn.deliveries)`)
	if total != n {
		t.Errorf("the ledger has %d deliveries, not %d", total, n)
	}
	checkMemory(t, r, "with the endpoint dead")

	rcv.listen()
	revived := time.Now()
	sent := n / 10 // the backlog's beginning is enough to see that it is worked off in pages
	eventually(t, 5*time.Minute, func() error {
		if got := rcv.endpoints["/a"].counts().Delivered; got < sent {
			return fmt.Errorf("%d of %d events delivered", got, sent)
		}
		return nil
	})
	t.Logf("FIGURE one transaction of %d events for a dead endpoint: parked in %.1fs, the first %d delivered %.1fs after it was back",
		n, parked.Seconds(), sent, time.Since(revived).Seconds())
	checkMemory(t, r, "while the parked backlog is sent")
}
