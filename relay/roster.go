package relay

import (
	"context"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/lane"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/route"
	"github.com/posthorn/posthorn/transforms"
)

// roster is the endpoints of a session: those of its configuration, and those
// that the API made, which change while it runs.
type roster struct {
	relay  *Relay
	ledger *ledger.Ledger
	tokens tokens // that all of them share

	defined  map[uuid.UUID]member // those that the API made; of the disabled ones nothing
	revision atomic.Int64         // the newest that is in them
	orphans  atomic.Bool          // some were deleted: what they have pending is to be failed
	futile   int64                // the ledger's revision when a newer one was waited for in vain, -1 for never; refresh's own
}

// member is an endpoint in the packages' own terms; without a lane it is disabled.
type member struct {
	lane  *lane.Endpoint
	route route.Endpoint
}

func newRoster(r *Relay, led *ledger.Ledger) *roster {
	n := &roster{relay: r, ledger: led, tokens: tokens{}, defined: map[uuid.UUID]member{}, futile: -1}
	n.orphans.Store(true) // of endpoints that were removed while no relay ran
	return n
}

// begin makes the endpoints known to the ledger, and returns them in the terms of
// lanes and router, in one order, with how they stand.
func (r *roster) begin(ctx context.Context) ([]*lane.Endpoint, []route.Endpoint, map[uuid.UUID]ledger.Standing, error) {
	turn, err := r.advance(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	standings, err := r.ledger.SyncEndpoints(ctx, r.relay.endpoints.recorded)
	if err != nil {
		return nil, nil, nil, err
	}
	more, err := r.ledger.Standings(ctx, turn.there)
	if err != nil {
		return nil, nil, nil, err
	}
	maps.Copy(standings, more)
	endpoints, routes := r.all()
	return endpoints, routes, standings, nil
}

// turn is what became of the endpoints that the API made.
type turn struct {
	before        map[uuid.UUID]member // nil where nothing changed
	there, absent []uuid.UUID          // of those that changed: that get events, and that are disabled
	deleted       bool                 // some are
}

// advance takes what changed since the last time.
func (r *roster) advance(ctx context.Context) (t turn, err error) {
	newest, err := r.ledger.Revision(ctx) // before the definitions: what is missed is asked for again
	if err != nil || newest == r.revision.Load() {
		return t, err
	}
	list, err := r.relay.databases.loadDefined(ctx, r.relay.cfg, r.relay.keys, r.revision.Load())
	if err != nil {
		return t, err
	}
	made := translator{version: r.relay.version, client: r.relay.client, tokens: r.tokens, traced: r.relay.cfg.Traces.URL != ""}
	t.before, r.defined = r.defined, maps.Clone(r.defined)
	for i := range list {
		d := &list[i]
		if newest = max(newest, d.revision); d.deleted || !d.endpoint.Enabled && d.broken == "" {
			if r.defined[d.id] = (member{}); d.deleted {
				delete(r.defined, d.id)
			}
			if t.deleted = t.deleted || d.deleted; !d.deleted {
				t.absent = append(t.absent, d.id)
			}
			continue
		}
		m := made.member(d)
		if m.lane.Broken != "" {
			r.relay.logger.LogAttrs(ctx, slog.LevelError, "endpoint cannot be used as it stands in the ledger, its events are parked: mend it, or what it needs in the configuration",
				slog.String("endpoint", d.endpoint.Name), slog.String("id", d.id.String()), slog.String("err", m.lane.Broken))
		}
		if was, known := t.before[d.id]; known && was.lane == nil && m.lane.Broken == "" {
			m.lane.Again = true
		}
		r.defined[d.id] = m
		t.there = append(t.there, d.id)
	}
	r.revision.Store(newest)
	return t, nil
}

// all returns the endpoints in the terms of lanes and router, in one order; never
// nil.
func (r *roster) all() ([]*lane.Endpoint, []route.Endpoint) {
	configured := &r.relay.endpoints
	lanes, routes := append([]*lane.Endpoint{}, configured.lanes...), append([]route.Endpoint{}, configured.routes...)
	for _, id := range slices.SortedFunc(maps.Keys(r.defined), func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }) {
		if m := r.defined[id]; m.lane != nil {
			lanes, routes = append(lanes, m.lane), append(routes, m.route)
		}
	}
	return lanes, routes
}

// A change that was read in the stream may not be visible yet, in the worst case
// before a synchronous standby has it. Events wait for it so long.
const (
	visibleWithin = 5 * time.Second
	visibleLook   = 2 * time.Millisecond
)

