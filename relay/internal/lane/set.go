// Package lane sends deliveries: one lane for each endpoint, with its own
// queue, concurrency, order and rate, so that no endpoint waits for another.
// First tries and retries go the same way.
package lane

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/trace"
	"github.com/posthorn/posthorn/transforms"
)

// store is what the lanes need of the ledger; *ledger.Ledger satisfies it.
type store interface {
	Put(r *ledger.Record)
	Room() <-chan struct{}
	Claim(ctx context.Context, c ledger.Claim) (ledger.Page, error)
	BacklogOf(ctx context.Context, endpoint uuid.UUID) (ledger.Backlog, error)
	BlockedKeys(ctx context.Context, endpoint uuid.UUID, limit int) (map[int64]event.Position, bool, error)
	StillBlocked(ctx context.Context, endpoint uuid.UUID, keys []int64) (map[int64]event.Position, error)
	Changed(ctx context.Context, since time.Time) (map[uuid.UUID]ledger.Change, error)
	Hold(ctx context.Context, endpoint uuid.UUID, state ledger.EndpointState, reason string) error
	SetHealth(ctx context.Context, endpoint uuid.UUID, h ledger.Health) error
}

// sender makes one attempt; *egress.Client satisfies it.
type sender interface {
	Send(ctx context.Context, q *egress.Request) egress.Response
}

// Meter counts what the lanes do. It knows endpoints by their Label or Name.
type Meter interface {
	// Attempts returns what counts one attempt by what came of it: delivered,
	// rejected or failed.
	Attempts(endpoint, outcome string) (count func())
	// Finals returns what counts one delivery that became final.
	Finals(endpoint string, state ledger.State) (count func())
	// Forget drops what was counted of an endpoint that is gone.
	Forget(endpoint string)
	// Delivered takes the time from an event's commit to its delivery.
	Delivered(sinceCommit time.Duration)
}

// Options are what a Set needs.
type Options struct {
	Endpoints []*Endpoint
	Store     store
	Sender    sender
	// Permit reports whether the slot is ours: no request starts when it is not.
	Permit  func() bool
	Buffer  int64         // bytes read and not yet settled, over all lanes
	MaxHold time.Duration // how long one delivery may hold the slot, or one endpoint the reading
	Meter   Meter
	Tracer  *trace.Tracer // nil: no attempt is traced
	Logger  *slog.Logger
	// Chains finds the transforms for events of a type: nil for none. It may
	// find other ones from one call to the next; those before are retired then.
	Chains func(eventType string) *transforms.Chain
	// Tell takes what becomes of an endpoint, at once and in order: a lane waits
	// for it. nil: nobody wants to know.
	Tell func(News)
}

// Set is all lanes. Use NewSet, then Run.
type Set struct {
	opts   Options
	lanes  atomic.Pointer[[]*lane] // of the endpoints, in their order
	buffer *buffer
	stage  *stage

	mu      sync.Mutex
	byID    map[uuid.UUID]*lane     // those that are leaving, too
	leaving []*lane                 // their endpoints are gone, what is in flight is not
	seen    map[uuid.UUID]time.Time // the newest change of each endpoint that the lanes know

	claimed  atomic.Int64  // bytes of claimed deliveries in memory
	queries  chan struct{} // bounds the lanes' queries that run at once
	wake     chan *lane    // lanes to look after before the next tick
	stopping atomic.Bool
	passed   atomic.Bool  // the stream passed the highest recorded position
	holds    atomic.Int64 // how often a lane held its endpoint, or the ledger learnt of it

	work    sync.WaitGroup // workers and consultations
	closing sync.RWMutex
	closed  bool          // Run is over: nothing more is spawned
	over    chan struct{} // closed with it
	jobs    chan func()   // for goroutines that wait for another
	idle    atomic.Int32  // how many of those there are

	heldFor *lane // which lane keeps reading held, and since when
	held    time.Time

	behind   time.Time // since when the ledger has no room; zero when it has
	caughtUp time.Time // when it last got room again after a stall
}

// claimQueries is how many lanes may ask the ledger at once.
const claimQueries = 4

// NewSet returns the lanes of o.Endpoints, with what the ledger holds for them
// and how they stood.
func NewSet(o Options, backlogs map[uuid.UUID]ledger.Backlog, standings map[uuid.UUID]ledger.Standing) *Set {
	s := &Set{opts: o, byID: make(map[uuid.UUID]*lane, len(o.Endpoints)), seen: make(map[uuid.UUID]time.Time, len(o.Endpoints)), buffer: newBuffer(o.Buffer), queries: make(chan struct{}, claimQueries), wake: make(chan *lane, 64), over: make(chan struct{}), jobs: make(chan func())}
	s.stage = newStage(s)
	lanes := make([]*lane, len(o.Endpoints))
	for i, ep := range o.Endpoints {
		lanes[i] = newLane(s, ep, backlogs[ep.ID], standings[ep.ID])
		s.byID[ep.ID] = lanes[i]
		s.seen[ep.ID] = standings[ep.ID].At
	}
	s.lanes.Store(&lanes)
	return s
}

