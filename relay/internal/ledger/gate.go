package ledger

import (
	"sync"
	"sync/atomic"
)

// Room returns nil while there is room for what comes of one more request.
// Else the ledger is behind, and what it returns is closed once it is not.
func (l *Ledger) Room() <-chan struct{} { return l.unrecorded.closed() }

// gate counts, and is open while the count is below maxUnrecorded.
type gate struct {
	n      atomic.Int64
	mu     sync.Mutex
	opened chan struct{} // closed when the gate opens; nil when nobody waits
}

func (g *gate) open() bool { return g.n.Load() < maxUnrecorded }

func (g *gate) add(n int) {
	g.n.Add(int64(n))
	if n >= 0 || !g.open() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// closed returns nil while the gate is open, else what is closed when it opens.
func (g *gate) closed() <-chan struct{} {
	if g.open() {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open() { // since then: who opened it may not have seen that somebody waits
		return nil
	}
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
	return g.opened
}
