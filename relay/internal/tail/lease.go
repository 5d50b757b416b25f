package tail

import (
	"sync/atomic"
	"time"
)

// SenderTimeout is the wal_sender_timeout of the stream's connection: after
// this long without a word from us the server lets another relay have the slot.
const SenderTimeout = 8 * time.Second

// Lease says whether the slot is ours. It is valid only while status updates
// go out, so that a process that was stopped or starved for longer than the
// server waits starts no request before it has asked for the slot again.
// It is safe for concurrent use.
type Lease struct {
	base time.Time
	sent atomic.Int64 // since base, of the last status update; 0 when the slot is not ours
}

// NewLease returns a lease that is not valid yet.
func NewLease() *Lease { return &Lease{base: time.Now()} }

// margin is how much earlier than the server the lease gives up.
const margin = SenderTimeout / 4

// Valid reports whether requests may be started.
func (l *Lease) Valid() bool {
	sent := l.sent.Load()
	return sent != 0 && time.Since(l.base)-time.Duration(sent) < SenderTimeout-margin
}

func (l *Lease) renew()  { l.sent.Store(int64(time.Since(l.base)) | 1) }
func (l *Lease) revoke() { l.sent.Store(0) }