// all returns the lanes in the order of their endpoints; to be read only.
func (s *Set) all() []*lane { return *s.lanes.Load() }

// LoadKeys reads which keys have something pending, for the lanes that keep
// their order. Call it before the first Enqueue.
func (s *Set) LoadKeys(ctx context.Context) error {
	for _, l := range s.all() {
		if l.ep().Ordered && l.stored > 0 {
			if err := l.loadKeys(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// Admit charges an event that was read, or returns false when the buffer is
// full and reading must be held.
func (s *Set) Admit(e *event.Event) bool {
	if !s.buffer.admit(e.Size()) {
		return false
	}
	e.Held.Store(1)
	return true
}

// Room receives when Admit is worth another try.
func (s *Set) Room() <-chan struct{} { return s.buffer.room }

// Share says that n deliveries come of an admitted event: it is charged until
// the last of them is settled.
func (s *Set) Share(e *event.Event, n int) {
	if n == 0 {
		s.release(e)
		return
	}
	e.Held.Add(int32(n - 1))
	s.buffer.add(int64(n-1) * deliveryCost)
}

// deliveryCost is what each further delivery of an event costs in memory.
const deliveryCost = 512

// release gives up one share in e.
func (s *Set) release(e *event.Event) {
	if e.Held.Add(-1) == 0 {
		s.buffer.release(e.Size())
		s.shrink(e)
		return
	}
	s.buffer.release(deliveryCost)
}

// grow charges what the transforms made of an event, as long as the event is
// charged.
func (s *Set) grow(e *event.Event, n int64) {
	if n == 0 {
		return
	}
	e.Grown.Add(n)
	s.buffer.add(n)
	s.stage.grown.Add(n)
	if e.Held.Load() <= 0 { // it was settled meanwhile, or came from the ledger
		s.shrink(e)
	}
}

// shrink gives up what grow charged.
func (s *Set) shrink(e *event.Event) {
	if n := e.Grown.Swap(0); n > 0 {
		s.stage.grown.Add(-n)
		s.buffer.release(n)
	}
}

// Enqueue gives the event's delivery to the lane of endpoint number i.
func (s *Set) Enqueue(ctx context.Context, i int, id uuid.UUID, e *event.Event) {
	s.all()[i].enqueue(ctx, newDelivery(id, e))
}

// Disabled reports whether endpoint number i is disabled: nothing more is
// matched for it.
func (s *Set) Disabled(i int) bool { return s.all()[i].disabled.Load() }

// Refuse records the event's delivery to endpoint number i as failed, without
// an attempt.
func (s *Set) Refuse(ctx context.Context, i int, id uuid.UUID, e *event.Event, why string) {
	s.all()[i].refuse(ctx, newDelivery(id, e), why)
}

// Known tells the lanes that a delivery stands in the ledger already, so that
// nothing is to be done for it.
func (s *Set) Known(e *event.Event) { s.release(e) }

// Passed says that the stream is past the highest position that the ledger had
// recorded when this relay started.
func (s *Set) Passed() { s.passed.Store(true) }

// monitorEvery is how often the lanes are looked after.
const monitorEvery = 100 * time.Millisecond

// changedEvery is how often the ledger is asked which endpoints somebody
// touched.
const changedEvery = 500 * time.Millisecond

// Run looks after the lanes until ctx ends, and returns when all they started
// has ended. Stop lets them finish first.
func (s *Set) Run(ctx context.Context) error {
	defer func() {
		s.closing.Lock()
		s.closed = true
		s.closing.Unlock()
		close(s.over)
		s.work.Wait()
	}()
	s.spawn(func() { s.watchChanges(ctx) })
	ticker := time.NewTicker(monitorEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case l := <-s.wake:
			l.look(ctx, time.Now())
		case now := <-ticker.C:
			s.watchLedger(now)
			s.judgeHold(ctx, now)
			s.stage.resume(ctx)
			for _, l := range s.present() {
				l.look(ctx, now)
			}
		}
	}
}

// spawn runs f in a goroutine that Run waits for, unless Run is over.
func (s *Set) spawn(f func()) bool {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return false
	}
	select {
	case s.jobs <- f:
	default:
		s.work.Go(func() { s.labour(f) })
	}
	return true
}

// maxIdle is how many goroutines wait for something to run. One whose stack
// has grown for a request is worth keeping: where events come one by one, that
// is half of what handing them to a worker costs.
const maxIdle = 64

// labour runs f, and then what spawn has for it, until Run is over or enough
// others wait.
func (s *Set) labour(f func()) {
	for {
		f()
		if s.idle.Add(1) > maxIdle {
			s.idle.Add(-1)
			return
		}
		select {
		case f = <-s.jobs:
			s.idle.Add(-1)
		case <-s.over:
			return
		}
	}
}

// poke asks Run to look after l soon.
func (s *Set) poke(l *lane) {
	select {
	case s.wake <- l:
	default: // the next tick will do
	}
}

// Stop makes the lanes start nothing more and returns when their requests in
// flight have ended and the ledger knows which endpoints they paused or
// disabled, or with ctx's error when that ends first. Run must be running and
// goes on.
func (s *Set) Stop(ctx context.Context) error {
	s.stopping.Store(true)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for s.busy() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}

// busy reports whether requests are being made or their consequences are not
// recorded.
func (s *Set) busy() bool {
	return slices.ContainsFunc(s.present(), func(l *lane) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.flying) > 0 || l.unwritten
	})
}

