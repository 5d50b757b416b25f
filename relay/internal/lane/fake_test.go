package lane

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// fakeLedger is a ledger in memory whose commits and answers take their time:
// a query sees what was committed when it began, and answers later.
type fakeLedger struct {
	mu      sync.Mutex
	queue   []*ledger.Record
	news    chan struct{} // something is in queue
	pending map[uuid.UUID]*row
	final   map[uuid.UUID]ledger.State
	puts    int // records of deliveries that were not final
	random  *rand.Rand
	settled func(*ledger.Record)
	room    chan struct{} // nil while there is room

	change  ledger.Change // the newest of the endpoint
	reasons []string      // of every Hold
	health  ledger.Health // the newest
	// gate, if set, is called before a query answers what it read and before
	// Hold and SetHealth write, and may take its time or refuse.
	gate func(ctx context.Context, call string) error
}

type row struct {
	ledger.Record
	due     time.Time
	blocked bool // not due before it is the first of its key
}

func newFakeLedger(seed uint64) *fakeLedger {
	return &fakeLedger{news: make(chan struct{}, 1), change: ledger.Change{State: ledger.Enabled}, pending: map[uuid.UUID]*row{}, final: map[uuid.UUID]ledger.State{}, random: rand.New(rand.NewPCG(seed, 1))}
}

func (f *fakeLedger) pass(ctx context.Context, call string) error {
	f.mu.Lock()
	gate := f.gate
	f.mu.Unlock()
	if gate == nil {
		return nil
	}
	return gate(ctx, call)
}

// guard sets the gate.
func (f *fakeLedger) guard(gate func(ctx context.Context, call string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gate = gate
}

// linger returns after d, or when ctx ends.
func linger(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

func (f *fakeLedger) Put(r *ledger.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, r)
	select {
	case f.news <- struct{}{}:
	default:
	}
}

func (f *fakeLedger) Room() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.room
}

// behind says that there is no room until catchUp.
func (f *fakeLedger) behind() (catchUp func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	room := make(chan struct{})
	f.room = room
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.room = nil
		close(room)
	}
}

// run commits what was put, in order, in batches of any size.
func (f *fakeLedger) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.news:
		}
		f.rest(ctx)
		f.mu.Lock()
		n := 0
		if len(f.queue) > 0 {
			n = 1 + f.random.IntN(len(f.queue))
		}
		batch := f.queue[:n]
		if f.queue = slices.Clone(f.queue[n:]); len(f.queue) > 0 {
			select {
			case f.news <- struct{}{}:
			default:
			}
		}
		for _, r := range batch {
			f.commit(r)
		}
		f.mu.Unlock()
		f.rest(ctx)
		for _, r := range batch {
			if r.Committed != nil {
				r.Committed()
			}
		}
	}
}

// rest lets up to 20 ms pass.
func (f *fakeLedger) rest(ctx context.Context) {
	f.mu.Lock()
	d := time.Duration(f.random.IntN(20)) * time.Millisecond
	f.mu.Unlock()
	_ = linger(ctx, d)
}

func (f *fakeLedger) commit(r *ledger.Record) {
	if r.Settles && f.settled != nil {
		f.settled(r)
	}
	if r.State.Final() {
		f.final[r.ID] = r.State
		delete(f.pending, r.ID)
	} else {
		f.puts++
		f.pending[r.ID] = &row{Record: *r, due: time.Now().Add(r.Wait), blocked: r.KeyHash != nil && r.Attempts == 0}
	}
	if r.KeyHash != nil {
		if first := f.first(*r.KeyHash); first != nil {
			first.blocked = false
		}
	}
}

func (f *fakeLedger) first(key int64) *row {
	var first *row
	for _, r := range f.pending {
		if r.KeyHash != nil && *r.KeyHash == key && (first == nil || r.Event.Position.Compare(first.Event.Position) < 0) {
			first = r
		}
	}
	return first
}

func (f *fakeLedger) Claim(ctx context.Context, c ledger.Claim) (ledger.Page, error) {
	f.mu.Lock()
	page := f.page(c)
	f.mu.Unlock()
	f.rest(ctx)
	if err := f.pass(ctx, "claim"); err != nil {
		return page, err
	}
	return page, ctx.Err()
}

func (f *fakeLedger) page(c ledger.Claim) ledger.Page {
	page := ledger.Page{NextDue: -1}
	now := time.Now()
	var rows []*row
	for _, r := range f.pending {
		if r.State != ledger.Pending || slices.Contains(c.Exclude, r.ID) || c.Retries && r.Attempts == 0 || r.blocked || r.Request == nil && slices.Contains(c.Except, r.Event.Type) {
			continue
		}
		if wait := r.due.Sub(now); wait > 0 {
			if page.NextDue < 0 || wait < page.NextDue {
				page.NextDue = wait
			}
			continue
		}
		if c.Ordered && r.KeyHash != nil && f.first(*r.KeyHash) != r {
			continue
		}
		rows = append(rows, r)
	}
	byPosition := func(a, b *row) int { return a.Event.Position.Compare(b.Event.Position) }
	slices.SortFunc(rows, func(a, b *row) int { return cmp.Or(a.due.Compare(b.due), byPosition(a, b)) })
	if len(rows) > c.Rows {
		rows, page.More, page.NextDue = rows[:c.Rows], true, 0
	}
	for _, r := range rows {
		page.Deliveries = append(page.Deliveries, claimed(r))
	}
	if !c.Ordered || page.More {
		return page
	}
	for _, head := range rows { // the followers of each key, in order
		var behind []*row
		for _, r := range f.pending {
			if head.KeyHash != nil && r.KeyHash != nil && *r.KeyHash == *head.KeyHash && r != head {
				behind = append(behind, r)
			}
		}
		slices.SortFunc(behind, byPosition)
		for _, r := range behind {
			if r.State != ledger.Pending || !r.blocked && r.due.After(now) || slices.Contains(c.Exclude, r.ID) {
				break
			}
			page.Deliveries = append(page.Deliveries, claimed(r))
		}
	}
	return page
}

