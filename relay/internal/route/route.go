// Package route decides which endpoints want an event and hands one delivery
// for each to the lanes.
package route

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/transforms"
)

// lanes is what the router needs of the lanes; *lane.Set satisfies it.
type lanes interface {
	Admit(e *event.Event) bool
	Room() <-chan struct{}
	Share(e *event.Event, deliveries int)
	Disabled(endpoint int) bool
	Enqueue(ctx context.Context, endpoint int, id uuid.UUID, e *event.Event)
	Refuse(ctx context.Context, endpoint int, id uuid.UUID, e *event.Event, why string)
	Known(e *event.Event)
	Passed()
}

// positions is what the router needs of the position tracker.
type positions interface {
	Add(tx *event.Tx, n int)
	Settle(tx *event.Tx, n int)
}

// store is what the router needs of the ledger.
type store interface {
	Known(ctx context.Context, refs []ledger.Ref) (map[uuid.UUID]bool, error)
}

// Endpoint is what decides whether an endpoint wants an event.
type Endpoint struct {
	ID       uuid.UUID
	Tenant   string             // its events only; "" for every tenant's
	From     event.LSN          // only events that committed there or later; 0 for all
	Patterns []string           // exact types, "group.*", "*", or "*.action" for any object's
	Filter   *transforms.Filter // nil for none
}

// Options are what a Router needs.
type Options struct {
	Endpoints []Endpoint // in the order of the lanes
	Lanes     lanes
	Positions positions
	Store     store
	// Recorded is the highest position of which the ledger knew when this relay
	// started: events up to it may have been recorded before.
	Recorded event.Position
	// Refresh brings the lanes' endpoints up to date, at least to a revision, and
	// returns them, in the lanes' new order; nil where nothing changed. It is called
	// between two events, and again when it fails. It may be nil where Changed is
	// not called.
	Refresh func(ctx context.Context, revision int64) ([]Endpoint, error)
	Logger  *slog.Logger
}

// Router takes events from the tail. What the ledger may know it routes on its
// own goroutine, so that the tail never waits for the ledger; once the stream is
// past that, it routes on the tail's, which saves a hand-over for each event,
// unless there are filters, which may take their time. Use New.
type Router struct {
	opts      Options
	table     *table // and the endpoints it was made of: whoever routes reads them
	endpoints []Endpoint

	passed bool // queued that the stream passed what was recorded; the tail's own
	told   bool // the lanes of that; Run's own

	mu     sync.Mutex
	queue  []item
	wake   chan struct{}
	direct context.Context // Run's, once nothing is left to be looked up: push routes; nil before
}

// item is an event, or the news that the endpoints changed, or that the stream
// passed lsn.
type item struct {
	event    *event.Event
	changed  bool
	revision int64 // of the endpoints then
	lsn      event.LSN
}

// New returns a router.
func New(o Options) *Router {
	r := &Router{opts: o, wake: make(chan struct{}, 1)}
	r.use(o.Endpoints)
	return r
}

// use makes the router route to endpoints.
func (r *Router) use(endpoints []Endpoint) {
	r.endpoints, r.table = endpoints, newTable(endpoints, r.opts.Lanes.Disabled)
}

// Offer takes the next event in commit order, or returns false when reading
// must be held.
func (r *Router) Offer(e *event.Event) bool {
	if !r.opts.Lanes.Admit(e) {
		return false
	}
	r.push(item{event: e})
	return true
}

// Room receives when Offer is worth another try.
func (r *Router) Room() <-chan struct{} { return r.opts.Lanes.Room() }

// Passed says that every event before lsn was offered.
func (r *Router) Passed(lsn event.LSN) {
	if !r.passed && lsn > r.opts.Recorded.LSN {
		r.passed = true
		r.push(item{lsn: lsn})
	}
}

// Changed says that the endpoints are others from here on, those of a revision or
// newer ones: the events that are offered after it go to them.
func (r *Router) Changed(revision int64) { r.push(item{changed: true, revision: revision}) }

func (r *Router) push(i item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i.changed {
		r.direct = nil // nothing is routed on the tail's goroutine while they change
	}
	if r.direct != nil {
		r.routeNew(r.direct, i)
		return
	}
	if last := len(r.queue) - 1; i.changed && last >= 0 && r.queue[last].changed {
		r.queue[last].revision = max(r.queue[last].revision, i.revision)
		return
	}
	r.queue = append(r.queue, i)
	if len(r.queue) == 1 {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// lookUpEvents bounds how many events are looked up at once.
const lookUpEvents = 500

// Run routes until ctx ends.
func (r *Router) Run(ctx context.Context) error {
	var spare []item
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		}
		r.mu.Lock()
		items := r.queue
		r.queue = spare[:0]
		r.mu.Unlock()
		for rest := items; len(rest) > 0; {
			n := r.known(rest)
			switch {
			case rest[0].changed:
				if n = 1; !r.refresh(ctx, rest[0].revision) {
					return nil
				}
			case n > 0:
				if !r.routeKnown(ctx, rest[:n]) {
					return nil
				}
			default:
				n = 1
				r.routeNew(ctx, rest[0])
			}
			rest = rest[n:]
		}
		r.mu.Lock()
		if r.told && len(r.queue) == 0 && !r.table.filtered {
			r.direct = ctx
		}
		r.mu.Unlock()
		clear(items)
		spare = items
		if cap(spare) > 1<<16 {
			spare = nil
		}
	}
}

