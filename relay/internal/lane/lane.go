package lane

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
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
	attempts int       // made so far
	keyHash  *int64    // nil when it is not ordered
	next     *delivery // what waits behind it, of its key

	// What was rendered at the first attempt, and how many bytes of it are
	// charged to the buffer. While an attempt is made they are its worker's to set.
	request  atomic.Pointer[ledger.Request]
	rendered int64

	raw     bool      // waits for its event's transforms
	turn    bool      // it is next of its key, or in no order
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

// sends reports whether an attempt of the delivery makes a request.
func (d *delivery) sends() bool { return d.request.Load() != nil || d.event.Made.Load().Sends() }

// bytes is what the delivery counts as in its lane's queue.
func (d *delivery) bytes() int64 { return d.event.Size() }

// lane is the way to one endpoint. What is not in memory is in the ledger.
type lane struct {
	set       *Set
	endpoint  atomic.Pointer[Endpoint] // what is sent by it now; see ep
	limiter   *rate.Limiter            // nil for no limit
	relimited chan struct{}            // closed when there is another limiter
	failures  rate.Sometimes           // how often a failure is logged

	mu      sync.Mutex
	ready   fifo                    // may be sent now
	raw     map[*delivery]struct{}  // could be ready if their events were transformed
	keys    map[int64]*delivery     // the last in memory of each key: at most one of a key is ready or flying, the others wait behind it
	flying  []*delivery             // requests being made
	held    map[uuid.UUID]*delivery // claimed from the ledger; what became of them is not committed
	workers int
	waits   int   // deliveries in memory that are not flying
	bytes   int64 // of those

	overflow bool // everything parks until the backlog is short
	health   health
	healthAt time.Time // when the ledger may be told of health again
	telling  bool      // it is being told
	told     told
	pace     pace
	counts   counts
	disabled atomic.Bool // that nothing more is matched, for the router
	leaving  bool        // the endpoint is no longer among the set's: what is in flight ends

	standing
	backlog
}

func newLane(s *Set, ep *Endpoint, b ledger.Backlog, before ledger.Standing) *lane {
	l := &lane{set: s, relimited: make(chan struct{}), keys: map[int64]*delivery{}, held: map[uuid.UUID]*delivery{}, raw: map[*delivery]struct{}{}}
	l.endpoint.Store(ep)
	l.state = cmp.Or(before.State, ledger.Enabled)
	l.disabled.Store(l.state == ledger.Disabled)
	l.health.row, l.health.since = before.Failures, time.Now().Add(-before.FailingFor)
	l.told.failing = before.Failures >= failAfter // whoever had the slot told of it
	l.limiter = ep.limiter()
	l.counts = newCounts(s.opts.Meter, ep.label())
	l.failures = rate.Sometimes{First: 10, Interval: time.Second}
	l.backlog = newBacklog(b, time.Now())
	return l
}

// ep returns the endpoint as it is now: Set.Update may give the lane another one
// of the same id.
func (l *lane) ep() *Endpoint { return l.endpoint.Load() }

// open reports whether the endpoint gets requests.
func (l *lane) open() bool { return l.state == ledger.Enabled && l.ep().Broken == "" && !l.leaving }

// parked is the reason that deliveries are parked with.
func (l *lane) parked() string {
	switch {
	case l.leaving:
		return "endpoint removed or disabled"
	case l.ep().Broken != "":
		return "endpoint cannot be used"
	}
	return "endpoint " + string(l.state)
}

// enqueue takes a delivery from the stream: it is sent as soon as it can be,
// or parked in the ledger when it cannot be sent now.
func (l *lane) enqueue(ctx context.Context, d *delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ep().Ordered {
		if hash, ok := d.event.KeyHash(); ok {
			d.keyHash = &hash
		}
	}
	switch {
	case !l.open():
		l.park(d, l.parked())
	case l.overflow:
		l.park(d, "overflow")
	case l.health.failing:
		l.park(d, "endpoint failing")
	case d.keyHash != nil && l.isBehind(*d.keyHash, d.event.Position):
		l.park(d, "behind an earlier event of its key")
	default:
		l.admit(ctx, d)
		l.hire(ctx)
	}
}

// refuse records a delivery that is not even tried as failed.
func (l *lane) refuse(ctx context.Context, d *delivery, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := outcome{state: ledger.Failed, err: why}
	l.put(d, o)
	l.counts.final(o.state)
	l.logFailure(ctx, d, o)
}

