package egress

import (
	"sync"
	"time"
)

// idleTimeout is how long a connection is kept that nobody uses.
const idleTimeout = 90 * time.Second

// place is where a connection leads, and by which TLS.
type place struct {
	transport *transport
	scheme    string // http or https
	address   string // host:port
}

// pool holds idle connections. The one that was used last is used first, so
// that those that are too many grow old. There are never more than there were
// attempts at the same time.
type pool struct {
	mu     sync.Mutex
	idle   map[place][]*conn // each in the order of idleSince
	sweep  *time.Timer       // nil while nothing is idle
	closed bool
}

// take returns an idle connection that is still open, or nil.
func (p *pool) take(at place) *conn {
	for {
		c := p.pop(at)
		if c == nil || !c.stale() {
			return c
		}
		c.end(false)
	}
}

func (p *pool) pop(at place) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.idle[at]
	if len(all) == 0 {
		return nil
	}
	c := all[len(all)-1]
	all[len(all)-1] = nil
	p.idle[at] = all[:len(all)-1]
	return c
}

// put keeps c, on which nothing goes on, for later.
func (p *pool) put(c *conn) {
	c.idleSince = time.Now()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		c.end(true)
		return
	}
	defer p.mu.Unlock()
	if p.idle == nil {
		p.idle = make(map[place][]*conn)
	}
	p.idle[c.place] = append(p.idle[c.place], c)
	if p.sweep == nil {
		p.sweep = time.AfterFunc(idleTimeout, func() { endAll(p.old()) })
	}
}

// old returns the connections that nobody used for long, and comes back when
// the next ones are.
func (p *pool) old() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	next := time.Duration(0)
	all := p.remove(func(c *conn) bool {
		rest := idleTimeout - now.Sub(c.idleSince)
		if rest > 0 && (next == 0 || rest < next) {
			next = rest
		}
		return rest <= 0
	})
	switch {
	case p.closed:
	case next == 0:
		p.sweep = nil
	default:
		p.sweep.Reset(next)
	}
	return all
}

// drop closes the idle connections of a transport.
func (p *pool) drop(t *transport) {
	p.mu.Lock()
	all := p.remove(func(c *conn) bool { return c.place.transport == t })
	p.mu.Unlock()
	endAll(all)
}

// close closes all, and keeps none from now on.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	if p.sweep != nil {
		p.sweep.Stop()
	}
	all := p.remove(func(*conn) bool { return true })
	p.mu.Unlock()
	endAll(all)
}

// remove takes those connections out for which out is true, and forgets the
// places where none is left.
func (p *pool) remove(out func(*conn) bool) (removed []*conn) {
	for at, all := range p.idle {
		var kept []*conn
		for _, c := range all {
			if out(c) {
				removed = append(removed, c)
			} else {
				kept = append(kept, c)
			}
		}
		if p.idle[at] = kept; len(kept) == 0 {
			delete(p.idle, at)
		}
	}
	return removed
}

func endAll(all []*conn) {
	for _, c := range all {
		c.end(true)
	}
}