// known returns how many of the first items are events that the ledger may
// know, at most lookUpEvents.
func (r *Router) known(items []item) int {
	n := 0
	for n < len(items) && n < lookUpEvents && items[n].event != nil && items[n].event.Position.Compare(r.opts.Recorded) <= 0 {
		n++
	}
	return n
}

// routeNew routes an event that cannot have been recorded before: the stream is
// past what was.
func (r *Router) routeNew(ctx context.Context, i item) {
	if !r.told {
		r.told = true
		r.opts.Lanes.Passed()
	}
	if i.event == nil {
		return
	}
	e := i.event
	found := r.table.match(e)
	r.admit(e, len(found.endpoints))
	for _, at := range found.endpoints {
		r.hand(ctx, at, event.DeliveryID(e.ID, r.endpoints[at].ID), e, found.errs[at])
	}
}

// hand gives a delivery to its lane; err says that the endpoint's filter could
// not judge the event.
func (r *Router) hand(ctx context.Context, at int, id uuid.UUID, e *event.Event, err error) {
	if err != nil {
		r.opts.Lanes.Refuse(ctx, at, id, e, "filter: "+err.Error())
		return
	}
	r.opts.Lanes.Enqueue(ctx, at, id, e)
}

// admit says what comes of an event: nothing settles it at once.
func (r *Router) admit(e *event.Event, deliveries int) {
	r.opts.Lanes.Share(e, deliveries)
	switch deliveries {
	case 0:
		r.opts.Positions.Settle(e.Tx, 1)
	case 1: // for which the event counts
	default:
		r.opts.Positions.Add(e.Tx, deliveries-1)
	}
}

// routeKnown routes events that a relay before this one may have recorded: all
// their deliveries are looked up at once. It returns false when ctx ended first.
func (r *Router) routeKnown(ctx context.Context, items []item) bool {
	type wanted struct {
		event *event.Event
		at    int
		id    uuid.UUID
		err   error
	}
	var all []wanted
	var refs []ledger.Ref
	for _, i := range items {
		e := i.event
		found := r.table.match(e)
		r.admit(e, len(found.endpoints))
		for _, at := range found.endpoints {
			id := event.DeliveryID(e.ID, r.endpoints[at].ID)
			all = append(all, wanted{event: e, at: at, id: id, err: found.errs[at]})
			refs = append(refs, ledger.Ref{ID: id, CreatedAt: e.CommittedAt})
		}
	}
	known, ok := r.lookUp(ctx, refs)
	if !ok {
		return false
	}
	for _, w := range all {
		if known[w.id] {
			r.opts.Lanes.Known(w.event)
			r.opts.Positions.Settle(w.event.Tx, 1)
			continue
		}
		r.hand(ctx, w.at, w.id, w.event, w.err)
	}
	return true
}

// refresh takes the endpoints as they are now, or returns false when ctx ends
// first.
func (r *Router) refresh(ctx context.Context, revision int64) bool {
	endpoints, ok := untilDone(ctx, r.opts.Logger, "changed endpoints not read, trying again", func() ([]Endpoint, error) { return r.opts.Refresh(ctx, revision) })
	if ok && endpoints != nil {
		r.use(endpoints)
	}
	return ok
}

// lookUp asks the ledger until it answers, or returns false when ctx ends.
func (r *Router) lookUp(ctx context.Context, refs []ledger.Ref) (map[uuid.UUID]bool, bool) {
	return untilDone(ctx, r.opts.Logger, "recorded deliveries not read, trying again", func() (map[uuid.UUID]bool, error) { return r.opts.Store.Known(ctx, refs) })
}

// untilDone calls do until it succeeds, or returns false when ctx ends first.
// text says in the log that it did not.
func untilDone[T any](ctx context.Context, logger *slog.Logger, text string, do func() (T, error)) (done T, ok bool) {
	for {
		done, err := do()
		if err == nil {
			return done, true
		}
		if ctx.Err() != nil {
			return done, false
		}
		logger.LogAttrs(ctx, slog.LevelWarn, text, slog.Any("err", err))
		timer := time.NewTimer(time.Second)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}
