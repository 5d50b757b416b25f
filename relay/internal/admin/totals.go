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
	t := &Totals{Endpoints: make(map[string]ledger.Count)}
	collect(m.events, func(_ map[string]string, d *dto.Metric) { t.All.Events = int64(d.GetCounter().GetValue()) })
	collect(m.attempts, func(labels map[string]string, d *dto.Metric) {
		n, c := int64(d.GetCounter().GetValue()), t.Endpoints[labels["endpoint"]]
		c.Attempts += n
		if labels["outcome"] != "delivered" {
			c.FailedAttempts += n
		}
		t.Endpoints[labels["endpoint"]] = c
	})
	collect(m.finished, func(labels map[string]string, d *dto.Metric) {
		n, c := int64(d.GetCounter().GetValue()), t.Endpoints[labels["endpoint"]]
		switch ledger.State(labels["state"]) {
		case ledger.Delivered:
			c.Delivered += n
		case ledger.Failed:
			c.Failed += n
		}
		t.Endpoints[labels["endpoint"]] = c
	})
	for _, c := range t.Endpoints {
		t.All.Attempts += c.Attempts
		t.All.FailedAttempts += c.FailedAttempts
		t.All.Delivered += c.Delivered
		t.All.Failed += c.Failed
	}
	collect(m.delivered, func(_ map[string]string, d *dto.Metric) { t.All.Latency = bucketsOf(d.GetHistogram()) })
	return t
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
		var d dto.Metric
		if m.Write(&d) != nil { // ours always can be
			continue
		}
		labels := make(map[string]string, len(d.GetLabel()))
		for _, l := range d.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		each(labels, &d)
	}
}

// Since returns what was counted since before; nil where nothing was.
func (t *Totals) Since(before *Totals) *Totals {
	d := &Totals{All: less(&t.All, &before.All), Endpoints: make(map[string]ledger.Count)}
	for name, c := range t.Endpoints {
		was := before.Endpoints[name]
		if c = less(&c, &was); c.Attempts+c.Delivered+c.Failed > 0 {
			d.Endpoints[name] = c
		}
	}
	if d.All.Events+d.All.Attempts+d.All.Delivered+d.All.Failed == 0 {
		return nil
	}
	return d
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
