package tail

import (
	"sync"
	"time"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// Tracker knows which transactions of the stream are settled and yields the
// newest position before which everything is. It is safe for concurrent use.
type Tracker struct {
	mu    sync.Mutex
	txs   []*event.Tx // in commit order; the first is the oldest that is not settled
	flush event.LSN
}

// NewTracker returns a tracker for a stream that starts at start.
func NewTracker(start event.LSN) *Tracker { return &Tracker{flush: start} }

// Begin adds the transaction whose commit record stands at commit.
func (t *Tracker) Begin(commit event.LSN, at time.Time) *event.Tx {
	t.mu.Lock()
	defer t.mu.Unlock()
	tx := &event.Tx{Commit: commit, Time: at}
	t.txs = append(t.txs, tx)
	return tx
}

// Add counts n more unsettled deliveries of tx, beside the one that each event
// counts for.
func (t *Tracker) Add(tx *event.Tx, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tx.Unsettled += n
}

// Settle counts n deliveries of tx as settled.
func (t *Tracker) Settle(tx *event.Tx, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tx.Unsettled -= n
	t.advance()
}

// Commit closes tx: it had so many events, and its end stands at end. Some may
// be settled by now; nothing is passed before tx is closed.
func (t *Tracker) Commit(tx *event.Tx, end event.LSN, events int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tx.Closed, tx.End = true, end
	tx.Unsettled += events
	t.advance()
}

// Idle adopts the server's WAL end, as a keepalive carries it, when nothing is
// unsettled and no transaction is open: there is nothing for us before it.
func (t *Tracker) Idle(walEnd event.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.txs) == 0 && walEnd > t.flush {
		t.flush = walEnd
	}
}

// Flushable returns the end of the longest settled prefix. It never goes back.
func (t *Tracker) Flushable() event.LSN {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flush
}

// Oldest returns the commit time of the oldest transaction that is not settled,
// zero when there is none.
func (t *Tracker) Oldest() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.txs) == 0 {
		return time.Time{}
	}
	return t.txs[0].Time
}

// advance drops the settled transactions at the front.
func (t *Tracker) advance() {
	n := 0
	for n < len(t.txs) && t.txs[n].Closed && t.txs[n].Unsettled == 0 {
		t.flush = max(t.flush, t.txs[n].End)
		t.txs[n] = nil
		n++
	}
	if t.txs = t.txs[n:]; len(t.txs) == 0 {
		t.txs = nil // let the array go: a burst must not be remembered for ever
	}
}
