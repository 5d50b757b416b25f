package lane

import (
	"container/list"
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/transforms"
)

// The bounds of a batch of events that are transformed together.
const (
	batchEvents = 256
	batchBytes  = 4 << 20
)

// stage transforms events before their deliveries become ready: each event
// once, in batches with others of its chain. Deliveries wait in their lanes
// meanwhile, without a worker, so that a slow chain delays nothing else.
type stage struct {
	set *Set

	mu     sync.Mutex
	jobs   map[*event.Event]*job
	queues map[*transforms.Chain]*queue // of the chains for which something waits or runs

	grown atomic.Int64 // bytes that the transforms added to events from the stream
}

// job is an event that is to be transformed, for whoever waits for it.
type job struct {
	event   *event.Event
	waiting []waiter
	queue   *queue
	at      *list.Element // its place in the queue; nil once it is being worked on
}

type waiter struct {
	lane     *lane
	delivery *delivery
}

// queue is the events for one chain.
type queue struct {
	chain   *transforms.Chain
	jobs    list.List // of *job
	workers int
}

func newStage(s *Set) *stage {
	return &stage{set: s, jobs: map[*event.Event]*job{}, queues: map[*transforms.Chain]*queue{}}
}

// await sees to it that d's event is transformed and l told then, or returns
// false when there is nothing to wait for.
func (s *stage) await(ctx context.Context, l *lane, d *delivery) bool {
	e := d.event
	if s.set.opts.Chains == nil || e.Invalid != "" || e.Made.Load() != nil {
		return false
	}
	chain := s.set.opts.Chains(e.Type)
	if chain == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Made.Load() != nil { // done since we looked
		return false
	}
	j := s.jobs[e]
	if j == nil {
		j = &job{event: e}
		s.jobs[e] = j
		s.push(ctx, chain, j)
	}
	j.waiting = append(j.waiting, waiter{l, d})
	return true
}

// leave says that d waits no more. An event for which nobody waits is
// forgotten, unless it is being worked on.
func (s *stage) leave(d *delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[d.event]
	if j == nil {
		return
	}
	for i, w := range j.waiting {
		if w.delivery == d {
			j.waiting = append(j.waiting[:i], j.waiting[i+1:]...)
			break
		}
	}
	if len(j.waiting) == 0 && j.at != nil {
		j.queue.jobs.Remove(j.at)
		delete(s.jobs, j.event)
	}
}

// push puts a job at the end of its chain's queue, and hires a worker for it.
func (s *stage) push(ctx context.Context, chain *transforms.Chain, j *job) {
	q := s.queues[chain]
	if q == nil {
		q = &queue{chain: chain}
		s.queues[chain] = q
	}
	j.queue, j.at = q, q.jobs.PushBack(j)
	s.hire(ctx, q)
}

// hire starts a worker for q, unless no more can work on its chain.
func (s *stage) hire(ctx context.Context, q *queue) bool {
	parallel := q.chain.Parallel()
	if parallel == 0 {
		parallel = runtime.GOMAXPROCS(0)
	}
	if q.workers >= parallel || !s.set.spawn(func() { s.work(ctx, q) }) {
		return false
	}
	q.workers++
	return true
}

// resume hires workers for what was left waiting while the stage rested.
func (s *stage) resume(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rests() {
		return
	}
	for chain, q := range s.queues {
		switch {
		case q.workers > 0:
		case q.jobs.Len() == 0: // all of it was parked
			delete(s.queues, chain)
		default:
			for range (q.jobs.Len() + batchEvents - 1) / batchEvents {
				if !s.hire(ctx, q) {
					break
				}
			}
		}
	}
}

// rests reports whether nothing is to be transformed now: the lanes stop, or
// what transforms made and nobody has settled fills the buffer again. That is on
// its way out, or parked soon.
func (s *stage) rests() bool {
	b := s.set.buffer
	return s.set.stopping.Load() || s.grown.Load() > 0 && b.used.Load() > 2*b.limit
}

