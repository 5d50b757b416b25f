package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// threeEndpoints fail and are slow in ways of their own, which the receiver
// decides; retries come fast.
const threeEndpoints = `
profiles:
  eager: {secret: "${SECRET}", retry: {schedule: [100ms, 100ms, 200ms, 200ms, 1s, 1s, 1s, 5s, 5s, 5s, 5s, 5s], jitter: 0.5}}
endpoints:
  - {name: plain, url: "${RECEIVER}/plain", events: ["*"], profile: eager}
  - {name: slow, url: "${RECEIVER}/slow", events: ["*"], profile: eager, concurrency: 64}
  - {name: ordered, url: "${RECEIVER}/ordered", events: ["*"], profile: eager, ordering: key, concurrency: 64}
`

// newMoodyReceiver returns the receiver of threeEndpoints: one that just
// answers, one that takes its time, and one that fails a share of the first and
// second tries in several ways, so that keys are retried and parked.
func newMoodyReceiver(t testing.TB) *receiver {
	rcv := newReceiver(t, "/plain", "/slow", "/ordered")
	rcv.endpoints["/slow"].answers(func(q *request) int {
		return after(q.Context(), time.Duration(rand.IntN(40))*time.Millisecond, http.StatusOK)
	})
	ordered := rcv.endpoints["/ordered"]
	ordered.ordered = true
	ordered.answers(func(q *request) int {
		switch {
		case q.Event.N%40 == 0 && q.Try == 1:
			return 0
		case q.Event.N%15 == 0 && q.Try <= 2:
			return http.StatusServiceUnavailable
		}
		return after(q.Context(), time.Duration(rand.IntN(5))*time.Millisecond, http.StatusOK)
	})
	return rcv
}

// after answers status when d has passed, or cuts the connection once the relay
// is gone.
func after(ctx context.Context, d time.Duration, status int) int {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return status
	case <-ctx.Done():
		return 0
	}
}

// total adds what the receiver's endpoints counted.
func (r *receiver) total() account {
	var sum account
	for _, e := range r.endpoints {
		c := e.counts()
		sum.Requests += c.Requests
		sum.Delivered += c.Delivered
		sum.Duplicates += c.Duplicates
		sum.Again += c.Again
	}
	return sum
}

// loadRounds writes n events in as many portions as there are rounds, and in
// each round, in the midst of its portion, disturbs the relay. It returns once
// all is written, with how many were rolled back.
func loadRounds(t *testing.T, db *database, rcv *receiver, n, rounds int, disturb func()) (rolledBack int) {
	t.Helper()
	type written struct {
		rolledBack int
		err        error
	}
	results := make(chan written)
	for round := range rounds {
		portion := bulk{From: n*round/rounds + 1, To: n * (round + 1) / rounds, Keys: 50}
		go func() {
			rolledBack, err := db.write(t.Context(), portion, 10)
			results <- written{rolledBack, err}
		}()
		// Anywhere in the portion, but beyond its first tenth.
		size := portion.To - portion.From + 1
		goal := len(rcv.endpoints) * (portion.From + size/10 + rand.IntN(size*8/10))
		eventually(t, time.Minute, func() error {
			if got := rcv.total().Delivered; got < goal {
				return fmt.Errorf("%d events delivered, waiting for %d", got, goal)
			}
			return nil
		})
		disturb()
		result := <-results
		if result.err != nil {
			t.Fatal(result.err)
		}
		rolledBack += result.rolledBack
	}
	return rolledBack
}

// checkLedger fails the test unless n deliveries are delivered and nothing
// else is known.
func checkLedger(t *testing.T, db *database, n int) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		if got := db.count(t, `SELECT count(*) FROM posthorn.deliveries WHERE state = 'delivered'`); got != n {
			return fmt.Errorf("ledger: %d deliveries are delivered, not %d", got, n)
		}
		return nil
	})
	for _, table := range []string{"posthorn.pending", "posthorn.payloads", "posthorn.deliveries WHERE state <> 'delivered'"} {
		if got := db.count(t, `SELECT count(*) FROM `+table); got > 0 {
			t.Errorf("ledger: %d rows are left in %s", got, table)
		}
	}
}

func TestNothingIsLostWhenTheRelayIsKilled(t *testing.T) {
	n, kills := scaled(20_000), max(5, scaled(20))
	db := newDatabase(t)
	rcv := newMoodyReceiver(t)
	r := startRelay(t, db, rcv, threeEndpoints)
	r.waitReady()

	rolledBack := loadRounds(t, db, rcv, n, kills, func() {
		r.kill()
		r = startRelay(t, db, rcv, threeEndpoints)
	})
	for _, e := range rcv.endpoints {
		e.waitDelivered(n, 2*time.Minute)
	}
	waitSettled(t, db)
	checkLedger(t, db, 3*(n+1)) // and the marker

	sum := rcv.total()
	t.Logf("FIGURE killed %d times: %d events committed, %d rolled back, 3 × %d deliveries, 0 lost, %d duplicates (%.2f %%), %d retries, in %d requests; each of one delivery id and one body",
		kills, n, rolledBack, n, sum.Duplicates, 100*float64(sum.Duplicates)/float64(3*n), sum.Again, sum.Requests)
	for path, e := range rcv.endpoints {
		t.Logf("FIGURE killed %d times: %s: %+v", kills, path, e.counts())
	}
}

