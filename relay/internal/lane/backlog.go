package lane

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// The bounds of one page of claimed deliveries, and of the keys that a lane
// remembers as blocked.
const (
	pageRows       = 500
	pageBytes      = 1 << 20
	maxBlockedKeys = 1 << 16
	maxRaw         = 4 * pageRows // claimed, and waiting to be transformed
)

// backlog is what a lane knows of its deliveries in the ledger.
type backlog struct {
	stored  int64     // rows in pending, with those that are being written
	moves   int64     // records that changed stored or are about to
	moving  int64     // those that are not committed
	claimAt time.Time // when to claim next; zero when nothing will be due

	// blocked are the keys that have something pending, each with the lowest
	// position that is. An event of such a key goes behind it.
	blocked    map[int64]event.Position
	allBlocked bool // more than can be remembered: everything parks
	// writing are the positions of each key that were given to the ledger as
	// not final and are not committed there: what a query says of the key may
	// lack them.
	writing map[int64][]event.Position
	freed   map[int64]bool // keys to check: something of them became final
	maxKeys int            // how many blocked keys are remembered

	consulting bool      // the ledger is being asked
	news       []func()  // commits that came meanwhile; the answer may lack them
	askAgain   time.Time // the ledger did not answer: not to be asked before
}

func newBacklog(b ledger.Backlog, now time.Time) backlog {
	k := backlog{stored: b.Rows, blocked: map[int64]event.Position{}, writing: map[int64][]event.Position{}, freed: map[int64]bool{}, maxKeys: maxBlockedKeys}
	if b.Rows > 0 && b.NextDue >= 0 {
		k.claimAt = now.Add(b.NextDue)
	}
	return k
}

// loadKeys reads the blocked keys. Call it before the lane is used.
func (l *lane) loadKeys(ctx context.Context) error {
	keys, more, err := l.set.opts.Store.BlockedKeys(ctx, l.ep().ID, l.maxKeys)
	if err != nil {
		return err
	}
	l.blocked, l.allBlocked = keys, more
	if more {
		l.blocked = map[int64]event.Position{}
	}
	return nil
}

// isBehind reports whether an event of this key, at this position, has to wait
// for one that is in the ledger.
func (b *backlog) isBehind(key int64, at event.Position) bool {
	if b.allBlocked {
		return true
	}
	first, ok := b.blocked[key]
	return ok && at.Compare(first) > 0
}

// block remembers that the key has something pending at this position.
func (b *backlog) block(key int64, at event.Position) {
	b.writing[key] = append(b.writing[key], at)
	if b.allBlocked {
		return
	}
	b.lower(key, at)
	if len(b.blocked) > b.maxKeys {
		b.allBlocked, b.blocked = true, map[int64]event.Position{}
	}
}

func (b *backlog) lower(key int64, at event.Position) {
	if first, ok := b.blocked[key]; !ok || at.Compare(first) < 0 {
		b.blocked[key] = at
	}
}

// remember takes the blocked keys, which were too many before, from the ledger.
func (b *backlog) remember(keys map[int64]event.Position) {
	b.blocked, b.allBlocked = keys, false
	for key, list := range b.writing {
		for _, at := range list {
			b.lower(key, at)
		}
	}
}