// work transforms batch after batch until the queue is empty or ctx ends: then
// the events come again from stream or ledger.
func (s *stage) work(ctx context.Context, q *queue) {
	for {
		batch := s.take(q)
		if len(batch) == 0 {
			return
		}
		events := make([]*event.Event, len(batch))
		for i, j := range batch {
			events[i] = j.event
		}
		made, ok := Transform(ctx, q.chain, events)
		switch {
		case ctx.Err() != nil:
			return
		case !ok:
			s.move(ctx, batch)
		default:
			for i, j := range batch {
				s.done(ctx, j, made[i])
			}
		}
	}
}

// take returns the next jobs. Without any, and while the stage rests, it lets
// the worker go.
func (s *stage) take(q *queue) []*job {
	s.mu.Lock()
	defer s.mu.Unlock()
	var batch []*job
	bytes, rests := int64(0), s.rests()
	for next := q.jobs.Front(); next != nil && !rests && len(batch) < batchEvents; next = q.jobs.Front() {
		j := next.Value.(*job)
		if bytes += j.event.Size(); bytes > batchBytes && len(batch) > 0 {
			break
		}
		q.jobs.Remove(next)
		j.at = nil
		batch = append(batch, j)
	}
	if len(batch) == 0 {
		if q.workers--; q.workers == 0 && q.jobs.Len() == 0 {
			delete(s.queues, q.chain)
		}
	}
	return batch
}

// move gives jobs whose chain was retired to the chain that is there now, if
// any is.
func (s *stage) move(ctx context.Context, batch []*job) {
	for _, j := range batch {
		chain := s.set.opts.Chains(j.event.Type)
		if chain == nil {
			s.done(ctx, j, nil)
			continue
		}
		s.mu.Lock()
		s.push(ctx, chain, j)
		s.mu.Unlock()
	}
}

// done tells whoever waits for an event that it is transformed, or with nil
// that nothing transforms it.
func (s *stage) done(ctx context.Context, j *job, made *event.Made) {
	s.mu.Lock()
	j.event.Made.Store(made)
	s.set.grow(j.event, growth(j.event, made))
	delete(s.jobs, j.event)
	waiting := j.waiting
	s.mu.Unlock()
	for _, w := range waiting {
		w.lane.transformed(ctx, w.delivery)
	}
}

// growth is the bytes that the transforms added in memory.
func growth(e *event.Event, made *event.Made) int64 {
	if made == nil {
		return 0
	}
	n := 0
	if len(made.Payload) > 0 && (len(e.Payload) == 0 || &made.Payload[0] != &e.Payload[0]) {
		n = len(made.Payload)
	}
	for name, value := range made.Headers {
		n += len(name) + len(value)
	}
	return int64(n)
}

var errNothing = errors.New("the transforms left no payload")

// Transform runs events through a chain and returns what it made of each, or
// false when the chain was retired.
func Transform(ctx context.Context, chain *transforms.Chain, events []*event.Event) ([]*event.Made, bool) {
	all := make([]transforms.Message, len(events))
	batch := make([]*transforms.Message, 0, len(events))
	for i, e := range events {
		m := &all[i]
		*m = transforms.Message{Committed: e.Type, Payload: e.Payload}
		m.Event = transforms.Event{ID: e.ID.String(), Tenant: e.Tenant, Key: e.Key, CreatedAt: e.CreatedAt}
		m.SetType(e.Type)
		if m.Event.Headers, m.Err = e.HeaderMap(); m.Err == nil {
			batch = append(batch, m)
		}
	}
	if !chain.Apply(ctx, batch) {
		return nil, false
	}
	made := make([]*event.Made, len(events))
	for i := range all {
		m := &all[i]
		if m.Err == nil && m.Skipped == "" && len(m.Payload) == 0 { // nothing means the committed bytes to whoever sends
			m.Err = errNothing
		}
		made[i] = &event.Made{
			Type: m.Event.Type, Headers: m.Event.Headers, Payload: m.Payload,
			Skipped: m.Skipped, Err: m.Err, Retry: transforms.IsRetryable(m.Err),
		}
	}
	return made, true
}
