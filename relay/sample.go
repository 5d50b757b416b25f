package relay

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/route"
	"github.com/posthorn/posthorn/relay/internal/tail"
)

// countedSink counts the application's events that the router takes.
type countedSink struct {
	*route.Router
	metrics *admin.Metrics
}

// Offer implements tail.Sink.
func (c countedSink) Offer(e *event.Event) bool {
	taken := c.Router.Offer(e)
	if taken && !strings.HasPrefix(e.Type, tail.OwnGroup) {
		c.metrics.Event()
	}
	return taken
}

// manySampled is at how many endpoints something may happen in SpanMiddle for
// their samples of that length to be kept: longer ones always are.
const manySampled = 1000

// lastSample is how long the samples may take that are kept at the end.
const lastSample = time.Second

// span is what is sampled in one length.
type span struct {
	length time.Duration
	began  time.Time
	before *admin.Totals // at its beginning
	peak   ledger.Levels // since its beginning
}

// sample keeps what was counted since begin and how high levels were, over and
// over, and at the end of the session. It reads what there is for metrics: nothing
// is counted for it.
func (s *session) sample(ctx context.Context, begin *admin.Totals) error {
	spans := []*span{{length: ledger.SpanShort}, {length: ledger.SpanMiddle}, {length: ledger.SpanLong}}
	for _, p := range spans {
		p.began, p.before = time.Now(), begin
	}
	for pause(ctx, ledger.SpanShort) == nil {
		s.takeSamples(ctx, spans, false)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSample)
	defer cancel()
	s.takeSamples(last, spans, true)
	return nil
}

// takeSamples keeps the samples of the spans that are over, or of all.
func (s *session) takeSamples(ctx context.Context, spans []*span, all bool) {
	totals, levels, now := s.relay.metrics.Totals(), levelsOf(s.relay.snapshot()), time.Now()
	for _, p := range spans {
		p.peak.Raise(levels)
		took := now.Sub(p.began)
		if took < p.length-time.Second && !all {
			continue
		}
		counted := totals.Since(p.before)
		sample := &ledger.Sample{Span: p.length, Took: took, All: counted.All, Peak: p.peak}
		if p.length == ledger.SpanLong || p.length == ledger.SpanMiddle && len(counted.Endpoints) <= manySampled {
			sample.Endpoints = counted.Endpoints
		}
		if err := s.ledger.Record(ctx, sample); err != nil {
			if ctx.Err() == nil {
				s.relay.logger.LogAttrs(ctx, slog.LevelWarn, "stats could not be kept, the next are of both times", slog.Any("err", err))
			}
			continue
		}
		p.began, p.before, p.peak = now, totals, ledger.Levels{}
	}
}

// levelsOf returns the levels of a relay that delivers.
func levelsOf(snap admin.Snapshot) (l ledger.Levels) {
	for _, e := range snap.Endpoints {
		l.Parked += e.Pending
	}
	if !snap.OldestUnsettled.IsZero() {
		l.Unsettled = time.Since(snap.OldestUnsettled)
	}
	if snap.SlotKnown {
		l.SlotLag, l.SlotRetained = &snap.SlotLag, &snap.SlotRetained
	}
	return l
}