// TestKeyOrderHoldsWhenTheRelayIsKilledWithTheNextParked brings, of each of
// some keys, the first of three events in flight and the others into the
// ledger, kills the relay, and lets the next one deliver.
func TestKeyOrderHoldsWhenTheRelayIsKilledWithTheNextParked(t *testing.T) {
	tests := map[string]struct {
		// fails says that the first try of the first event fails, and the second
		// one is in flight when the relay is killed.
		fails bool
		// noise fails events of other keys while the first event is in flight,
		// until the endpoint is failing.
		noise bool
		// first is how the first event stands in the ledger at the kill, if it does.
		first string
	}{
		"first try, endpoint failing":     {noise: true},
		"first try, longer than max_hold": {first: `state = 'sending'`},
		"retry":                           {fails: true, first: `state = 'pending' AND attempts = 1`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			const keys = 20
			db := newDatabase(t)
			rcv := newReceiver(t, "/ordered")
			ordered := rcv.endpoints["/ordered"]
			ordered.ordered = true
			config := `
source: {max_hold: 20s}
endpoints:
  - name: ordered
    url: ${RECEIVER}/ordered
    events: ["*"]
    secret: ${SECRET}
    ordering: key
    concurrency: 64
    timeout: 60s
    retry: {schedule: [100ms, 200ms, 500ms, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s]}
`
			if test.first == `state = 'sending'` {
				config = "source: {max_hold: 1s}\n" + config[len("\nsource: {max_hold: 20s}\n"):]
			}
			rounds := 2
			if full {
				rounds = 5
			}
			parked := 0
			for round := range rounds {
				var hanging atomic.Int64
				ordered.answers(func(q *request) int {
					switch {
					case q.Event.N == 0, test.fails && q.Try == 1:
						return http.StatusInternalServerError
					case (q.Event.Seq-1)%3 > 0: // waits for the one before, so this cannot be
						return http.StatusOK
					}
					hanging.Add(1)
					<-q.Context().Done() // until the relay is dead
					return 0
				})
				r := startRelay(t, db, rcv, config)
				r.waitReady()
				b := bulk{From: round*3*keys + 1, To: (round + 1) * 3 * keys, Keys: keys}
				db.mustWrite(t, b, keys)
				waitHanging(t, &hanging, keys)
				if test.noise {
					db.exec(t, `INSERT INTO posthorn.outbox (type, key, payload) SELECT 'test.noise', 'noise-' || i || $1, '{}' FROM generate_series(1, 10) AS i`, fmt.Sprint(round))
				}
				waitParked(t, db, b, test.first)
				parked += 2 * keys
				r.kill()

				ordered.answers(func(*request) int { return http.StatusOK })
				r = startRelay(t, db, rcv, config)
				ordered.waitAccount(t, b.To)
				waitSettled(t, db)
				if code, _ := r.stop(); code != 0 {
					t.Errorf("exit code %d", code)
				}
			}
			t.Logf("FIGURE killed with the next of its key parked, %s: %d rounds, %d keys in flight, %d events parked behind them: order held, %d requests", name, rounds, rounds*keys, parked, ordered.counts().Requests)
		})
	}
}

func waitHanging(t *testing.T, hanging *atomic.Int64, want int) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if got := hanging.Load(); got < int64(want) {
			return fmt.Errorf("%d of %d requests are in flight", got, want)
		}
		return nil
	})
}

// waitParked returns once the last two thirds of b are parked, and the first
// third stands in the ledger as first says, or, when it is empty, not at all.
func waitParked(t *testing.T, db *database, b bulk, first string) {
	t.Helper()
	const query = `SELECT count(*) FROM posthorn.pending AS p JOIN posthorn.outbox AS o ON o.id = p.event_id
WHERE o.type = 'test.created' AND (o.payload->>'n')::int BETWEEN $1 AND $2`
	third := (b.To - b.From + 1) / 3
	wantFirst := third
	if first == "" {
		wantFirst, first = 0, "true"
	}
	eventually(t, 30*time.Second, func() error {
		behind := db.count(t, query+` AND state = 'pending' AND attempts = 0`, b.From+third, b.To)
		if behind != 2*third {
			return fmt.Errorf("%d of %d events are parked", behind, 2*third)
		}
		if ahead := db.count(t, query+` AND `+first, b.From, b.From+third-1); ahead != wantFirst {
			return fmt.Errorf("of the events in flight %d stand in the ledger, not %d", ahead, wantFirst)
		}
		return nil
	})
}

// waitAccount is waitDelivered for an endpoint that events without a number
// reach too.
func (e *endpoint) waitAccount(t *testing.T, n int) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		if missing := e.undelivered(n); len(missing) > 0 {
			return errors.New("not delivered: " + list(missing))
		}
		return nil
	})
}
