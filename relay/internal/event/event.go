// Package event holds what one event is on its way from the replication
// stream to the ledger: where it stands in the stream, who it is, and what it
// says. It has no behaviour beyond identity and order, so that every stage can
// share it.
package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
)

// LSN is a position in Postgres' write-ahead log.
type LSN = pglogrepl.LSN

// Position says where an event stands in commit order: the LSN of its
// transaction's commit record, then its place among that transaction's events,
// counting from 0.
type Position struct {
	LSN   LSN
	Index int64
}

// Compare returns -1, 0 or +1 as p stands before, at or after q.
func (p Position) Compare(q Position) int {
	switch {
	case p.LSN < q.LSN, p.LSN == q.LSN && p.Index < q.Index:
		return -1
	case p == q:
		return 0
	}
	return 1
}

// String returns the position as LSN/index, as it is logged.
func (p Position) String() string { return fmt.Sprintf("%s+%d", p.LSN, p.Index) }

// Event is one row of the outbox (or one logical message) as it was committed.
// Nobody changes it after the tail made it, but for the lanes' three fields.
type Event struct {
	Position    Position
	ID          uuid.UUID
	Type        string
	Tenant      string // "" when the row has none
	Key         string // "" when the row has none: the event is unordered
	Payload     []byte // JSON text, exactly as the application wrote it
	Headers     []byte // a JSON object of strings, or nil
	CreatedAt   time.Time
	CommittedAt time.Time // commit time of its transaction, as the stream carries it
	Invalid     string    // why no delivery of this event can succeed, e.g. a payload that is not JSON; "" if none

	Tx *Tx // its transaction in the stream; nil for an event that came back from the ledger

	// Held counts the unsettled deliveries that keep the event in the buffer.
	Held atomic.Int32
	// Made is what the transforms made of the event; nil before, and when there
	// are none for it.
	Made atomic.Pointer[Made]
	// Grown is the bytes of Made that are charged beside Size.
	Grown atomic.Int64
}

// Made is what the transforms made of an event: what templates see of it, or
// why there is nothing to see.
type Made struct {
	Type    string
	Headers map[string]string // may be nil
	Payload []byte            // JSON text; the event's own bytes where no transform changed them
	Skipped string            // why the event is dropped; "" when it is not
	Err     error             // why it could not be transformed
	Retry   bool              // whether transforming it again may mend Err
}

// Sends reports whether there is something to send.
func (m *Made) Sends() bool { return m == nil || m.Err == nil && m.Skipped == "" }

// overhead is what an event and its deliveries cost in memory beside payload
// and headers. It is a round figure above what was measured, so that the
// buffer's bound is a bound on memory.
const overhead = 1024

// Size returns the bytes that the event is charged against source.buffer.
func (e *Event) Size() int64 { return int64(len(e.Payload)+len(e.Headers)) + overhead }

// KeyHash returns the hash that stands for the event's ordering key, and false
// for an event without a key. It is stable across processes and versions: the
// ledger stores it. Two keys of one hash are merely ordered together.
func (e *Event) KeyHash() (int64, bool) {
	if e.Key == "" {
		return 0, false
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(e.Key)) // a hash's Write never fails
	return int64(h.Sum64()), true
}

// Tx is one transaction of the stream. The tail's tracker owns its fields.
type Tx struct {
	Commit    LSN       // LSN of the commit record
	Time      time.Time // commit time
	End       LSN       // end LSN, known once the commit was read
	Unsettled int       // once it is closed: deliveries, and events not routed yet, that are not settled
	Closed    bool
}

// HeaderMap returns the event's headers, which may be nil. An error says that
// they are not what the outbox documents: a JSON object of strings.
func (e *Event) HeaderMap() (map[string]string, error) {
	if len(e.Headers) == 0 {
		return nil, nil
	}
	var m map[string]string
	if json.Unmarshal(e.Headers, &m) != nil {
		return nil, errors.New("the event's headers are not a JSON object of strings")
	}
	return m, nil
}
