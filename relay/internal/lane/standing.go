package lane

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// Pause says when an endpoint is paused without anybody asking for it.
type Pause struct {
	OnExhausted         bool          // a delivery exhausted its schedule
	ConsecutiveFailures int           // so many failed attempts in a row; 0 for never
	FailingFor          time.Duration // since the first failed attempt in a row; 0 for never
}

// standing is whether an endpoint gets requests at all. Paused, its events are
// parked; disabled, they are not even matched.
type standing struct {
	state  ledger.EndpointState
	reason string
	// unwritten is true while the ledger does not know state yet: what it says
	// of the endpoint is older.
	unwritten bool
	heldAt    int64 // the newest of Set.holds that is this lane's
}

// halt returns what an attempt's outcome makes of the endpoint, and why;
// Enabled for nothing.
func (l *lane) halt(o outcome, now time.Time) (ledger.EndpointState, string) {
	p := l.ep().Pause
	switch {
	case !o.tried || o.state == ledger.Delivered:
	case o.gone:
		return ledger.Disabled, "it answered 410 Gone"
	case p.OnExhausted && o.exhausted:
		return ledger.Paused, "a delivery exhausted its retry schedule (pause.on_exhausted)"
	case p.ConsecutiveFailures > 0 && l.health.row >= p.ConsecutiveFailures:
		return ledger.Paused, "its attempts failed too often in a row (pause.consecutive_failures)"
	case p.FailingFor > 0 && now.Sub(l.health.since) >= p.FailingFor:
		return ledger.Paused, "its attempts have failed for too long (pause.failing_for)"
	}
	return ledger.Enabled, ""
}

// hold stops sending to the endpoint and sees to it that the ledger knows.
func (l *lane) hold(ctx context.Context, state ledger.EndpointState, reason string) {
	if l.state == state || l.state == ledger.Disabled || l.leaving {
		return
	}
	recording := l.unwritten
	l.unwritten, l.heldAt = true, l.set.holds.Add(1)
	l.enter(ctx, state, reason)
	if !recording {
		l.set.spawn(func() { l.recordHold(ctx) })
	}
}

// recordHold tries until the ledger knows the lane's hold, also one that came
// meanwhile, or ctx ends.
func (l *lane) recordHold(ctx context.Context) {
	for {
		l.mu.Lock()
		state, reason := l.state, l.reason
		l.mu.Unlock()
		err := l.set.opts.Store.Hold(ctx, l.ep().ID, state, reason)
		if err == nil && l.recorded(state) || ctx.Err() != nil {
			return
		}
		if err == nil {
			continue
		}
		if errors.Is(err, ledger.ErrUnknownEndpoint) && l.forgoHold() {
			return
		}
		l.set.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "endpoint's state not recorded, trying again", slog.String("endpoint", l.ep().Name), slog.Any("err", err))
		timer := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// recorded says that the ledger knows of a hold, and returns false when the
// lane has another one by now.
func (l *lane) recorded(state ledger.EndpointState) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != state {
		return false
	}
	l.unwritten, l.heldAt = false, l.set.holds.Add(1) // what was read before may be older
	l.tellRouter()
	return true
}

// forgoHold gives up recording a hold if the endpoint is gone.
func (l *lane) forgoHold() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unwritten = l.unwritten && !l.leaving
	return l.leaving
}

// tellRouter lets events be matched or not. They are as long as the ledger
// does not know that the endpoint is disabled: a relay after this one would
// send what comes now.
func (l *lane) tellRouter() {
	l.disabled.Store(l.leaving || l.state == ledger.Disabled && !l.unwritten)
}

// enter acts on a change of the endpoint's state. What the ledger was told of
// its health under the state before is out of date, or was not taken.
func (l *lane) enter(ctx context.Context, state ledger.EndpointState, reason string) {
	l.state, l.reason = state, reason
	l.tellRouter()
	if state == ledger.Enabled {
		l.health = health{dirty: true}
		l.overflow = l.stored > 0 // what is parked goes first
		l.claimSoon(time.Now())
		l.set.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "endpoint resumed", slog.String("endpoint", l.ep().Name), slog.Int64("pending", l.stored))
		l.tellState()
		return
	}
	l.expelAll(l.parked())
	l.health.probing, l.health.dirty = false, true
	l.set.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "endpoint "+string(state), slog.String("endpoint", l.ep().Name), slog.String("reason", reason))
	l.tellState()
}

// recordHealth writes how the endpoint does, at most once a second, one after
// the other, and not before the ledger knows the state that goes with it.
func (l *lane) recordHealth(ctx context.Context, now time.Time) {
	h := &l.health
	if !h.dirty || l.telling || l.unwritten || now.Before(l.healthAt) {
		return
	}
	l.healthAt = now.Add(time.Second)
	news := ledger.Health{State: l.state, Failing: h.failing, Failures: h.row}
	if h.row > 0 {
		news.FailingFor = now.Sub(h.since)
	}
	h.dirty, l.telling = false, true
	l.set.spawn(func() {
		err := l.set.opts.Store.SetHealth(ctx, l.ep().ID, news)
		if err != nil && ctx.Err() == nil {
			l.set.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "endpoint's health not recorded", slog.String("endpoint", l.ep().Name), slog.Any("err", err))
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.telling = false
		l.health.dirty = l.health.dirty || err != nil
	})
}
