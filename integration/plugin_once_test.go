package integration

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

const onceConfig = `
plugins: {marker: %s}
transforms: [{match: ["*"], plugin: marker}]
profiles:
  patient: {retry: {schedule: %s, jitter: 0}, timeout: 60s}
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"], secret: "${SECRET}", profile: patient}
  - {name: b, url: "${RECEIVER}/b", events: ["*"], secret: "${SECRET}", profile: patient}
  - {name: c, url: "${RECEIVER}/c", events: ["*"], secret: "${SECRET}", profile: patient, ordering: key}
`

// TestEventIsTransformedOnce has a plugin that makes another payload each time,
// and endpoints that fail until it was replaced and the relay was started again
// twice.
func TestEventIsTransformedOnce(t *testing.T) {
	const n = 3 // fewer than make an endpoint failing
	db, rcv := newDatabase(t), newReceiver(t, "/a", "/b", "/c")
	calls := filepath.Join(t.TempDir(), "calls")
	var mu sync.Mutex
	status := http.StatusInternalServerError
	bodies := map[int]map[string]int{} // of each event: how often each came
	for _, e := range rcv.endpoints {
		e.answers(func(q *request) int {
			mu.Lock()
			defer mu.Unlock()
			if bodies[q.Event.N] == nil {
				bodies[q.Event.N] = map[string]int{}
			}
			bodies[q.Event.N][string(q.Body)]++
			return status
		})
	}
	version := func(v string) string {
		return fmt.Sprintf(onceConfig, pluginOf("marker", variables{labelVariable: v, callsVariable: calls}), waits("1s", 50))
	}
	again := func() { // each delivery is tried at least once more
		t.Helper()
		enough := map[string]int{}
		for path, e := range rcv.endpoints {
			enough[path] = e.counts().Requests + n
		}
		eventually(t, time.Minute, func() error {
			for path, e := range rcv.endpoints {
				if err := atLeast(e.counts().Requests, enough[path]); err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
			}
			return nil
		})
	}
	r := startConfigured(t, db, rcv, version("1"))
	r.waitReady()
	db.mustWrite(t, bulk{From: 1, To: n, Keys: n}, 1)
	again()
	eventually(t, time.Minute, func() error {
		return atLeast(db.count(t, `SELECT count(*) FROM posthorn.pending WHERE attempts > 0 AND request_method IS NOT NULL`), 3*n)
	})
	r.reload(version("2"))
	again()
	if code, _ := r.stop(); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
	r = startConfigured(t, db, rcv, version("3"))
	r.waitReady()
	again()
	r.kill()
	r = startConfigured(t, db, rcv, version("4"))
	r.waitReady()
	again()
	mu.Lock()
	status = http.StatusOK
	mu.Unlock()
	for _, e := range rcv.endpoints {
		e.waitDelivered(n, time.Minute)
	}
	db.mustWrite(t, bulk{From: n + 1, To: n + 1}, 1) // to endpoints that are well again
	requests := 0
	for _, e := range rcv.endpoints {
		e.waitDelivered(n+1, time.Minute)
		requests += e.counts().Requests
	}
	waitSettled(t, db)

	mu.Lock()
	defer mu.Unlock()
	for i := 1; i <= n+1; i++ {
		by := "1"
		if i > n {
			by = "4"
		}
		if len(bodies[i]) != 1 {
			t.Errorf("event %d came with %d bodies: %q", i, len(bodies[i]), slices.Collect(maps.Keys(bodies[i])))
		}
		for body := range bodies[i] {
			if got := marksOf([]byte(body)).By; got != by {
				t.Errorf("event %d was transformed by version %s, not %s", i, got, by)
			}
		}
	}
	ids := readLines(t, calls)
	slices.Sort(ids)
	if unique := len(slices.Compact(slices.Clone(ids))); unique != len(ids) || len(ids) != n+2 { // and the marker
		t.Errorf("the plugin was called %d times for %d events, of which there are %d", len(ids), unique, n+2)
	}
	t.Logf("FIGURE once: %d events to 3 endpoints, in %d requests, beside 3 newer plugins, a stop and a kill: one body each, the plugin saw each once", n+1, requests)
}
