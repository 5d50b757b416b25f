package ledger

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
)

// The bounds of one batch: one transaction.
const (
	batchRecords = 1000
	batchBytes   = 8 << 20
)

// linger is how long the writer waits for company when few records are
// waiting: it delays nothing but their settling.
const linger = 5 * time.Millisecond

// queue holds the records that were not written yet. It is bounded by what the
// lanes hold: each delivery in memory has one record in it at the most, or two
// while a long request is in flight.
type queue struct {
	mu      sync.Mutex
	records []*Record
	soon    bool // the position should be flushed now
	closed  bool
	wake    chan struct{} // holds one token
}

func newQueue() queue { return queue{wake: make(chan struct{}, 1)} }

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Put hands a record to the writer. It never blocks.
func (l *Ledger) Put(r *Record) {
	q := &l.queue
	q.mu.Lock()
	q.records = append(q.records, r)
	first := len(q.records) == 1
	q.mu.Unlock()
	if first {
		q.signal()
	}
}

// FlushSoon asks the writer to bring the flushed position up to date now.
func (l *Ledger) FlushSoon() {
	l.queue.mu.Lock()
	l.queue.soon = true
	l.queue.mu.Unlock()
	l.queue.signal()
}

// Finish makes Run return once everything that was put is written and flushed.
func (l *Ledger) Finish() {
	l.queue.mu.Lock()
	l.queue.closed = true
	l.queue.mu.Unlock()
	l.queue.signal()
}

// Backlog returns how many records wait to be written.
func (l *Ledger) Backlog() int {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return len(l.queue.records)
}

// wait returns when there is something to do, at the latest after idle.
func (q *queue) wait(ctx context.Context, idle time.Duration) {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	select {
	case <-q.wake:
	case <-timer.C:
	case <-ctx.Done():
		return
	}
	q.mu.Lock()
	few := !q.closed && !q.soon && len(q.records) > 0 && len(q.records) < batchRecords/10
	q.mu.Unlock()
	if few {
		timer.Reset(linger)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// take removes the next batch. A batch holds no two records of one delivery
// that is not final in the first of them.
func (q *queue) take() (batch []*Record, soon, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, 0
	var open map[uuid.UUID]bool
	for n < len(q.records) && n < batchRecords && bytes < batchBytes {
		r := q.records[n]
		if open[r.ID] {
			break
		}
		if !r.State.Final() {
			if open == nil {
				open = make(map[uuid.UUID]bool)
			}
			open[r.ID] = true
		}
		bytes += r.size()
		n++
	}
	batch = q.records[:n:n]
	q.records = q.records[n:]
	if len(q.records) == 0 {
		q.records = nil
	}
	soon, q.soon = q.soon, false
	return batch, soon, q.closed && len(q.records) == 0
}
