package integration

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// isolationConfig has an endpoint that is well beside one that dies; their
// receivers are two servers.
const isolationConfig = `
profiles:
  dying:
    timeout: 1s
    retry: {schedule: %s, jitter: 0}
endpoints:
  - {name: healthy, url: "${RECEIVER}/healthy", events: ["*"], secret: "${SECRET}"}
  - {name: dying, url: "%s/dying", events: ["*"], secret: "${SECRET}", profile: dying}
`

func isolated(ill *receiver) string { return fmt.Sprintf(isolationConfig, waits("2s", 50), ill.url()) }

// hangs is an answer that never comes.
func hangs(q *request) int {
	<-q.Context().Done()
	return 0
}

func succeeds(*request) int { return http.StatusOK }

func TestDeadEndpointDelaysNoOther(t *testing.T) {
	deaths := []struct {
		name        string
		die, revive func(*receiver)
	}{
		{"refuses", (*receiver).refuse, (*receiver).listen},
		{
			"hangs",
			func(r *receiver) { r.endpoints["/dying"].answers(hangs) },
			func(r *receiver) { r.endpoints["/dying"].answers(succeeds) },
		},
	}
	for _, death := range deaths {
		t.Run(death.name, func(t *testing.T) {
			db := newDatabase(t)
			well, ill := newReceiver(t, "/healthy"), newReceiver(t, "/dying")
			healthy, dying := well.endpoints["/healthy"], ill.endpoints["/dying"]
			r := startRelay(t, db, well, isolated(ill))
			r.waitReady()
			death.die(ill)

			const waves = 4
			wave := scaled(20_000) / waves
			started := time.Now()
			for i := range waves {
				db.mustWrite(t, bulk{From: i*wave + 1, To: (i + 1) * wave}, 50)
				position := db.written(t)
				healthy.waitDelivered((i+1)*wave, 60*time.Second)
				db.waitConfirmed(t, position, 75*time.Second)
			}
			n, took := waves*wave, time.Since(started)
			if got := dying.counts().Delivered; got != 0 {
				t.Fatalf("the dead endpoint accepted %d events", got)
			}

			death.revive(ill)
			revived := time.Now()
			dying.waitDelivered(n, 2*time.Minute)
			t.Logf("FIGURE dead endpoint %s: %d events reached the healthy one and the slot passed them in %.1fs; the dead one had all of them %.1fs after it was back, %d requests of it were repetitions",
				death.name, n, took.Seconds(), time.Since(revived).Seconds(), dying.counts().Again)
			for _, e := range []*endpoint{healthy, dying} {
				if d := e.counts().Duplicates; d != 0 {
					t.Errorf("%s got %d events again after it had accepted them", e.path, d)
				}
			}
			if code, _ := r.stop(); code != 0 {
				t.Errorf("the relay ended with %d", code)
			}
		})
	}
}

const aloneConfig = `
endpoints:
  - {name: healthy, url: "${RECEIVER}/healthy", events: ["*"], secret: "${SECRET}"}
`

// BenchmarkHealthyBesideDead measures how long after its insert an event
// reaches a healthy endpoint, alone and beside one that hangs, at a steady
// rate, in turns, so that both see the same machine.
func BenchmarkHealthyBesideDead(b *testing.B) {
	const rounds = 3
	var alone, beside []time.Duration
	for b.Loop() {
		for range rounds {
			alone = append(alone, latencies(b, aloneConfig)...)
			ill := newReceiver(b, "/dying")
			ill.endpoints["/dying"].answers(hangs)
			beside = append(beside, latencies(b, isolated(ill))...)
		}
	}
	without, with := percentile(alone, 99), percentile(beside, 99)
	b.ReportMetric(0, "ns/op") // says nothing here
	b.ReportMetric(float64(without.Microseconds())/1000, "p99-alone-ms")
	b.ReportMetric(float64(with.Microseconds())/1000, "p99-beside-dead-ms")
	b.ReportMetric(float64(with)/float64(without), "ratio")
}

// latencies runs a relay under a steady load and returns how long each event
// took from before its insert to its arrival at the healthy endpoint.
func latencies(b *testing.B, config string) []time.Duration {
	const (
		every = 10 * time.Millisecond
		each  = 5 // events in a transaction: 500 a second
	)
	n := scaled(5000)
	db, rcv := newDatabase(b), newReceiver(b, "/healthy")
	healthy := rcv.endpoints["/healthy"]
	r := startRelay(b, db, rcv, config)
	r.waitReady()

	var mu sync.Mutex
	began, took := make([]time.Time, n+1), make([]time.Duration, 0, n)
	healthy.answers(func(q *request) int {
		mu.Lock()
		defer mu.Unlock()
		took = append(took, time.Since(began[q.Event.N]))
		return http.StatusOK
	})
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for from := 1; from <= n; from += each {
		<-ticker.C
		part := bulk{From: from, To: min(from+each-1, n)}
		mu.Lock()
		for i := part.From; i <= part.To; i++ {
			began[i] = time.Now()
		}
		mu.Unlock()
		if err := part.insert(context.Background(), db.pool); err != nil {
			b.Fatal(err)
		}
	}
	healthy.waitDelivered(n, time.Minute)
	r.kill()
	return took
}

// percentile returns the p-th percentile of all.
func percentile(all []time.Duration, p int) time.Duration {
	slices.Sort(all)
	return all[(len(all)-1)*p/100]
}
