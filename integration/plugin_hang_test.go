package integration

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

func TestHangingPluginHoldsNothingBack(t *testing.T) {
	t.Run("few events", func(t *testing.T) { hang(t, 200, 2000, "1MiB") })
	t.Run("more small events than the buffer holds", func(t *testing.T) { hang(t, scaled(20_000), 2000, "1MiB") })
	t.Run("more large events than the buffer holds", func(t *testing.T) { hang(t, scaled(20_000), 6000, "4MiB") })
}

// hang has every second of n events hang in a plugin, also over a restart. Some
// of the others need a second try. They are padded by pad bytes.
func hang(t *testing.T, n, pad int, buffer string) {
	db, rcv := newDatabase(t), newReceiver(t, "/a")
	a := rcv.endpoints["/a"]
	release, calls := filepath.Join(t.TempDir(), "release"), filepath.Join(t.TempDir(), "calls")
	t.Cleanup(func() { touch(t, release) })
	config := fmt.Sprintf(`
source: {max_hold: 1s, buffer: %s}
plugins: {marker: %s}
transforms: [{match: ["marker.*"], plugin: marker}]
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"], secret: "${SECRET}", concurrency: 64, retry: {schedule: [100ms, 1s, 1s], jitter: 0}}
`, buffer, pluginOf("marker", variables{releaseVariable: release, callsVariable: calls}, "timeout: 5m"))
	r := startRelay(t, db, rcv, config)
	r.waitReady()
	a.answers(func(q *request) int {
		if q.Event.N%20 == 1 && q.Try == 1 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})

	began := time.Now()
	const batch = 500
	var plain, hung []int
	write := func(from, to int) {
		t.Helper()
		db.exec(t, `INSERT INTO posthorn.outbox (type, payload)
SELECT CASE WHEN n % 2 = 0 THEN 'marker.made' ELSE 'plain.made' END, json_build_object('n', n, 'do', 'wait', 'pad', repeat('x', $3::int))
FROM generate_series($1::int, $2::int) AS n`, from, to, pad)
		for i := from; i <= to; i++ {
			if i%2 == 0 {
				hung = append(hung, i)
			} else {
				plain = append(plain, i)
			}
		}
	}
	arrive := func() {
		t.Helper()
		eventually(t, time.Minute, func() error {
			if missing := a.missing(plain); len(missing) > 0 {
				return fmt.Errorf("%d of %d events without plugin are missing: %s", len(missing), len(plain), list(missing))
			}
			return nil
		})
	}
	for from := 1; from <= n; from += batch {
		write(from, min(from+batch-1, n))
	}
	position := db.written(t)
	arrive()
	arrived := time.Since(began)
	db.waitConfirmed(t, position, 75*time.Second)
	confirmed := time.Since(began)
	if missing, calls := a.missing(hung), readLines(t, calls); len(missing) != len(hung) || len(calls) == 0 || r.pluginUp("marker") != 1 {
		t.Errorf("the plugin did not hang: %d of %d events have not arrived, it was called for %d", len(missing), len(hung), len(calls))
	}
	r.kill()
	r = startRelay(t, db, rcv, config)
	r.waitReady()
	write(n+1, n+200)
	n += 200
	arrive()
	if missing := a.missing(hung); len(missing) != len(hung) {
		t.Errorf("the plugin did not hang after the restart: %d of %d events have not arrived", len(missing), len(hung))
	}
	touch(t, release)
	a.waitDelivered(n, time.Minute)
	waitSettled(t, db)
	if d := a.counts().Duplicates; d > 0 {
		t.Errorf("%d events arrived again", d)
	}
	t.Logf("FIGURE a plugin hung: %d events of another type arrived within %.1fs, the slot passed them and the %d that hung (%.1f MB, of a buffer of %s) within %.1fs; after a restart, too; then all of these arrived, 0 lost, 0 doubled",
		len(plain), arrived.Seconds(), len(hung), float64(len(hung)*pad)/1e6, buffer, confirmed.Seconds())
}
