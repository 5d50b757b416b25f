package lane

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// delivery is one event on its way to one endpoint, in memory.
type delivery struct {
	id       uuid.UUID
	event    *event.Event
	attempts int             // made so far
	request  *ledger.Request // rendered at the first attempt
	keyHash  *int64          // nil when it is not ordered

	rendered int64 // bytes of request that are charged to the buffer

	fresh   bool      // from the stream, and not settled yet
	stored  bool      // stands in the ledger's pending
	sending bool      // stands there as sending: nobody claims it
	probe   bool      // tries whether a failing endpoint is back
	started time.Time // when its attempt began
	waiting time.Time // since when it waits in memory
	slot    int       // its place among the lane's flying
}

func newDelivery(id uuid.UUID, e *event.Event) *delivery {
	return &delivery{id: id, event: e, fresh: true}
}

// bytes is what the delivery counts as in its lane's queue.
func (d *delivery) bytes() int64 { return d.event.Size() }

// lane is the way to one endpoint. What is not in memory is in the ledger.
type lane struct {
	set     *Set
	ep      *Endpoint
	limiter *rate.Limiter // nil for no limit

	mu      sync.Mutex
	ready   fifo                    // may be sent now
	keys    map[int64]*run          // keys of which something is in memory
	flying  []*delivery             // requests being made
	held    map[uuid.UUID]*delivery // claimed from the ledger; what became of them is not committed
	workers int
	waits   int   // deliveries in memory that are not flying
	bytes   int64 // of those

	overflow bool // everything parks until the backlog is short
	health   health
	pace     pace

	backlog
}

// run is what is in memory of one key: at most one is ready or flying, the
// others wait behind it in order.
type run struct{ behind []*delivery }

func newLane(s *Set, ep *Endpoint, b ledger.Backlog) *lane {
	l := &lane{set: s, ep: ep, keys: map[int64]*run{}, held: map[uuid.UUID]*delivery{}}
	if ep.RateLimit > 0 {
		l.limiter = rate.NewLimiter(rate.Limit(ep.RateLimit), max(1, int(ep.RateLimit/10)))
	}
	l.backlog = newBacklog(b, time.Now())
	return l
}

// enqueue takes a delivery from the stream: it is sent as soon as it can be,
// or parked in the ledger when it cannot be sent now.
func (l *lane) enqueue(ctx context.Context, d *delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if hash, ok := d.event.KeyHash(); ok && l.ep.Ordered {
		d.keyHash = &hash
	}
	switch {
	case l.overflow:
		l.park(d, "overflow")
	case l.health.failing:
		l.park(d, "endpoint failing")
	case d.keyHash != nil && l.isBehind(*d.keyHash, d.event.Position):
		l.park(d, "behind an earlier event of its key")
	default:
		l.admit(ctx, d)
	}
}

// admit puts a delivery into memory: ready, or behind others of its key.
func (l *lane) admit(ctx context.Context, d *delivery) {
	d.waiting = time.Now()
	l.waits++
	l.bytes += d.bytes()
	if d.keyHash != nil {
		if r, busy := l.keys[*d.keyHash]; busy {
			r.behind = append(r.behind, d)
			return
		}
		l.keys[*d.keyHash] = &run{}
	}
	l.ready.push(d)
	l.hire(ctx)
}

// hire starts a worker if there is work for one more.
func (l *lane) hire(ctx context.Context) {
	if l.workers >= l.ep.Concurrency || l.ready.len() == 0 || !l.set.startable() {
		return
	}
	l.workers++
	if !l.set.spawn(func() { l.serve(ctx) }) {
		l.workers--
	}
}

// serve makes attempts until nothing is ready.
func (l *lane) serve(ctx context.Context) {
	for l.paced(ctx) {
		d := l.start()
		if d == nil {
			return
		}
		l.finish(ctx, d, l.attempt(ctx, d))
	}
}

// paced waits until the rate limit admits a request. It returns false when ctx
// ended first: the lane is over.
func (l *lane) paced(ctx context.Context) bool {
	return l.limiter == nil || l.waiting() == 0 || l.limiter.Wait(ctx) == nil
}

// start takes the next delivery, or returns nil and lets the worker go.
func (l *lane) start() *delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ready.len() == 0 || !l.set.startable() {
		l.workers--
		return nil
	}
	d := l.ready.pop()
	l.waits--
	l.bytes -= d.bytes()
	d.started, d.slot = time.Now(), len(l.flying)
	l.flying = append(l.flying, d)
	return d
}

func (l *lane) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waits
}

func (l *lane) waitingBytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// land removes d from those flying.
func (l *lane) land(d *delivery) {
	last := len(l.flying) - 1
	l.flying[d.slot] = l.flying[last]
	l.flying[d.slot].slot = d.slot
	l.flying[last] = nil
	l.flying = l.flying[:last]
}

