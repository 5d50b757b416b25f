package main

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// demoSummary is what the demo ends with, and how --output json prints it.
type demoSummary struct {
	Events            int         `json:"events"`       // written
	Transactions      int         `json:"transactions"` // committed
	Committed         int         `json:"committed"`    // events
	RolledBack        int         `json:"rolled_back"`  // events
	Delivered         int         `json:"delivered"`    // deliveries: event and endpoint
	Retried           int         `json:"retried"`      // deliveries that needed more than one attempt
	FailedAttempts    int         `json:"failed_attempts"`
	Duplicates        int         `json:"duplicates"` // the same delivery again after a 2xx
	WrongSignatures   int         `json:"wrong_signatures"`
	RolledBackArrived int         `json:"rolled_back_arrived"` // events
	Unexpected        int         `json:"unexpected"`          // requests of unknown events, or at an endpoint that does not want the event
	Missing           int         `json:"missing"`             // deliveries
	Latency           demoLatency `json:"latency_ms"`
	EventsPerSecond   float64     `json:"events_per_second"`
	Seconds           float64     `json:"seconds"` // of the demo, start and stop of Postgres included
	OK                bool        `json:"ok"`
}

// demoLatency is from before COMMIT was sent to when the receiver had verified
// the request that it answers with 2xx, in milliseconds; retries included.
type demoLatency struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// summarize returns how things stand after so long.
func (t *tracker) summarize(took time.Duration) demoSummary {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts
	s := demoSummary{
		Events: len(t.events), Transactions: t.transacted, Committed: c.committed, RolledBack: c.rolledBack,
		Delivered: c.delivered, Retried: c.retried, FailedAttempts: c.failedAttempts, Duplicates: c.duplicates,
		WrongSignatures: c.wrongSignatures, Unexpected: c.unexpected,
		Latency: demoLatency{P50: t.latency.quantile(0.5), P95: t.latency.quantile(0.95), P99: t.latency.quantile(0.99), Max: t.latency.quantile(1)},
		Seconds: math.Round(took.Seconds()*10) / 10,
	}
	for _, e := range t.events {
		switch e.fate {
		case committed:
			for missing := e.wanted &^ e.delivered; missing != 0; missing &= missing - 1 {
				s.Missing++
			}
		case rolledBack:
			if e.delivered|e.failed != 0 {
				s.RolledBackArrived++
			}
		}
	}
	if span := t.last.Sub(t.began).Seconds(); span > 0 {
		s.EventsPerSecond = math.Round(float64(c.committed)/span*10) / 10
	}
	s.OK = s.problem() == nil
	return s
}

// problem returns what the relay did wrong, or nil.
func (s demoSummary) problem() error {
	var errs []error
	for _, p := range []struct {
		n    int
		what string
	}{
		{s.Missing, "deliveries of committed events did not arrive"},
		{s.RolledBackArrived, "events arrived although they were rolled back"},
		{s.WrongSignatures, "requests had a wrong signature"},
		{s.Unexpected, "requests arrived that nobody wanted"},
	} {
		if p.n > 0 {
			errs = append(errs, fmt.Errorf("%d %s", p.n, p.what))
		}
	}
	return errors.Join(errs...)
}

// print prints the summary to standard output.
func (s demoSummary) print(g *globals) error {
	if g.Output == "json" {
		return g.printJSON(s)
	}
	verdict := "Every committed event arrived, no event that was rolled back did, and every signature was right."
	if !s.OK {
		verdict = "This is not how it should be:"
	}
	g.printf("\n%s\n\n", verdict)
	for _, line := range []struct {
		name string
		n    int
		note string
	}{
		{"committed", s.Committed, fmt.Sprintf("events in %d transactions", s.Transactions)},
		{"rolled back", s.RolledBack, "events"},
		{"delivered", s.Delivered, ""},
		{"retried", s.Retried, fmt.Sprintf("after %d attempts that the receiver failed", s.FailedAttempts)},
		{"duplicates", s.Duplicates, ""},
		{"wrong signatures", s.WrongSignatures, ""},
		{"rolled back but arrived", s.RolledBackArrived, ""},
		{"arrived unasked", s.Unexpected, ""},
		{"missing", s.Missing, ""},
	} {
		g.printf("  %-24s%7d", line.name, line.n)
		if line.note != "" {
			g.printf("  %s", line.note)
		}
		g.printf("\n")
	}
	l := s.Latency
	g.printf("\n  commit to delivery: p50 %s, p95 %s, p99 %s, max %s, retries included\n", milliseconds(l.P50), milliseconds(l.P95), milliseconds(l.P99), milliseconds(l.Max))
	g.printf("  %.0f events a second; the demo took %.1f s\n", s.EventsPerSecond, s.Seconds)
	return nil
}

func milliseconds(ms float64) string {
	if ms < 10 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// histogram counts durations in buckets of which each is 2 % longer than the
// one before: from 1 µs to hours in 12 KiB. The zero value is empty.
type histogram struct {
	buckets [1500]int
	n       int
	longest time.Duration
}

const bucketGrowth = 1.02

func (h *histogram) observe(d time.Duration) {
	i := int(math.Log(max(1, float64(d.Microseconds()))) / math.Log(bucketGrowth))
	h.buckets[min(i, len(h.buckets)-1)]++
	h.n++
	h.longest = max(h.longest, d)
}

// quantile returns, in milliseconds, what the share q of the durations does
// not exceed, within 2 %; 0 when there are none.
func (h *histogram) quantile(q float64) float64 {
	longest := float64(h.longest.Microseconds()) / 1000
	rank := int(math.Ceil(q * float64(h.n)))
	for i, n := range h.buckets {
		if rank -= n; rank <= 0 {
			bound := math.Pow(bucketGrowth, float64(i+1)) / 1000
			return math.Round(min(bound, longest)*1000) / 1000
		}
	}
	return longest
}
