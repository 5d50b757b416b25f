package integration

import (
	"fmt"
	"net/http"
	"slices"
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

// percentile returns the p-th percentile of all.
func percentile(all []time.Duration, p int) time.Duration {
	slices.Sort(all)
	return all[(len(all)-1)*p/100]
}
