package lane

import (
	"context"
	"log/slog"
	"time"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// look does what is due in the lane at now, and hires workers that were let go
// while the slot was not ours.
func (l *lane) look(ctx context.Context, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.set.behind.IsZero() {
		l.pace.measure(now, l.waits > 0)
	} else {
		l.pace.skip(now)
	}
	l.recordHealth(ctx, now)
	l.tellHealth(now)
	l.settleOld(ctx, now)
	for before := -1; l.workers > before && l.workers < l.ready.len(); {
		before = l.workers
		l.hire(ctx)
	}
	if l.consulting || now.Before(l.askAgain) || !l.set.startable() {
		return
	}
	c, want, probe := l.claim(now)
	if !want && len(l.freed) == 0 {
		return
	}
	freed := make([]int64, 0, len(l.freed))
	for key := range l.freed {
		freed = append(freed, key)
	}
	clear(l.freed)
	if want && !probe {
		l.claimAt = time.Time{} // what comes due while the ledger is being asked sets it again
	}
	l.consulting = l.set.spawn(func() { l.consult(ctx, c, want, probe, freed) })
}

// settleOld keeps the lane from holding the slot back: what waits for longer
// than the hold allows is parked, with all that waits behind it, and what is
// in flight for longer is recorded as sending.
func (l *lane) settleOld(ctx context.Context, now time.Time) {
	limit := now.Add(-l.set.opts.MaxHold)
	for _, d := range l.flying {
		if d.fresh && d.started.Before(limit) {
			l.put(d, outcome{state: ledger.Sending, reason: "in flight"})
		}
	}
	if l.set.excused(now) {
		return
	}
	l.expelRaw("its event is being transformed for longer than source.max_hold", func(d *delivery) bool { return d.fresh && d.waiting.Before(limit) })
	d := l.ready.firstFresh() // claimed ones before it settled long ago
	old := d != nil && d.waiting.Before(limit)
	for _, d := range l.flying {
		if d.keyHash == nil || old {
			continue
		}
		if next := d.next; next != nil {
			old = next.fresh && next.waiting.Before(limit)
		}
	}
	if old {
		l.spill(ctx, "the oldest waits for longer than source.max_hold")
	}
}

// A lane that works off so many deliveries or bytes a second may hold reading
// up for ever: parking them, and getting them back, would be no faster.
const (
	parkRate  = 2000
	parkBytes = 32 << 20
)

// judge decides whether the lane, which fills the buffer, may hold reading up
// any longer. held is for how long it has done so without a break.
func (l *lane) judge(ctx context.Context, now time.Time, held time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maxHold := l.set.opts.MaxHold
	left, known := l.pace.clears(l.waits, now)
	switch {
	case !known:
	case left > maxHold:
		l.relieve(ctx, "its waiting deliveries would take longer than source.max_hold")
	case held > maxHold/2 && l.pace.rate < parkRate && l.pace.rate*float64(l.bytes) < parkBytes*float64(l.waits):
		// It is fast enough for what the buffer holds, but whoever stands deep in
		// the stream behind it would wait for as long as its burst is. Half the
		// hold is left for parking the rest of it.
		l.relieve(ctx, "it has held reading up for longer than half of source.max_hold")
	}
}

// relieve makes room in the buffer. Where most of what waits is to be transformed
// first, it is not the endpoint that is slow: only that is parked, the rest flows.
func (l *lane) relieve(ctx context.Context, why string) {
	fresh, stored := l.rawBytes()
	if fresh > (l.bytes-stored)/2 {
		l.expelRaw("its event waits to be transformed", func(d *delivery) bool { return d.fresh })
		return
	}
	l.spill(ctx, why)
}

// rawBytes returns how much waits for transforms, or behind what does: from the
// stream, and from the ledger.
func (l *lane) rawBytes() (fresh, stored int64) {
	for d := range l.raw {
		n := d.bytes()
		for next := d.next; next != nil; next = next.next {
			n += next.bytes()
		}
		if d.fresh {
			fresh += n
		} else {
			stored += n
		}
	}
	return fresh, stored
}

// spill makes the lane overflow.
func (l *lane) spill(ctx context.Context, why string) {
	if !l.overflow {
		l.set.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "endpoint overflows, its deliveries are parked",
			slog.String("endpoint", l.ep().Name), slog.Int("waiting", l.waits), slog.String("why", why))
	}
	l.overflow = true
	l.expelAll("overflow")
	l.claimSoon(time.Now())
}
