package admin

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// latencyBuckets returns ledger.LatencyBounds in seconds.
func latencyBuckets() []float64 {
	var seconds []float64
	for _, bound := range ledger.LatencyBounds {
		seconds = append(seconds, bound.Seconds())
	}
	return seconds
}

// Totals are the counters of Metrics at a moment.
type Totals struct {
	All       ledger.Count
	Endpoints map[string]ledger.Count // by name
}

// Totals reads the counters.
func (m *Metrics) Totals() *Totals {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := &Totals{All: m.gone, Endpoints: make(map[string]ledger.Count)}
	collect(m.events, func(_ map[string]string, d *dto.Metric) { t.All.Events = int64(d.GetCounter().GetValue()) })
	collect(m.attempts, func(labels map[string]string, d *dto.Metric) {
		endpoint := labels["endpoint"]
		t.Endpoints[endpoint] = plus(t.Endpoints[endpoint], attempted(labels["outcome"], d))
	})
	collect(m.finished, func(labels map[string]string, d *dto.Metric) {
		endpoint := labels["endpoint"]
		t.Endpoints[endpoint] = plus(t.Endpoints[endpoint], ended(ledger.State(labels["state"]), d))
	})
	for _, c := range t.Endpoints {
		t.All = plus(t.All, c)
	}
	collect(m.delivered, func(_ map[string]string, d *dto.Metric) { t.All.Latency = bucketsOf(d.GetHistogram()) })
	return t
}

// counted returns what was counted of an endpoint.
func (m *Metrics) counted(endpoint string) (c ledger.Count) {
	for _, outcome := range []string{"delivered", "rejected", "failed"} {
		c = plus(c, attempted(outcome, read(m.attempts.WithLabelValues(endpoint, outcome))))
	}
	for _, state := range []ledger.State{ledger.Delivered, ledger.Failed} {
		c = plus(c, ended(state, read(m.finished.WithLabelValues(endpoint, string(state)))))
	}
	return c
}

func attempted(outcome string, d *dto.Metric) ledger.Count {
	n := int64(d.GetCounter().GetValue())
	if outcome == "delivered" {
		return ledger.Count{Attempts: n}
	}
	return ledger.Count{Attempts: n, FailedAttempts: n}
}

func ended(state ledger.State, d *dto.Metric) ledger.Count {
	n := int64(d.GetCounter().GetValue())
	switch state {
	case ledger.Delivered:
		return ledger.Count{Delivered: n}
	case ledger.Failed:
		return ledger.Count{Failed: n}
	}
	return ledger.Count{}
}

// bucketsOf returns how many are in each of a histogram's buckets, and above.
func bucketsOf(h *dto.Histogram) []int64 {
	var counts []int64
	below := uint64(0)
	for _, b := range h.GetBucket() {
		counts = append(counts, int64(b.GetCumulativeCount()-below))
		below = b.GetCumulativeCount()
	}
	return append(counts, int64(h.GetSampleCount()-min(below, h.GetSampleCount())))
}

// collect calls each for the metrics of a collector.
func collect(c prometheus.Collector, each func(labels map[string]string, d *dto.Metric)) {
	metrics := make(chan prometheus.Metric)
	go func() {
		c.Collect(metrics)
		close(metrics)
	}()
	for m := range metrics {
		d := read(m)
		labels := make(map[string]string, len(d.GetLabel()))
		for _, l := range d.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		each(labels, d)
	}
}

// read returns a metric's value.
func read(m prometheus.Metric) *dto.Metric {
	var d dto.Metric
	_ = m.Write(&d) // ours always can be
	return &d
}

// Since returns what was counted since before, of those endpoints of which
// something was.
func (t *Totals) Since(before *Totals) *Totals {
	d := &Totals{All: less(&t.All, &before.All), Endpoints: make(map[string]ledger.Count)}
	for name, c := range t.Endpoints {
		was := before.Endpoints[name]
		if c.Attempts < was.Attempts || c.FailedAttempts < was.FailedAttempts || c.Delivered < was.Delivered || c.Failed < was.Failed {
			was = ledger.Count{} // it was forgotten, and counts again
		}
		if c = less(&c, &was); c.Attempts+c.Delivered+c.Failed > 0 {
			d.Endpoints[name] = c
		}
	}
	return d
}

// plus adds counts without their latencies.
func plus(a, b ledger.Count) ledger.Count {
	return ledger.Count{
		Events: a.Events + b.Events, Delivered: a.Delivered + b.Delivered, Failed: a.Failed + b.Failed,
		Attempts: a.Attempts + b.Attempts, FailedAttempts: a.FailedAttempts + b.FailedAttempts,
	}
}

func less(a, b *ledger.Count) ledger.Count {
	c := ledger.Count{
		Events: a.Events - b.Events, Delivered: a.Delivered - b.Delivered, Failed: a.Failed - b.Failed,
		Attempts: a.Attempts - b.Attempts, FailedAttempts: a.FailedAttempts - b.FailedAttempts, Latency: slices.Clone(a.Latency),
	}
	for i, n := range b.Latency {
		c.Latency[i] -= n
	}
	return c
}