// admit puts a delivery into memory: ready, or behind others of its key.
func (l *lane) admit(ctx context.Context, d *delivery) {
	d.waiting = time.Now()
	l.waits++
	l.bytes += d.bytes()
	d.raw = d.request.Load() == nil && l.set.stage.await(ctx, l, d)
	if d.keyHash != nil {
		last, busy := l.keys[*d.keyHash]
		l.keys[*d.keyHash] = d
		if busy {
			last.next = d
			return
		}
	}
	l.advance(d)
}

// advance makes a delivery whose turn it is ready, once its event is
// transformed. A worker is hired by whoever calls.
func (l *lane) advance(d *delivery) {
	if d.turn = true; d.raw {
		l.raw[d] = struct{}{}
		return
	}
	l.ready.push(d)
}

// transformed says that d's event is.
func (l *lane) transformed(ctx context.Context, d *delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !d.raw { // it was taken out of memory meanwhile
		return
	}
	d.raw = false
	if d.stored { // its event is its alone, and in no buffer
		d.rendered = growth(d.event, d.event.Made.Load())
		l.set.buffer.add(d.rendered)
	}
	if d.turn {
		delete(l.raw, d)
		l.advance(d)
		l.hire(ctx)
	}
}

// hire starts a worker if there is work for one more.
func (l *lane) hire(ctx context.Context) {
	if l.workers >= l.ep().Concurrency || l.ready.len() == 0 || !l.open() || !l.set.startable() {
		return
	}
	l.workers++
	if !l.set.spawn(func() { l.serve(ctx) }) {
		l.workers--
	}
}

// serve makes attempts until nothing is ready.
func (l *lane) serve(ctx context.Context) {
	var d *delivery
	var o outcome
	for more := true; more; {
		if d, more = l.turn(ctx, d, o); d != nil {
			o = l.attempt(ctx, d)
		}
	}
}

// turn acts on what came of an attempt, if there was one, and takes the next
// delivery, once the ledger has room for it. Without one, it returns false when the worker is to go.
func (l *lane) turn(ctx context.Context, d *delivery, o outcome) (*delivery, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if d != nil {
		l.finish(ctx, d, o, now)
	}
	for l.ready.len() > 0 {
		room := l.set.opts.Store.Room()
		if room == nil {
			break
		}
		l.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		l.mu.Lock()
		if now = time.Now(); ctx.Err() != nil { // the lane is over
			return nil, false
		}
	}
	limiter, relimited := l.limiter, l.relimited
	limited := limiter != nil && l.ready.len() > 0 && l.ready.first().sends()
	if limited {
		l.mu.Unlock()
		limited = admitted(ctx, limiter, relimited)
		l.mu.Lock()
		if now = time.Now(); ctx.Err() != nil {
			return nil, false
		}
	}
	next, more := l.start(limited, now)
	l.hire(ctx) // for what became ready beside it
	return next, more
}

// admitted waits until the limiter admits one more, or returns false when there
// is another limiter, or ctx ends, first.
func admitted(ctx context.Context, limiter *rate.Limiter, relimited <-chan struct{}) bool {
	r := limiter.Reserve()
	wait := r.Delay()
	if wait == 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-relimited:
	case <-ctx.Done():
	}
	r.Cancel()
	return false
}

