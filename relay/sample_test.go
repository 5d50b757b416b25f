package relay

import (
	"fmt"
	"net/url"
	"testing"
	"time"
)

func TestStatsOutliveTheRelay(t *testing.T) {
	db := newDatabase(t)
	more := fmt.Sprintf(apiEndpoints, echo(t))
	first := db.startAPI(t, more)
	c := newAPIClient(first.address)
	began := time.Now().UTC()
	db.script(t, `INSERT INTO posthorn.outbox (type, payload) SELECT 'pr.made', json_build_object('n', n) FROM generate_series(1, 5) n;`)
	c.waitDeliveries(t, "state=delivered&endpoint=erp", 5)
	c.waitDeliveries(t, "state=pending&endpoint=ill", 5)
	first.stop()

	c = newAPIClient(db.startAPI(t, more).address)
	var of struct {
		Now struct {
			EventsPerSecond float64 `json:"events_per_second"`
			Pending         int
			Success         float64 `json:"success_share"`
			P50             float64 `json:"p50_ms"`
		}
		Series []struct {
			Events, Delivered int
			FailedAttempts    int `json:"failed_attempts"`
			Parked            int
			Retained          int `json:"slot_retained_bytes"`
		}
	}
	hour := "from=" + url.QueryEscape(began.Add(-30*time.Minute).Format(time.RFC3339)) + "&until=" + url.QueryEscape(began.Add(30*time.Minute).Format(time.RFC3339))
	for query, want := range map[string]string{
		hour + "&step=10s": "5 5 true 5 true", hour + "&step=5m": "5 5 true 5 true", hour + "&step=20m": "5 5 true 5 true",
		hour + "&endpoint=erp": "0 5 false 0 false", hour + "&endpoint=a+b%2Fc": "0 0 false 0 false",
	} {
		c.must(t, "viewer", "GET", "/api/v1/stats?"+query, "", &of)
		var events, delivered, failed, parked, retained int
		for _, p := range of.Series {
			events, delivered, failed = events+p.Events, delivered+p.Delivered, failed+p.FailedAttempts
			parked, retained = max(parked, p.Parked), max(retained, p.Retained)
		}
		// Beside the five events there are the relay's own, about the endpoint that fails.
		if got := fmt.Sprint(min(events, 5), delivered, failed > 0, parked, retained > 0); got != want {
			t.Errorf("%s: %s, not %s", query, got, want)
		}
		of.Series = nil
	}
	c.must(t, "viewer", "GET", "/api/v1/stats", "", &of)
	if n := of.Now; n.EventsPerSecond <= 0 || n.Pending != 5 || n.Success <= 0 || n.Success >= 1 || n.P50 <= 0 {
		t.Errorf("now: %+v", n)
	}
	if a := c.ask(t, "viewer", "GET", "/api/v1/stats?endpoint=nobody", ""); a.status != 404 {
		t.Errorf("of an endpoint that there is not: %d", a.status)
	}
}
