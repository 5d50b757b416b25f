package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// paces are the event types of a burst: what becomes of them is their name.
var paces = []string{"none", "set", "no-op"}

// TestBurstThroughPlugin measures the same load through no
// transform, a built-in one, and a plugin that does nothing, in turns, so that
// all see the same machine; it holds that all arrives once.
func TestBurstThroughPlugin(t *testing.T) {
	n, rounds := scaled(20_000), 5
	db, rcv := newDatabase(t), newReceiver(t, "/fast")
	fast := rcv.endpoints["/fast"]
	r := startRelay(t, db, rcv, fmt.Sprintf(`
plugins: {no-op: %s}
transforms:
  - {match: [set.made], set: {source: hr}}
  - {match: [no-op.made], plugin: no-op}
endpoints:
  - {name: fast, url: "${RECEIVER}/fast", events: ["*"], secret: "${SECRET}"}
`, pluginOf("no-op", nil)))
	r.waitReady()

	var left atomic.Int64
	last := make(chan time.Time)
	fast.answers(func(*request) int {
		if left.Add(-1) == 0 {
			last <- time.Now()
		}
		return http.StatusOK
	})
	speed := map[string][]float64{} // events a second, in each round
	from := 1
	burst := func(pace string) {
		left.Store(int64(n))
		db.mustWrite(t, bulk{From: from, To: from + n - 1, Type: pace + ".made"}, n)
		committed := time.Now()
		from += n
		select {
		case at := <-last:
			speed[pace] = append(speed[pace], float64(n)/at.Sub(committed).Seconds())
		case <-time.After(2 * time.Minute):
			t.Fatalf("%d of %d events of type %s.made did not arrive", left.Load(), n, pace)
		}
	}
	for _, pace := range paces { // connections, statements, caches
		burst(pace)
	}
	clear(speed)
	for round := range rounds {
		for i := range paces { // another one is first each time
			burst(paces[(round+i)%len(paces)])
		}
	}
	fast.waitDelivered(from-1, time.Minute)
	if d := fast.counts(); d.Duplicates+d.Again > 0 {
		t.Errorf("%d events arrived again", d.Duplicates+d.Again)
	}
	median := func(pace string) float64 {
		slices.Sort(speed[pace])
		return speed[pace][rounds/2]
	}
	var text strings.Builder
	for _, pace := range paces {
		fmt.Fprintf(&text, "; %s: %.0f events a second, ratio %.2f", pace, median(pace), median(pace)/median("none"))
	}
	t.Logf("FIGURE throughput, median of %d rounds of %d events to one endpoint%s", rounds, n, text.String())
}