// written forgets a position that block added, now that it is committed.
func (b *backlog) written(key int64, at event.Position) {
	list := b.writing[key]
	for i, p := range list {
		if p == at {
			list = append(list[:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(b.writing, key)
		return
	}
	b.writing[key] = list
}

// claimSoon makes sure that the ledger is asked at at or earlier.
func (b *backlog) claimSoon(at time.Time) {
	if b.claimAt.IsZero() || at.Before(b.claimAt) {
		b.claimAt = at
	}
}

// park records a delivery as pending and due at once.
func (l *lane) park(d *delivery, reason string) {
	l.put(d, outcome{state: ledger.Pending, reason: reason})
}

// put gives the ledger the news of a delivery.
func (l *lane) put(d *delivery, o outcome) {
	r := &ledger.Record{
		ID: d.id, Endpoint: l.ep().ID, Event: d.event, State: o.state, Reason: o.reason,
		Attempts: d.attempts, Wait: o.wait, Request: d.request.Load(), Attempt: o.attempt,
		Stored: d.stored, Settles: d.fresh, KeyHash: d.keyHash, Status: o.status, Error: o.err,
	}
	settles, final, stored := d.fresh, o.state.Final(), d.stored
	var rendered int64
	if o.state != ledger.Sending { // else it is still needed
		rendered, d.rendered = d.rendered, 0
	}
	if !final {
		if !stored {
			l.stored++
		}
		d.stored, d.sending = true, o.state == ledger.Sending
		if d.keyHash != nil {
			l.block(*d.keyHash, d.event.Position)
		}
	}
	d.fresh = false
	release := func() {
		if settles {
			l.set.release(d.event)
		}
		if rendered > 0 {
			l.set.buffer.release(rendered)
		}
	}
	if final && !stored { // the way of nearly all: nothing to remember
		r.Committed = release
		l.set.opts.Store.Put(r)
		return
	}
	l.moves++
	l.moving++
	r.Committed = func() {
		release()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.learn(func() { l.committed(d, o) })
	}
	l.set.opts.Store.Put(r)
}

// learn acts on a commit, but not while the ledger is being asked: the answer
// may be of before the commit.
func (l *lane) learn(news func()) {
	if l.consulting {
		l.news = append(l.news, news)
		return
	}
	news()
}

// committed acts on a record of a delivery that is or was in pending, which is
// committed now.
func (l *lane) committed(d *delivery, o outcome) {
	l.moving--
	if o.state.Final() {
		l.stored = max(0, l.stored-1)
		l.letGo(d)
		if d.keyHash != nil {
			l.freed[*d.keyHash] = true
		}
		return
	}
	if d.keyHash != nil {
		l.written(*d.keyHash, d.event.Position)
	}
	if o.state != ledger.Pending {
		return
	}
	l.letGo(d)
	if !l.health.failing || d.attempts > 0 { // while failing, first attempts wait for the probe
		l.claimSoon(time.Now().Add(o.wait))
	}
}

// letGo forgets that d was claimed. It may have been claimed anew, as another,
// between its parking's commit and the news of it: that one stays held.
func (l *lane) letGo(d *delivery) {
	if l.held[d.id] != d {
		return
	}
	delete(l.held, d.id)
	l.set.claimed.Add(-d.bytes())
	if len(l.held) == pageRows/2 {
		l.set.poke(l) // time for the next page
	}
}

// refresh counts the backlog anew and takes the endpoint's state, after
// somebody else changed them. It returns false when it has to be tried again,
// also because the state may be older than ours: holds is Set.holds from
// before it was read.
func (l *lane) refresh(ctx context.Context, now ledger.Change, holds int64) bool {
	l.mu.Lock()
	moves, still := l.moves, l.moving == 0
	l.mu.Unlock()
	b, err := l.set.opts.Store.BacklogOf(ctx, l.ep().ID)
	if err != nil {
		l.set.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "backlog not read", slog.String("endpoint", l.ep().Name), slog.Any("err", err))
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if still && moves == l.moves { // else our own count is better: it lacks only what others added
		l.stored = b.Rows
	}
	if b.NextDue >= 0 {
		l.claimSoon(time.Now().Add(b.NextDue))
	}
	if l.unwritten || l.heldAt > holds {
		return false
	}
	if now.State != l.state && now.State != ledger.Removed {
		l.enter(ctx, now.State, now.Reason)
	}
	return true
}

// claim returns what to ask the ledger for now, if anything, and whether that
// is the one try at a failing endpoint.
func (l *lane) claim(now time.Time) (c ledger.Claim, want, probe bool) {
	c = ledger.Claim{Endpoint: l.ep().ID, Ordered: l.ep().Ordered, Rows: pageRows, Bytes: pageBytes}
	if !l.open() || l.ep().Ordered && !l.set.passed.Load() {
		return c, false, false
	}
	raw := 0
	slow := map[string]bool{} // types of what waits to be transformed
	for id, d := range l.held {
		c.Exclude = append(c.Exclude, id)
		if d.raw {
			raw++
			slow[d.event.Type] = true
		}
	}
	probe = l.health.failing && !l.health.probing && !now.Before(l.health.probeAt)
	// A slow transform keeps its page here. What is of other types, and was
	// parked behind it, need not wait for it.
	if raw > pageRows/4 || probe {
		c.Except = slices.Collect(maps.Keys(slow))
	}
	if probe {
		l.health.probing = true
		c.Rows = 1
		return c, true, true
	}
	c.Retries = l.health.failing
	sendable := len(l.held)
	if len(c.Except) > 0 {
		sendable -= raw
	}
	if l.claimAt.IsZero() || now.Before(l.claimAt) || sendable > pageRows/2 || raw > maxRaw {
		return c, false, false
	}
	if l.set.claimed.Load() > l.set.opts.Buffer { // others have much in memory: only what can be sent at once
		c.Rows, c.Bytes = l.ep().Concurrency, 1
		if len(c.Except) > 0 { // it may be what waits for transforms here, and that for long
			c.Rows, c.Bytes = pageRows/2, pageBytes/4
		}
		return c, sendable < l.ep().Concurrency, false
	}
	return c, true, false
}

// consult asks the ledger what of the lane's backlog can be sent.
func (l *lane) consult(ctx context.Context, c ledger.Claim, want, probe bool, freed []int64) {
	l.set.queries <- struct{}{}
	defer func() { <-l.set.queries }()
	var (
		page    ledger.Page
		blocked map[int64]event.Position
		err     error
	)
	if len(freed) > 0 {
		blocked, err = l.set.opts.Store.StillBlocked(ctx, l.ep().ID, freed)
	}
	if err == nil && want {
		page, err = l.set.opts.Store.Claim(ctx, c)
	}
	reload := l.reloads(page, want && err == nil)
	var keys map[int64]event.Position
	more := true
	if err == nil && reload {
		keys, more, err = l.set.opts.Store.BlockedKeys(ctx, l.ep().ID, l.maxKeys)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			l.set.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "backlog not read", slog.String("endpoint", l.ep().Name), slog.Any("err", err))
		}
		l.health.probing = false
		l.askAgain = time.Now().Add(time.Second)
		if want {
			l.claimSoon(l.askAgain)
		}
		for _, key := range freed {
			l.freed[key] = true
		}
	} else {
		l.unblock(freed, blocked)
		if !more {
			l.remember(keys)
		}
		if want {
			l.take(ctx, c, probe, page)
		}
	}
	l.consulting = false
	news := l.news
	l.news = nil
	for _, f := range news {
		f()
	}
}

// reloads reports whether the blocked keys, which were too many to remember,
// should be counted again.
func (l *lane) reloads(page ledger.Page, claimed bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.allBlocked && claimed && !page.More
}

// unblock frees the keys of which the ledger has nothing pending.
func (l *lane) unblock(checked []int64, blocked map[int64]event.Position) {
	for _, key := range checked {
		first, still := blocked[key]
		for _, at := range l.writing[key] {
			if !still || at.Compare(first) < 0 {
				first, still = at, true
			}
		}
		if still {
			l.claimSoon(time.Now()) // the next of the key has become due
		}
		switch {
		case l.allBlocked:
		case still:
			l.blocked[key] = first
		default:
			delete(l.blocked, key)
		}
	}
}

// take puts a claimed page into memory.
func (l *lane) take(ctx context.Context, c ledger.Claim, probe bool, page ledger.Page) {
	switch {
	case !l.open(): // since it was asked for; the ledger keeps it
		return
	case probe && len(page.Deliveries) == 0:
		l.health.probing = false
		l.health.probeAt = time.Now().Add(l.health.wait)
	case probe:
	case page.NextDue >= 0:
		l.claimSoon(time.Now().Add(page.NextDue))
	}
	if len(c.Except) > 0 { // they are not asked for before others of them were transformed
		l.claimSoon(time.Now().Add(time.Second))
	}
	// Of an ordered backlog a page shows only the heads.
	if !probe && !c.Retries && !page.More && (!l.ep().Ordered || l.stored < pageRows) {
		l.overflow = false
	}
	for i := range page.Deliveries {
		p := &page.Deliveries[i]
		if l.held[p.ID] != nil {
			continue
		}
		d := &delivery{id: p.ID, event: p.Event, attempts: p.Attempts, stored: true, probe: probe, keyHash: p.KeyHash}
		d.request.Store(p.Request)
		if d.keyHash != nil && l.overtakes(d) {
			if probe {
				l.health.probing = false
			}
			l.claimSoon(time.Now().Add(monitorEvery))
			continue
		}
		l.held[d.id] = d
		l.set.claimed.Add(d.bytes())
		l.admit(ctx, d)
		l.hire(ctx)
	}
}

// overtakes reports whether something of d's key that the ledger's answer
// lacks comes before it.
func (l *lane) overtakes(d *delivery) bool {
	for _, at := range l.writing[*d.keyHash] {
		if at.Compare(d.event.Position) < 0 {
			return true
		}
	}
	return false
}
