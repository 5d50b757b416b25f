package integration

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

func TestBurstForFastEndpointIsNotParked(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/fast")
	r := startRelay(t, db, rcv, `
endpoints:
  - {name: fast, url: "${RECEIVER}/fast", events: ["*"], secret: "${SECRET}"}
`)
	r.waitReady()
	n := scaled(50_000)
	started := time.Now()
	db.mustWrite(t, bulk{From: 1, To: n}, 1000)
	rcv.endpoints["/fast"].waitDelivered(n, 2*time.Minute)
	took := time.Since(started)
	if code, _ := r.stop(); code != 0 {
		t.Fatalf("the relay ended with %d", code)
	}

	// The statistics come when the relay's sessions end: those of deliveries
	// show that they are complete.
	const inserted = `SELECT coalesce(sum(n_tup_ins), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = 'posthorn' AND relname ~ $1`
	eventually(t, 30*time.Second, func() error {
		if got := db.count(t, inserted, `^deliveries`); got != n {
			return fmt.Errorf("%d rows were inserted into posthorn.deliveries, not %d", got, n)
		}
		return nil
	})
	parked := db.count(t, inserted, `^pending$`)
	t.Logf("FIGURE burst for a fast endpoint: %d events in %.1fs (%.0f a second), %d rows parked", n, took.Seconds(), float64(n)/took.Seconds(), parked)
	if parked != 0 {
		t.Errorf("%d rows were inserted into posthorn.pending", parked)
	}
}

// Of large payloads the buffer holds so few that even a slow endpoint seems to
// get through them in time.
func TestBurstForSlowEndpointDelaysOtherByMaxHold(t *testing.T) {
	t.Run("small payloads", func(t *testing.T) { slowBurst(t, 0) })
	t.Run("large payloads", func(t *testing.T) { slowBurst(t, 5000) })
}

func slowBurst(t *testing.T, pad int) {
	const perSecond = 800
	n, maxHold, buffer := 40_000, 10*time.Second, "16MiB" // 50 seconds' worth; the defaults
	if !full {
		n, maxHold, buffer = 4800, time.Second, "1MiB" // 6 seconds' worth
	}
	db, rcv := newDatabase(t), newReceiver(t, "/slow", "/quiet")
	slow, quiet := rcv.endpoints["/slow"], rcv.endpoints["/quiet"]
	limit := rate.NewLimiter(perSecond, 1)
	slow.answers(func(q *request) int {
		if limit.Wait(q.Context()) != nil {
			return 0
		}
		return http.StatusOK
	})
	arrived := make(chan time.Time, 1)
	quiet.answers(func(*request) int {
		arrived <- time.Now()
		return http.StatusOK
	})
	r := startRelay(t, db, rcv, fmt.Sprintf(`
source: {max_hold: %s, buffer: %s}
endpoints:
  - {name: slow, url: "${RECEIVER}/slow", events: ["slow.*"], secret: "${SECRET}"}
  - {name: quiet, url: "${RECEIVER}/quiet", events: ["quiet.*"], secret: "${SECRET}"}
`, maxHold, buffer))
	r.waitReady()

	db.mustWrite(t, bulk{From: 1, To: n, Type: "slow.created", Pad: pad}, n)
	committed := time.Now()
	db.mustWrite(t, bulk{From: 1, To: 1, Type: "quiet.created"}, 1)
	var delay time.Duration
	select {
	case at := <-arrived:
		delay = at.Sub(committed)
	case <-time.After(5 * time.Minute):
		t.Fatal("the event behind the burst did not arrive")
	}
	delivered := slow.counts().Delivered
	t.Logf("FIGURE burst of %d (padded by %d bytes) for an endpoint of %d a second: the event behind it arrived after %.1fs, max_hold is %s, %d of the burst were delivered by then",
		n, pad, perSecond, delay.Seconds(), maxHold, delivered)
	if delivered >= n {
		t.Error("the event behind the burst waited for all of it")
	}
	limit.SetLimit(rate.Inf)
	slow.waitDelivered(n, 2*time.Minute)
	if d := slow.counts().Duplicates; d != 0 {
		t.Errorf("%d events of the burst arrived again after they had been accepted", d)
	}
}
