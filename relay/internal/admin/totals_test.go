package admin

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

func TestTotalsAreWhatWasCounted(t *testing.T) {
	m := NewMetrics("test", func() Snapshot { return Snapshot{} })
	m.Event()
	m.Attempts("a", "delivered")()
	m.Finals("a", ledger.Delivered)()
	m.Delivered(3 * time.Millisecond)
	before := m.Totals()
	nothing := &Totals{All: ledger.Count{Latency: make([]int64, len(ledger.LatencyBounds)+1)}, Endpoints: map[string]ledger.Count{}}
	if diff := cmp.Diff(nothing, m.Totals().Since(before)); diff != "" {
		t.Errorf("since a moment ago (-want +got):\n%s", diff)
	}
	m.Event()
	m.Event()
	m.Attempts("a", "delivered")()
	m.Attempts("b", "failed")()
	m.Attempts("b", "rejected")()
	m.Finals("a", ledger.Delivered)()
	m.Finals("b", ledger.Failed)()
	m.Finals("c", ledger.Skipped)()
	m.Delivered(time.Millisecond)
	m.Delivered(1000 * time.Hour)
	latency := make([]int64, len(ledger.LatencyBounds)+1)
	latency[0], latency[len(latency)-1] = 1, 1
	want := &Totals{
		All: ledger.Count{Events: 2, Delivered: 1, Failed: 1, Attempts: 3, FailedAttempts: 2, Latency: latency},
		Endpoints: map[string]ledger.Count{
			"a": {Delivered: 1, Attempts: 1}, "b": {Failed: 1, Attempts: 2, FailedAttempts: 2},
		},
	}
	if diff := cmp.Diff(want, m.Totals().Since(before)); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
}

func TestTotalsStayWhenAnEndpointGoes(t *testing.T) {
	m := NewMetrics("test", func() Snapshot { return Snapshot{} })
	count := func(endpoint string, n int) {
		for range n {
			m.Attempts(endpoint, "failed")()
			m.Attempts(endpoint, "rejected")()
			m.Attempts(endpoint, "delivered")()
			m.Finals(endpoint, ledger.Delivered)()
			m.Finals(endpoint, ledger.Failed)()
			m.Finals(endpoint, ledger.Skipped)()
		}
	}
	count("a", 5)
	count("b", 5)
	before := m.Totals()
	count("a", 1)
	m.Forget("a")
	m.Forget("never")
	count("b", 2)
	of := func(n int64) ledger.Count {
		return ledger.Count{Delivered: n, Failed: n, Attempts: 3 * n, FailedAttempts: 2 * n}
	}
	all := func(n int64) ledger.Count {
		c := of(n)
		c.Latency = make([]int64, len(ledger.LatencyBounds)+1)
		return c
	}
	want := &Totals{All: all(3), Endpoints: map[string]ledger.Count{"b": of(2)}}
	if diff := cmp.Diff(want, m.Totals().Since(before)); diff != "" {
		t.Errorf("after it went (-want +got):\n%s", diff)
	}
	count("a", 3) // enabled again
	want = &Totals{All: all(6), Endpoints: map[string]ledger.Count{"a": of(3), "b": of(2)}}
	if diff := cmp.Diff(want, m.Totals().Since(before)); diff != "" {
		t.Errorf("after it came back (-want +got):\n%s", diff)
	}
}