// claimed returns what a relay reads of a row: an event of its own.
func claimed(r *row) ledger.Claimed {
	e := &event.Event{
		Position: r.Event.Position, ID: r.Event.ID, Type: r.Event.Type, Tenant: r.Event.Tenant, Key: r.Event.Key, Payload: r.Event.Payload,
		Headers: r.Event.Headers, CreatedAt: r.Event.CreatedAt, CommittedAt: r.Event.CommittedAt, Invalid: r.Event.Invalid,
	}
	return ledger.Claimed{ID: r.ID, Event: e, Attempts: r.Attempts, Request: r.Request, KeyHash: r.KeyHash}
}

func (f *fakeLedger) BacklogOf(ctx context.Context, _ uuid.UUID) (ledger.Backlog, error) {
	f.mu.Lock()
	b := ledger.Backlog{Rows: int64(len(f.pending)), NextDue: 0}
	f.mu.Unlock()
	return b, f.pass(ctx, "backlog")
}

func (f *fakeLedger) BlockedKeys(ctx context.Context, _ uuid.UUID, limit int) (map[int64]event.Position, bool, error) {
	f.mu.Lock()
	keys := map[int64]event.Position{}
	for _, r := range f.pending {
		if r.KeyHash != nil {
			keys[*r.KeyHash] = f.first(*r.KeyHash).Event.Position
		}
	}
	f.mu.Unlock()
	f.rest(ctx)
	return keys, len(keys) > limit, nil
}

func (f *fakeLedger) StillBlocked(ctx context.Context, _ uuid.UUID, keys []int64) (map[int64]event.Position, error) {
	f.mu.Lock()
	blocked := map[int64]event.Position{}
	for _, key := range keys {
		if first := f.first(key); first != nil {
			blocked[key] = first.Event.Position
		}
	}
	f.mu.Unlock()
	f.rest(ctx)
	return blocked, nil
}

func (f *fakeLedger) Changed(ctx context.Context, _ time.Time) (map[uuid.UUID]ledger.Change, error) {
	f.mu.Lock()
	change := f.change
	f.mu.Unlock()
	return map[uuid.UUID]ledger.Change{event.EndpointID("e"): change}, f.pass(ctx, "changed")
}

func (f *fakeLedger) Hold(ctx context.Context, _ uuid.UUID, state ledger.EndpointState, reason string) error {
	if err := f.pass(ctx, "hold"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change = ledger.Change{At: time.Now(), State: state, Reason: reason}
	f.reasons = append(f.reasons, reason)
	return nil
}

// set does what an operator does: pause or resume.
func (f *fakeLedger) set(state ledger.EndpointState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change = ledger.Change{At: time.Now(), State: state}
}

func (f *fakeLedger) held() (ledger.EndpointState, []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.change.State, slices.Clone(f.reasons)
}

func (f *fakeLedger) SetHealth(ctx context.Context, _ uuid.UUID, h ledger.Health) error {
	if err := f.pass(ctx, "health"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.health = h
	return nil
}

// retryAll does what an operator does: makes what is pending due now.
func (f *fakeLedger) retryAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.pending {
		r.due = time.Now()
	}
	f.change.At = time.Now()
}

// waiting returns how many are not final.
func (f *fakeLedger) waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.pending)
}

func (f *fakeLedger) finished() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.final)
}

// notPermitted is a fakeSender's answer for a slot that is not ours.
const notPermitted = -1

// fakeSender answers by a function, after a while: 0 stands for no answer.
type fakeSender struct {
	answer func(q *egress.Request) (status int, after time.Duration)
}

func (s *fakeSender) Send(ctx context.Context, q *egress.Request) egress.Response {
	status, after := s.answer(q)
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return egress.Response{Err: ctx.Err()}
	}
	if status == notPermitted {
		return egress.Response{Err: egress.ErrNotPermitted}
	}
	if status == 0 {
		return egress.Response{Err: errors.New("refused")}
	}
	return egress.Response{Status: status, Excerpt: []byte(http.StatusText(status))}
}

// noMeter counts nothing.
type noMeter struct{}

func (noMeter) Attempts(string, string) func()     { return func() {} }
func (noMeter) Finals(string, ledger.State) func() { return func() {} }
func (noMeter) Forget(string)                      {}
func (noMeter) Delivered(time.Duration)            {}
