package lane

import "sync/atomic"

// buffer counts the bytes that are read and not yet settled. Only the tail
// admits; anyone releases.
type buffer struct {
	limit int64
	used  atomic.Int64
	full  atomic.Bool // the tail was refused and waits
	room  chan struct{}
}

func newBuffer(limit int64) *buffer { return &buffer{limit: limit, room: make(chan struct{}, 1)} }

// admit takes n bytes unless that would exceed the limit. Something larger
// than the whole buffer is admitted when nothing else is in it.
func (b *buffer) admit(n int64) bool {
	if b.fits(n) {
		b.used.Add(n)
		return true
	}
	b.full.Store(true)
	if !b.fits(n) { // nobody made room between the look and the mark
		return false
	}
	b.full.Store(false)
	b.used.Add(n)
	return true
}

func (b *buffer) fits(n int64) bool {
	used := b.used.Load()
	return used <= 0 || used+n <= b.limit
}

// tight reports whether the tail waits for room, or does so every now and then:
// the mark alone comes and goes with each delivery that is settled.
func (b *buffer) tight() bool {
	return b.full.Load() || b.used.Load() > b.limit-b.limit/10
}

// add takes n bytes in any case: of something that is in the buffer and grows.
func (b *buffer) add(n int64) { b.used.Add(n) }

// release gives n bytes back and tells the tail.
func (b *buffer) release(n int64) {
	b.used.Add(-n)
	if b.full.Swap(false) {
		select {
		case b.room <- struct{}{}:
		default:
		}
	}
}
