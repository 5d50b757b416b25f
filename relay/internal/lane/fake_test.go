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
	pending map[uuid.UUID]*row
	final   map[uuid.UUID]ledger.State
	puts    int // records of deliveries that were not final
	random  *rand.Rand
	settled func(*ledger.Record)
}

type row struct {
	ledger.Record
	due     time.Time
	blocked bool // not due before it is the first of its key
}

func newFakeLedger(seed uint64) *fakeLedger {
	return &fakeLedger{pending: map[uuid.UUID]*row{}, final: map[uuid.UUID]ledger.State{}, random: rand.New(rand.NewPCG(seed, 1))}
}

func (f *fakeLedger) Put(r *ledger.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, r)
}

// run commits what was put, in order, in batches of any size.
func (f *fakeLedger) run(ctx context.Context) {
	for ctx.Err() == nil {
		f.rest(ctx)
		f.mu.Lock()
		n := 0
		if len(f.queue) > 0 {
			n = 1 + f.random.IntN(len(f.queue))
		}
		batch := f.queue[:n]
		f.queue = slices.Clone(f.queue[n:])
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
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
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
	return page, ctx.Err()
}

func (f *fakeLedger) page(c ledger.Claim) ledger.Page {
	page := ledger.Page{NextDue: -1}
	now := time.Now()
	var rows []*row
	for _, r := range f.pending {
		if r.State != ledger.Pending || slices.Contains(c.Exclude, r.ID) || c.Retries && r.Attempts == 0 || r.blocked {
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

func claimed(r *row) ledger.Claimed {
	return ledger.Claimed{ID: r.ID, Event: r.Event, Attempts: r.Attempts, Request: r.Request, KeyHash: r.KeyHash}
}

func (f *fakeLedger) BacklogOf(context.Context, uuid.UUID) (ledger.Backlog, error) {
	return ledger.Backlog{}, errors.New("not asked for")
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

func (f *fakeLedger) Changed(context.Context, time.Time) (map[uuid.UUID]time.Time, error) {
	return nil, nil
}

func (f *fakeLedger) SetFailing(context.Context, uuid.UUID, bool) error { return nil }

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

func (noMeter) Attempted(string, string)      {}
func (noMeter) Delivered(time.Duration)       {}
func (noMeter) Finished(string, ledger.State) {}
