package lane

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// Update makes the set's endpoints those given, in their order, while events
// flow. One that the set has with the very same Endpoint goes on as it is; with
// another Endpoint of the same id it goes on by that: from the next attempt on,
// though what was rendered is sent as it was. One that is new begins with its
// backlog, which need not be counted to its end, and its standing, which is wanted
// of those, too, that changed or are given no longer, and was read after Holds
// returned holds. One that is not given any more starts no request, and what waits
// for it is parked. Nobody may use the numbers of endpoints meanwhile: the router
// calls it between two events. It asks the ledger nothing.
func (s *Set) Update(ctx context.Context, endpoints []*Endpoint, backlogs map[uuid.UUID]ledger.Backlog, standings map[uuid.UUID]ledger.Standing, holds int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, lanes := s.all(), make([]*lane, len(endpoints))
	kept := make(map[*lane]bool, len(lanes))
	for i, ep := range endpoints {
		l := s.byID[ep.ID]
		if l == nil {
			l = newLane(s, ep, backlogs[ep.ID], standings[ep.ID])
			l.heldAt = s.holds.Add(1)                 // what was read before may be older
			l.allBlocked = ep.Ordered && l.stored > 0 // until the keys are read beside a claim
			s.byID[ep.ID] = l                         // without an entry in seen: its backlog is counted soon
			if ep.Again {
				l.tell(News{Turn: TurnResumed})
			}
		}
		lanes[i], kept[l] = l, true
	}
	s.leaving = slices.DeleteFunc(s.leaving, func(l *lane) bool { return kept[l] })
	s.lanes.Store(&lanes)
	for i, ep := range endpoints {
		lanes[i].adopt(ctx, ep, standings, holds)
	}
	for _, l := range before {
		if !kept[l] {
			s.leaving = append(s.leaving, l)
			l.leave(standings[l.ep().ID])
		}
	}
}

// Holds is what tells Update whether standings that are read now are older than
// what the lanes know.
func (s *Set) Holds() int64 { return s.holds.Load() }

// adopt makes the lane go on by ep. One that was leaving stands as standings say:
// what it knew of its endpoint is out of date. So is that it is disabled, where it
// was enabled meanwhile: events must not pass it until the ledger's watch looks.
func (l *lane) adopt(ctx context.Context, ep *Endpoint, standings map[uuid.UUID]ledger.Standing, holds int64) {
	before := l.ep()
	l.mu.Lock()
	defer l.mu.Unlock()
	if before == ep && !l.leaving {
		return
	}
	wasOpen := l.open()
	back := l.leaving
	l.leaving = false
	l.endpoint.Store(ep)
	now, known := standings[ep.ID]
	if known && (back || l.state == ledger.Disabled && now.State == ledger.Enabled && !l.unwritten && l.heldAt <= holds) {
		was := l.state
		l.state, l.reason = now.State, ""
		l.heldAt = l.set.holds.Add(1) // what was read before may be older
		if now.State == ledger.Enabled {
			l.health, l.told.failing = health{dirty: true}, false
			if was != now.State { // else the ledger's watch was first
				l.tellState()
			}
		}
	}
	l.tellRouter()
	if back || before.RateLimit != ep.RateLimit { // leave took it
		l.limit(ep.limiter())
	}
	if before.URL.String() != ep.URL.String() { // failures at another address say nothing of the new one
		l.health, l.told.failing = health{dirty: true}, false
	}
	switch {
	case !l.open():
		l.expelAll(l.parked())
	case !wasOpen: // what is parked goes first
		l.overflow = l.stored > 0
	}
	l.claimSoon(time.Now())
	l.hire(ctx)
}

// limit gives the lane another limiter, and those that wait for the one before
// wait for it.
func (l *lane) limit(limiter *rate.Limiter) {
	l.limiter = limiter
	close(l.relimited)
	l.relimited = make(chan struct{})
}

// leave makes the lane start nothing more. now is how its endpoint stands.
func (l *lane) leave(now ledger.Standing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving = true
	if now.State == ledger.Disabled && l.state != ledger.Disabled {
		l.state, l.reason = ledger.Disabled, "it was disabled through the API"
		l.tellState()
	}
	l.tellRouter()
	l.expelAll(l.parked())
	l.health.probing = false
	l.limit(nil) // nobody waits for it any more
	l.set.poke(l)
}

// gone reports whether nothing of the lane is in flight or being written.
func (l *lane) gone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leaving && len(l.flying) == 0 && l.waits == 0 && l.moving == 0 && l.workers == 0 && !l.consulting && !l.telling && !l.unwritten
}

// present returns the lanes of the endpoints, and those that are leaving.
func (s *Set) present() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.leaving) == 0 {
		return s.all()
	}
	return slices.Concat(s.all(), s.leaving)
}

// Leaving drops the lanes of endpoints that are no longer given, once nothing
// of theirs is in flight, and returns how many are left.
func (s *Set) Leaving() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = slices.DeleteFunc(s.leaving, func(l *lane) bool {
		if !l.gone() {
			return false
		}
		delete(s.byID, l.ep().ID)
		delete(s.seen, l.ep().ID)
		s.opts.Meter.Forget(l.ep().label())
		return true
	})
	return len(s.leaving)
}

// unaware returns the endpoint's lane if it does not know of its change at.
func (s *Set) unaware(id uuid.UUID, at time.Time) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.byID[id]; l != nil && !s.seen[id].Equal(at) {
		return l
	}
	return nil
}

// saw says that the endpoint's lane knows of its change at.
func (s *Set) saw(id uuid.UUID, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[id] != nil {
		s.seen[id] = at
	}
}
