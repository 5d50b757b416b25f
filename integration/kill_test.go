package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// threeEndpoints fail and are slow in ways of their own, which the receiver
// decides; retries come fast.
const threeEndpoints = `
profiles:
  eager: {retry: {schedule: [100ms, 100ms, 200ms, 200ms, 1s, 1s, 1s, 5s, 5s, 5s, 5s, 5s], jitter: 0.5}}
endpoints:
  - {name: plain, url: "${RECEIVER}/plain", events: ["*"], secret: "${SECRET}", profile: eager}
  - {name: slow, url: "${RECEIVER}/slow", events: ["*"], secret: "${SECRET}", profile: eager, concurrency: 64}
  - {name: ordered, url: "${RECEIVER}/ordered", events: ["*"], secret: "${SECRET}", profile: eager, ordering: key, concurrency: 64}
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
		if failures := moodyFailures(q.Event.N); len(failures) >= q.Try {
			return failures[q.Try-1]
		}
		return after(q.Context(), time.Duration(rand.IntN(5))*time.Millisecond, http.StatusOK)
	})
	return rcv
}

// moodyFailures returns what the first tries of event n are answered with; 0
// cuts the connection.
func moodyFailures(n int) []int {
	switch {
	case n == 0: // the marker
		return nil
	case n%17 == 0:
		return []int{http.StatusServiceUnavailable, http.StatusServiceUnavailable}
	case n%41 == 0:
		return []int{0}
	}
	return nil
}

// moodyRetries returns how many retries n events cost.
func moodyRetries(n int) int {
	retries := 0
	for i := 1; i <= n; i++ {
		retries += len(moodyFailures(i))
	}
	return retries
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
			return fmt.Errorf("ledger: %d deliveries are delivered, not %d; pending are %s", got, n, db.pending(t))
		}
		return nil
	})
	for _, table := range []string{"posthorn.pending", "posthorn.payloads", "posthorn.deliveries WHERE state <> 'delivered'"} {
		if got := db.count(t, `SELECT count(*) FROM `+table); got > 0 {
			t.Errorf("ledger: %d rows are left in %s", got, table)
		}
	}
}

// delivered returns which events the ledger holds as delivered to endpoint.
func (db *database) delivered(t *testing.T, endpoint string) []int {
	t.Helper()
	rows, err := db.pool.Query(t.Context(), `SELECT (o.payload->>'n')::int FROM posthorn.deliveries AS d JOIN posthorn.outbox AS o ON o.id = d.event_id
WHERE d.state = 'delivered' AND d.endpoint_id = (SELECT id FROM posthorn.endpoints WHERE name = $1)`, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		t.Fatal(err)
	}
	return numbers
}

// pending describes the first few deliveries that are not final.
func (db *database) pending(t *testing.T) string {
	t.Helper()
	var text string
	err := db.pool.QueryRow(t.Context(), `SELECT coalesce(string_agg(line, E'\n'), 'none') FROM (SELECT format('%s of key %s to %s: %s (%s), %s attempts, due at %s', type, key, endpoint_id, state, reason, attempts, due_at) AS line
FROM posthorn.pending ORDER BY lsn, index LIMIT 5) AS few`).Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestNothingIsLostWhenTheRelayIsKilled(t *testing.T) {
	n, kills := scaled(20_000), max(5, scaled(20))
	db := newDatabase(t)
	rcv := newMoodyReceiver(t)
	r := startRelay(t, db, rcv, threeEndpoints)
	r.waitReady()

	rolledBack := loadRounds(t, db, rcv, n, kills, func() {
		r.kill()
		for path, e := range rcv.endpoints {
			e.recorded(db.delivered(t, path[1:]))
		}
		r = startRelay(t, db, rcv, threeEndpoints)
	})
	for _, e := range rcv.endpoints {
		e.waitDelivered(n, 2*time.Minute)
	}
	waitSettled(t, db)
	checkLedger(t, db, 3*(n+1)) // and the marker

	sum := rcv.total()
	t.Logf("FIGURE killed %d times: %d events committed, %d rolled back, 3 × %d deliveries, 0 lost, %d duplicates (%.2f %%, none of a recorded delivery, each of one delivery id and one body), %d retries, in %d requests",
		kills, n, rolledBack, n, sum.Duplicates, 100*float64(sum.Duplicates)/float64(3*n), sum.Again, sum.Requests)
	for path, e := range rcv.endpoints {
		t.Logf("FIGURE killed %d times: %s: %+v", kills, path, e.counts())
	}
}

const fastEndpoint = `
endpoints:
  - {name: fast, url: "${RECEIVER}/fast", events: ["*"], secret: "${SECRET}", concurrency: 64}