// await returns once a revision is visible, or it takes too long: then
// watchEndpoints finds it.
func (r *roster) await(ctx context.Context, revision int64) error {
	for deadline := time.Now().Add(visibleWithin); ; {
		newest, err := r.ledger.Revision(ctx)
		if err != nil || newest >= revision || newest == r.futile {
			return err
		}
		if time.Now().After(deadline) {
			r.futile = newest
			r.relay.logger.LogAttrs(ctx, slog.LevelWarn, "a change of endpoints is in the stream and not in the ledger", slog.Int64("revision", revision))
			return nil
		}
		if err := pause(ctx, visibleLook); err != nil {
			return err
		}
	}
}

// refresh brings the lanes' endpoints up to date, at least to a revision, and
// returns what the router routes to then; nil where nothing changed.
func (r *roster) refresh(ctx context.Context, set *lane.Set, revision int64) ([]route.Endpoint, error) {
	since := r.revision.Load()
	if revision > since {
		if err := r.await(ctx, revision); err != nil {
			return nil, err
		}
	}
	turn, err := r.advance(ctx)
	if turn.before == nil || err != nil {
		return nil, err
	}
	holds := set.Holds()
	standings, err := r.ledger.Standings(ctx, slices.Concat(turn.there, turn.absent))
	backlogs := make(map[uuid.UUID]ledger.Backlog)
	for _, id := range turn.there {
		if turn.before[id].lane == nil && err == nil {
			backlogs[id], err = r.ledger.BacklogOfSome(ctx, id)
		}
	}
	if err != nil { // it is tried again
		r.defined = turn.before
		r.revision.Store(since)
		return nil, err
	}
	lanes, routes := r.all()
	set.Update(ctx, lanes, backlogs, standings, holds)
	if turn.deleted { // only now that nothing more is parked for them
		r.orphans.Store(true)
	}
	r.relay.logger.LogAttrs(ctx, slog.LevelInfo, "endpoints changed", slog.Int64("revision", r.revision.Load()), slog.Int("changed", len(turn.there)+len(turn.absent)), slog.Int("endpoints", len(lanes)))
	return routes, nil
}

// member returns what an endpoint that the API made comes to. One that cannot be
// used gets no requests, and its events are parked: by what of it can be read.
func (t *translator) member(d *defined) member {
	c := &d.endpoint
	m := member{route: route.Endpoint{ID: d.id, Tenant: c.Tenant, From: d.from, Patterns: patterns(c)}}
	err := error(nil)
	if broken := d.broken; broken == "" {
		m.lane, err = t.lane(c, d.id)
	}
	if c.Filter != "" && err == nil {
		m.route.Filter, err = once(&t.filters, c.Filter, transforms.ParseFilter)
	}
	if d.broken == "" && err == nil {
		m.lane.Label = d.id.String() // its name may change, and another tenant's may be the same
		return m
	}
	m.lane = &lane.Endpoint{ID: d.id, Name: c.Name, Tenant: c.Tenant, Label: d.id.String(), Broken: d.broken, URL: &url.URL{}, Ordered: c.Ordering == "key"}
	if m.lane.Broken == "" {
		m.lane.Broken = err.Error()
	}
	return m
}

// revisionEvery is how often the ledger is asked whether endpoints changed:
// the stream says so at once, but may be far behind.
const revisionEvery = 500 * time.Millisecond

// watchEndpoints tells the router when endpoints changed, until ctx ends.
func (s *session) watchEndpoints(ctx context.Context) error {
	for pause(ctx, revisionEvery) == nil {
		newest, err := s.ledger.Revision(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			s.relay.logger.LogAttrs(ctx, slog.LevelDebug, "endpoints not read", slog.Any("err", err))
		case newest != s.roster.revision.Load():
			s.router.Changed(newest)
		}
	}
	return nil
}

// failOrphans ends what deleted endpoints have pending, once nothing of theirs
// is in flight.
func (s *session) failOrphans(ctx context.Context) error {
	if s.lanes.Leaving() > 0 || !s.roster.orphans.CompareAndSwap(true, false) {
		return nil
	}
	orphans, err := s.ledger.FailOrphans(ctx, s.relay.endpoints.ids())
	if err != nil {
		s.roster.orphans.Store(true)
		return err
	}
	if orphans > 0 {
		s.relay.logger.LogAttrs(ctx, slog.LevelWarn, "deliveries of removed endpoints ended as failed", slog.Int("deliveries", orphans))
	}
	return nil
}
