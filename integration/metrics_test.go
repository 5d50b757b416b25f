package integration

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestMetricsTellWhatTheRelayDoes(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/well", "/ill")
	rcv.endpoints["/ill"].answers(func(*request) int { return http.StatusInternalServerError })
	r := startRelay(t, db, rcv, `
endpoints:
  - {name: well, url: "${RECEIVER}/well", events: ["*"], secret: "${SECRET}"}
  - {name: ill, url: "${RECEIVER}/ill", events: ["*"], secret: "${SECRET}", retry: {schedule: [1h]}}
`)
	r.waitReady()
	const n = 3 // fewer than make an endpoint failing
	db.mustWrite(t, bulk{From: 1, To: n}, n)
	rcv.endpoints["/well"].waitDelivered(n, time.Minute)
	want := map[string]float64{
		`posthorn_active`: 1,
		`posthorn_attempts_total{endpoint="well",outcome="delivered"}`: n,
		`posthorn_attempts_total{endpoint="ill",outcome="rejected"}`:   n,
		`posthorn_deliveries_total{endpoint="well",state="delivered"}`: n,
		`posthorn_delivery_seconds_count`:                              n,
		`posthorn_pending{endpoint="ill"}`:                             n,
		`posthorn_pending{endpoint="well"}`:                            0,
		`posthorn_in_flight{endpoint="well"}`:                          0,
		`posthorn_waiting{endpoint="well"}`:                            0,
		`posthorn_endpoint_failing{endpoint="ill"}`:                    0,
		`posthorn_endpoint_overflow{endpoint="ill"}`:                   0,
		`posthorn_oldest_unsettled_seconds`:                            0,
		`posthorn_buffer_bytes`:                                        0,
		`posthorn_ledger_backlog`:                                      0,
		`posthorn_ledger_unwritable`:                                   0,
	}
	eventually(t, time.Minute, func() error {
		got := r.metrics()
		for name, value := range want {
			if v, ok := got[name]; !ok || v != value {
				return fmt.Errorf("%s is %g, there: %t; want %g", name, v, ok, value)
			}
		}
		for _, name := range []string{"posthorn_slot_lag_bytes", "posthorn_slot_retained_bytes"} { // read every few seconds
			if v, ok := got[name]; !ok || v < 0 {
				return fmt.Errorf("%s is %g, there: %t", name, v, ok)
			}
		}
		return nil
	})
	for _, path := range []string{"/healthz", "/readyz"} {
		r.get(path)
	}
}