`

// What a kill at full speed has sent again is bounded, whatever the rate: by
// the requests in flight and one batch of the ledger.
func TestKillAtFullSpeedRepeatsAtMostOneBatch(t *testing.T) {
	n, kills := scaled(100_000), max(4, scaled(20))
	const bound = 64 + unrecorded
	db := newDatabase(t)
	rcv := newReceiver(t, "/fast")
	fast := rcv.endpoints["/fast"]
	if code := startCommand(t, db, rcv, fastEndpoint, "init").wait(time.Minute); code != 0 {
		t.Fatalf("posthorn init: exit code %d", code)
	}
	db.mustWrite(t, bulk{From: 1, To: n}, 1000)
	most, before := 0, 0
	for kill := range kills {
		r := startRelay(t, db, rcv, fastEndpoint)
		// Beyond all that comes again of the kill before.
		goal := max((kill*n+rand.IntN(n))/kills, fast.counts().Delivered+500)
		eventually(t, time.Minute, func() error {
			if got := fast.counts().Delivered; got <= goal {
				return fmt.Errorf("%d events delivered, waiting for more than %d", got, goal)
			}
			return nil
		})
		r.kill()
		again := fast.counts().Duplicates - before // of the kill before
		most, before = max(most, again), before+again
		fast.recorded(db.delivered(t, "fast"))
	}
	startRelay(t, db, rcv, fastEndpoint)
	fast.waitDelivered(n, 2*time.Minute)
	waitSettled(t, db)
	checkLedger(t, db, n+1) // and the marker
	c := fast.counts()
	if most = max(most, c.Duplicates-before); most > bound {
		t.Errorf("%d events came again after one kill, want at most %d", most, bound)
	}
	t.Logf("FIGURE killed %d times at full speed: %d events, 0 lost; at most %d of them came again after one kill (bound %d), %d after all", kills, n, most, bound, c.Duplicates)
}

// parking is a way in which the first of three events of a key is in flight
// while the others stand in the ledger.
type parking struct {
	maxHold string
	// fails says that the first event's first try fails, and the second one is
	// in flight.
	fails bool
	// noise is how many events of other keys fail meanwhile: five in a row have
	// the endpoint failing.
	noise int
	// first is how the first event stands in the ledger; empty: it does not.
	first string
}

const patientEndpoint = `
source: {max_hold: %s}
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

func TestKeyOrderHoldsWhenTheRelayIsKilledWithTheNextParked(t *testing.T) {
	tests := map[string]parking{
		"first try, endpoint failing":     {maxHold: "30s", noise: 10},
		"first try, longer than max_hold": {maxHold: "1s", first: `state = 'sending'`},
		"retry":                           {maxHold: "30s", fails: true, first: `state = 'pending' AND attempts = 1`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			const keys = 20
			db := newDatabase(t)
			rcv := newReceiver(t, "/ordered")
			ordered := rcv.endpoints["/ordered"]
			ordered.ordered = true
			config := fmt.Sprintf(patientEndpoint, test.maxHold)
			rounds := max(2, scaled(5))
			for round := range rounds {
				b := bulk{From: round*3*keys + 1, To: (round + 1) * 3 * keys, Keys: keys}
				r := startRelay(t, db, rcv, config)
				r.waitReady()
				test.park(t, db, ordered, b)
				r.kill()

				ordered.answers(func(*request) int { return http.StatusOK })
				r = startRelay(t, db, rcv, config)
				ordered.waitDelivered(b.To, time.Minute)
				waitSettled(t, db)
				if code, _ := r.stop(); code != 0 {
					t.Errorf("exit code: got %d, want 0", code)
				}
			}
			t.Logf("FIGURE killed with the next of its key parked, %s: %d rounds, %d keys in flight, %d events parked behind them, order held in %d requests",
				name, rounds, rounds*keys, 2*rounds*keys, ordered.counts().Requests)
		})
	}
}

// park writes b, three events of each key, and returns once the first of each
// is in flight and the others are parked.
func (p parking) park(t *testing.T, db *database, e *endpoint, b bulk) {
	t.Helper()
	third := (b.To - b.From + 1) / 3
	var failing, hanging atomic.Int64
	all := make(chan struct{}) // closed when all first tries are there: none is parked untried
	e.answers(func(q *request) int {
		switch {
		case q.Event.N == 0:
			return http.StatusInternalServerError
		case p.fails && q.Try == 1:
			if failing.Add(1) == int64(third) {
				close(all)
			}
			select {
			case <-all:
			case <-q.Context().Done():
			}
			return http.StatusInternalServerError
		case q.Event.N >= b.From+third:
			e.complain("event %d arrived before the first of its key was answered", q.Event.N)
		}
		hanging.Add(1)
		<-q.Context().Done() // until the relay is dead
		return 0
	})
	db.mustWrite(t, b, third)
	eventually(t, 30*time.Second, func() error {
		if got := hanging.Load(); got < int64(third) {
			return fmt.Errorf("%d of %d requests are in flight", got, third)
		}
		return nil
	})
	db.exec(t, `INSERT INTO posthorn.outbox (type, key, payload) SELECT 'test.noise', 'noise-' || $1 || '-' || i, '{}' FROM generate_series(1, $2::int) AS i`, fmt.Sprint(b.From), p.noise)
	const query = `SELECT count(*) FROM posthorn.pending AS p JOIN posthorn.outbox AS o ON o.id = p.event_id
WHERE o.type = 'test.created' AND (o.payload->>'n')::int BETWEEN $1 AND $2`
	first, wantFirst := p.first, third
	if first == "" {
		first, wantFirst = "true", 0
	}
	eventually(t, 30*time.Second, func() error {
		behind := db.count(t, query+` AND state = 'pending' AND attempts = 0`, b.From+third, b.To)
		ahead := db.count(t, query+` AND `+first, b.From, b.From+third-1)
		if behind != 2*third || ahead != wantFirst {
			return fmt.Errorf("%d events are parked, want %d; %d in flight stand in the ledger, want %d", behind, 2*third, ahead, wantFirst)
		}
		return nil
	})
}