// start takes the next delivery. Without one it returns false and lets the
// worker go; with true the next must wait for the rate limit, which admitted
// says was asked.
func (l *lane) start(admitted bool, now time.Time) (*delivery, bool) {
	if l.ready.len() == 0 || !l.open() || !l.set.startable() || l.workers > l.ep().Concurrency {
		l.workers--
		return nil, false
	}
	if l.limiter != nil && !admitted && l.ready.first().sends() { // another worker took the one before it
		return nil, true
	}
	d := l.ready.pop()
	l.waits--
	l.bytes -= d.bytes()
	d.started, d.slot = now, len(l.flying)
	l.flying = append(l.flying, d)
	return d, true
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
func (l *lane) finish(ctx context.Context, d *delivery, o outcome, now time.Time) {
	l.land(d)
	if o.abandoned {
		l.again(d)
		return
	}
	if o.tried || o.raw {
		d.attempts++
	}
	if o.result != "" {
		l.counts.attempt(o.result)
	}
	l.pace.count()
	l.judgeHealth(ctx, d, o, now)
	l.put(d, o)
	if !o.state.Final() {
		l.scatter(d, "behind an earlier event of its key")
		return
	}
	l.counts.final(o.state)
	switch o.state {
	case ledger.Delivered:
		l.set.opts.Meter.Delivered(now.Sub(d.event.CommittedAt))
	case ledger.Failed:
		l.logFailure(ctx, d, o)
	}
	switch {
	case !l.open():
		l.scatter(d, l.parked())
	case l.health.failing:
		l.scatter(d, "endpoint failing")
	default:
		l.succeed(d)
	}
}

// logFailure says that a delivery failed for good. The ledger has them all:
// of an endpoint that fails everything, some are logged.
func (l *lane) logFailure(ctx context.Context, d *delivery, o outcome) {
	l.failures.Do(func() {
		l.set.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "delivery failed", slog.String("endpoint", l.ep().Name), slog.String("delivery", d.id.String()),
			slog.String("type", d.event.Type), slog.Int("attempts", d.attempts), slog.String("err", o.err))
	})
}

// again puts a delivery back to where it was: whoever has the slot next sends
// it, be it us.
func (l *lane) again(d *delivery) {
	if !l.open() {
		l.park(d, l.parked())
		l.scatter(d, l.parked())
		return
	}
	l.waits++
	l.bytes += d.bytes()
	l.ready.pushFirst(d)
}

// judgeHealth counts an attempt for or against the endpoint.
func (l *lane) judgeHealth(ctx context.Context, d *delivery, o outcome, now time.Time) {
	if !o.tried { // says nothing about the endpoint
		if d.probe {
			l.health.probing = false
			l.set.poke(l) // for the next one: this one cost the endpoint nothing
		}
		return
	}
	was := l.health.failing
	l.health.note(o.state == ledger.Delivered, d.probe, now)
	if l.health.failing != was {
		l.turned(ctx)
	}
	if state, why := l.halt(o, now); state != ledger.Enabled {
		l.hold(ctx, state, why)
	}
}

// succeed lets the next of d's key go, which is final.
func (l *lane) succeed(d *delivery) {
	switch next := d.next; {
	case d.keyHash == nil:
	case next == nil:
		delete(l.keys, *d.keyHash)
	default:
		d.next = nil
		l.advance(next)
	}
}

// scatter takes what waits behind d out of memory: d is not final, and nothing
// of its key may be sent before it is.
func (l *lane) scatter(d *delivery, reason string) {
	if d.keyHash == nil {
		return
	}
	l.expelBehind(d, reason)
	delete(l.keys, *d.keyHash)
}

// expelBehind takes what waits behind d out of memory.
func (l *lane) expelBehind(d *delivery, reason string) {
	next := d.next
	d.next = nil
	for next != nil {
		this := next
		next, this.next = this.next, nil
		l.expel(this, reason)
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
	if d.raw {
		d.raw = false
		delete(l.raw, d)
		l.set.stage.leave(d)
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
	l.expelRaw(reason, func(*delivery) bool { return true })
	for _, d := range l.flying { // what waits behind requests in flight
		if d.keyHash == nil {
			continue
		}
		l.expelBehind(d, reason)
		l.keys[*d.keyHash] = d
	}
}

// expelRaw takes what waits for its event's transforms out of memory, if which
// says so.
func (l *lane) expelRaw(reason string, which func(d *delivery) bool) {
	for d := range l.raw {
		if which(d) {
			l.expel(d, reason)
			l.scatter(d, reason)
		}
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
	l.set.opts.Logger.LogAttrs(ctx, level, text, slog.String("endpoint", l.ep().Name))
	l.healthAt = time.Time{} // worth telling at once
}

func (l *lane) status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Status{
		Endpoint: l.ep().label(), InFlight: len(l.flying), Waiting: l.waits, Pending: l.stored,
		Failing: l.health.failing, Overflow: l.overflow, State: l.state,
	}
}

// fifo is a queue of deliveries.
type fifo struct {
	items []*delivery
	head  int
}

func (q *fifo) len() int { return len(q.items) - q.head }

// first returns the next. There must be one.
func (q *fifo) first() *delivery { return q.items[q.head] }

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
