package relay

import (
	"context"
	"time"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// Over how long rates are taken: as long as a few of the samples that they come
// from.
const (
	nowWindow     = time.Minute
	nowPartWindow = 5 * time.Minute // of less than all endpoints
)

// Stats implements admin.Control.
func (c *control) Stats(ctx context.Context, who *admin.Caller, q ledger.StatsQuery) (*admin.Stats, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	if err := ledger.CheckVersion(ctx, o.databases.ledger); err != nil {
		return nil, hinted(err)
	}
	q.Scope = who.Tenant
	s := &admin.Stats{}
	if s.Series, err = o.ledger.Series(ctx, q); err != nil {
		return nil, err
	}
	recent, window := q, nowWindow
	if recent.Step = ledger.SpanShort; q.Endpoint != "" || q.Scope != "" {
		window = nowPartWindow
	}
	recent.Until = time.Now()
	recent.From = recent.Until.Add(-window)
	total, err := o.ledger.Total(ctx, recent)
	if err != nil {
		return nil, err
	}
	pending, err := o.ledger.PendingNow(ctx, q)
	if err != nil {
		return nil, err
	}
	s.Now = statsNow(&total, window)
	s.Now.Pending, s.Now.PendingMore, s.Now.OldestPending = pending.Rows, pending.More, pending.Oldest
	if q.Scope == "" {
		snap := c.snapshot()
		s.Now.SlotKnown, s.Now.SlotLag, s.Now.SlotRetained = snap.SlotKnown, snap.SlotLag, snap.SlotRetained
		if !snap.OldestUnsettled.IsZero() {
			s.Now.OldestUnsettled = &snap.OldestUnsettled
		}
	}
	return s, nil
}

// statsNow returns what happened in a time as rates and shares.
func statsNow(c *ledger.Count, window time.Duration) admin.StatsNow {
	n := admin.StatsNow{
		EventsPerSecond: float64(c.Events) / window.Seconds(), DeliveriesPerSecond: float64(c.Delivered) / window.Seconds(), SuccessShare: 1,
		P50: ledger.Quantile(c.Latency, 0.5), P95: ledger.Quantile(c.Latency, 0.95), P99: ledger.Quantile(c.Latency, 0.99),
	}
	if c.Attempts > 0 {
		n.SuccessShare = 1 - float64(c.FailedAttempts)/float64(c.Attempts)
	}
	return n
}
