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

// What is put waits for company, because a transaction costs much more than a
// record, until there is a group or the first of it waited long enough. That
// delays nothing but settling, and is what is made again after a crash at rest;
// the bytes are less than the smallest source.buffer, of which they are held.
// What an endpoint waits for waits less.
const (
	groupRecords = 500
	groupBytes   = 512 << 10
	linger       = 50 * time.Millisecond
	lingerAsked  = 5 * time.Millisecond
)

// maxUnrecorded bounds how many deliveries were made and are not in the ledger:
// beside those in flight, what a crash has made again. Two groups are in it: one
// that is being written, and one that comes together meanwhile. They fit one batch.
const maxUnrecorded = 2 * groupRecords

// queue holds the records that were not written yet. It is bounded by what the
// lanes hold: each delivery in memory has one record in it at the most, or two
// while a long request is in flight.
type queue struct {
	mu      sync.Mutex
	records []*Record
	bytes   int       // roughly what they add to a batch
	due     time.Time // when they are to be written at the latest; zero without records
	asked   bool      // an endpoint waits for one of them
	soon    bool      // the position should be flushed now
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
	q.bytes += r.size()
	wake := q.full()
	asked := !r.copied() // of what is or was pending, an endpoint's next requests depend
	if r.State == Delivered {
		l.unrecorded.add(1)
	}
	if len(q.records) == 1 || asked && !q.asked {
		wait := linger
		if asked {
			wait = lingerAsked
		}
		if due := time.Now().Add(wait); q.due.IsZero() || due.Before(q.due) {
			q.due = due
		}
		q.asked, wake = asked, true
	}
	q.mu.Unlock()
	if wake {
		q.signal()
	}
}

// full reports whether a group is waiting.
func (q *queue) full() bool { return len(q.records) >= groupRecords || q.bytes >= groupBytes }

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

// wait returns when there is something to do, at the latest after idleCheck.
func (q *queue) wait(ctx context.Context) {
	timer := time.NewTimer(idleCheck)
	defer timer.Stop()
	for {
		q.mu.Lock()
		now := q.closed || q.soon || q.full()
		if !q.due.IsZero() {
			timer.Reset(time.Until(q.due))
		}
		q.mu.Unlock()
		if now {
			return
		}
		select {
		case <-q.wake:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
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
	q.records, q.bytes = q.records[n:], q.bytes-bytes
	if len(q.records) == 0 {
		q.records, q.bytes, q.due, q.asked = nil, 0, time.Time{}, false
	}
	soon, q.soon = q.soon, false
	return batch, soon, q.closed && len(q.records) == 0
}
