package integration

import (
	"net/http"
	"testing"
	"time"
)

// stopSlack is what a process may take beyond stop_timeout to be gone.
const stopSlack = 5 * time.Second

func TestNothingIsLostOrDoubledWhenTheRelayIsStopped(t *testing.T) {
	const stopTimeout = 8 * time.Second // the default
	n, stops := scaled(20_000), max(4, scaled(20))
	db := newDatabase(t)
	rcv := newMoodyReceiver(t)
	r := startRelay(t, db, rcv, threeEndpoints)
	r.waitReady()

	var slowest time.Duration
	loadRounds(t, db, rcv, n, stops, func() {
		code, took := r.stop()
		if code != 0 {
			t.Errorf("exit code: got %d, want 0", code)
		}
		slowest = max(slowest, took)
		r = startRelay(t, db, rcv, threeEndpoints)
	})
	for _, e := range rcv.endpoints {
		e.waitDelivered(n, 2*time.Minute)
	}
	waitSettled(t, db)
	checkLedger(t, db, 3*(n+1)) // and the marker

	if slowest > stopTimeout+stopSlack {
		t.Errorf("a stop took %s, longer than stop_timeout", slowest)
	}
	for path, e := range rcv.endpoints {
		want := account{Requests: n + 1, Delivered: n + 1}
		if path == "/ordered" {
			want.Again = moodyRetries(n)
			want.Requests += want.Again
		}
		if got := e.counts(); got != want {
			t.Errorf("%s: got %+v, want %+v", path, got, want)
		}
	}
	t.Logf("FIGURE stopped %d times under load: 3 × %d deliveries, 0 lost, %d duplicates, %d retries; the slowest stop took %s", stops, n, rcv.total().Duplicates, rcv.total().Again, slowest.Round(time.Millisecond))
}

func TestStopIsInTimeWhenAReceiverHangs(t *testing.T) {
	const stopTimeout = 2 * time.Second
	const config = "stop_timeout: 2s" + oneEndpoint
	db := newDatabase(t)
	rcv := newReceiver(t, "/plain")
	plain := rcv.endpoints["/plain"]
	hanging := make(chan struct{})
	plain.answers(func(q *request) int {
		close(hanging)
		<-q.Context().Done()
		return 0
	})
	r := startRelay(t, db, rcv, config)
	r.waitReady()
	db.mustWrite(t, bulk{From: 1, To: 1}, 1)
	<-hanging
	code, took := r.stop()
	if code != 0 || took > stopTimeout+stopSlack {
		t.Errorf("stopped with exit code %d after %s, want 0 within %s", code, took, stopTimeout)
	}

	plain.answers(func(*request) int { return http.StatusOK })
	startRelay(t, db, rcv, config)
	plain.waitDelivered(1, time.Minute)
	t.Logf("FIGURE stopped while a receiver hangs: exit code %d after %s of stop_timeout %s, delivered after the restart", code, took.Round(time.Millisecond), stopTimeout)
}