// InFlight returns how many requests are being made.
func (s *Set) InFlight() int {
	n := 0
	for _, l := range s.present() {
		l.mu.Lock()
		n += len(l.flying)
		l.mu.Unlock()
	}
	return n
}

// Buffered returns the bytes that are read and not yet settled.
func (s *Set) Buffered() int64 { return s.buffer.used.Load() }

// Status is how one lane does.
type Status struct {
	Endpoint string // as metrics call it
	InFlight int
	Waiting  int
	Pending  int64 // in the ledger
	Failing  bool
	Overflow bool
	State    ledger.EndpointState
}

// Statuses returns how the lanes do, in the order of their endpoints.
func (s *Set) Statuses() []Status {
	lanes := s.all()
	all := make([]Status, len(lanes))
	for i, l := range lanes {
		all[i] = l.status()
	}
	return all
}

// startable reports whether requests may be started now.
func (s *Set) startable() bool { return !s.stopping.Load() && s.opts.Permit() }

// stall is for how long the ledger has no room before what waits for it is
// excused.
const stall = time.Second

// watchLedger notices that the lanes wait for the ledger: what waits then says
// nothing about its endpoint, and parking it would only give the ledger more to
// write.
func (s *Set) watchLedger(now time.Time) {
	switch behind := s.opts.Store.Room() != nil; {
	case behind && s.behind.IsZero():
		s.behind = now
	case !behind && !s.behind.IsZero():
		if now.Sub(s.behind) >= stall {
			s.caughtUp = now
		}
		s.behind = time.Time{}
	}
}

// excused reports whether the ledger stalls, or did so lately: whatever waits
// may begin to wait anew.
func (s *Set) excused(now time.Time) bool {
	return !s.behind.IsZero() && now.Sub(s.behind) >= stall || now.Sub(s.caughtUp) < s.opts.MaxHold
}

// judgeHold decides whether the lane that fills the buffer may go on holding
// the reading up, or overflows.
func (s *Set) judgeHold(ctx context.Context, now time.Time) {
	if !s.buffer.tight() || !s.behind.IsZero() {
		s.heldFor = nil
		return
	}
	var fullest *lane
	var most int64
	for _, l := range s.all() {
		if n := l.waitingBytes(); n > most {
			fullest, most = l, n
		}
	}
	if fullest == nil {
		return
	}
	if s.heldFor != fullest {
		s.heldFor, s.held = fullest, now
	}
	fullest.judge(ctx, now, now.Sub(s.held))
}

// watchChanges notices what others wrote for the lanes, such as a retry that
// an operator asked for.
func (s *Set) watchChanges(ctx context.Context) {
	var since time.Time
	ticker := time.NewTicker(changedEvery)
	defer ticker.Stop()
	for {
		holds := s.holds.Load()
		changed, err := s.opts.Store.Changed(ctx, since)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.opts.Logger.LogAttrs(ctx, slog.LevelDebug, "endpoints not read", slog.Any("err", err))
		}
		newest, all := since, true
		for id, change := range changed {
			if l := s.unaware(id, change.At); l != nil {
				if !l.refresh(ctx, change, holds) {
					all = false
					continue
				}
				s.saw(id, change.At)
			}
			if change.At.After(newest) {
				newest = change.At
			}
		}
		if all { // else what was missed is asked for again
			since = newest
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