// finish acts on what came of an attempt.
func (l *lane) finish(ctx context.Context, d *delivery, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.land(d)
	if o.abandoned {
		l.again(d)
		return
	}
	if o.tried {
		d.attempts++
	}
	l.pace.count()
	l.judgeHealth(ctx, d, o)
	l.put(d, o)
	if !o.state.Final() {
		l.scatter(d, "behind an earlier event of its key")
		return
	}
	l.set.opts.Meter.Finished(l.ep.Name, o.state)
	if o.state == ledger.Delivered {
		l.set.opts.Meter.Delivered(time.Since(d.event.CommittedAt))
	}
	if l.health.failing {
		l.scatter(d, "endpoint failing")
		return
	}
	l.succeed(d)
	l.hire(ctx)
}

// again puts a delivery back to where it was: whoever has the slot next sends
// it, be it us.
func (l *lane) again(d *delivery) {
	l.waits++
	l.bytes += d.bytes()
	l.ready.pushFirst(d)
}

// judgeHealth counts an attempt for or against the endpoint.
func (l *lane) judgeHealth(ctx context.Context, d *delivery, o outcome) {
	if !o.tried { // says nothing about the endpoint
		l.health.probing = l.health.probing && !d.probe
		return
	}
	was := l.health.failing
	l.health.note(o.state == ledger.Delivered, d.probe, time.Now())
	if l.health.failing != was {
		l.turned(ctx)
	}
}

// succeed lets the next of d's key go, which is final.
func (l *lane) succeed(d *delivery) {
	if d.keyHash == nil {
		return
	}
	r := l.keys[*d.keyHash]
	if len(r.behind) == 0 {
		delete(l.keys, *d.keyHash)
		return
	}
	l.ready.push(r.behind[0])
	r.behind = r.behind[1:]
}

// scatter takes what waits behind d out of memory: d is not final, and nothing
// of its key may be sent before it is.
func (l *lane) scatter(d *delivery, reason string) {
	if d.keyHash == nil {
		return
	}
	r := l.keys[*d.keyHash]
	delete(l.keys, *d.keyHash)
	for _, next := range r.behind {
		l.expel(next, reason)
	}
}

// expel takes a waiting delivery out of memory: into the ledger, unless it
// stands there already.
func (l *lane) expel(d *delivery, reason string) {
	l.waits--
	l.bytes -= d.bytes()
	if d.probe {
		l.health.probing = false
	}
	if d.stored && !d.sending {
		l.set.buffer.release(d.rendered)
		l.letGo(d)
		l.claimSoon(time.Now())
		return
	}
	l.park(d, reason)
}

// expelAll takes everything that waits out of memory.
func (l *lane) expelAll(reason string) {
	for l.ready.len() > 0 {
		d := l.ready.pop()
		l.expel(d, reason)
		l.scatter(d, reason)
	}
	for _, d := range l.flying { // what waits behind requests in flight
		if d.keyHash == nil {
			continue
		}
		r := l.keys[*d.keyHash]
		for _, next := range r.behind {
			l.expel(next, reason)
		}
		r.behind = nil
	}
}

// turned acts on the lane's change between failing and well.
func (l *lane) turned(ctx context.Context) {
	failing := l.health.failing
	if failing {
		l.expelAll("endpoint failing")
	} else {
		l.claimSoon(time.Now())
	}
	level, text := slog.LevelInfo, "endpoint answers again"
	if failing {
		level, text = slog.LevelWarn, "endpoint is failing, its first attempts are parked"
	}
	l.set.opts.Logger.LogAttrs(ctx, level, text, slog.String("endpoint", l.ep.Name))
	l.set.spawn(func() {
		if err := l.set.opts.Store.SetFailing(ctx, l.ep.ID, failing); err != nil && ctx.Err() == nil {
			l.set.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "endpoint's state not recorded", slog.String("endpoint", l.ep.Name), slog.Any("err", err))
		}
	})
}

func (l *lane) status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Status{Endpoint: l.ep.Name, InFlight: len(l.flying), Waiting: l.waits, Pending: l.stored, Failing: l.health.failing, Overflow: l.overflow}
}

// fifo is a queue of deliveries.
type fifo struct {
	items []*delivery
	head  int
}

func (q *fifo) len() int { return len(q.items) - q.head }

// firstFresh returns the first that is not settled, or nil.
func (q *fifo) firstFresh() *delivery {
	for _, d := range q.items[q.head:] {
		if d.fresh {
			return d
		}
	}
	return nil
}

func (q *fifo) push(d *delivery) {
	if q.head > 0 && q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	if q.head > 1024 && q.head > len(q.items)/2 { // reclaim what was popped
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, d)
}

func (q *fifo) pushFirst(d *delivery) {
	if q.head > 0 {
		q.head--
		q.items[q.head] = d
		return
	}
	q.items = append([]*delivery{d}, q.items...)
}

func (q *fifo) pop() *delivery {
	d := q.items[q.head]
	q.items[q.head] = nil
	q.head++
	return d
}
