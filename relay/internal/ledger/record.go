package ledger

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// State is what became of a delivery.
type State string

// The states of a delivery; the last three are final.
const (
	Pending   State = "pending"
	Sending   State = "sending"
	Delivered State = "delivered"
	Failed    State = "failed"
	Skipped   State = "skipped"
)

// Final reports whether nothing more happens to a delivery in this state
// unless an operator retries it.
func (s State) Final() bool { return s != Pending && s != Sending }

// Request is what was rendered at a delivery's first attempt and is sent at
// every one: without address, authentication, timestamp and signatures.
type Request struct {
	Method  string
	Headers [][2]string // in the order in which they are sent
	Body    []byte      // nil: the event's payload as it is
}

// Attempt is one try of a delivery.
type Attempt struct {
	Number    int // counting from 1
	StartedAt time.Time
	Outcome   string // delivered, rejected (an answer other than 2xx), or failed (no answer)
	Status    int    // HTTP status; 0 without an answer
	Error     string // one line; "" for a success
	Response  []byte // the first bytes of the answer's body

	DNS, Connect, TLS, FirstByte, Total time.Duration // 0 for what did not happen
}

// Record is the news of one delivery. Exactly one record settles a delivery
// that came from the stream; later ones tell how it went on.
type Record struct {
	ID       uuid.UUID
	Endpoint uuid.UUID
	Event    *event.Event
	State    State
	Reason   string        // why it is pending, for people
	Attempts int           // attempts made so far
	Wait     time.Duration // until it is due, for Pending
	Request  *Request      // nil when it was not rendered yet
	Attempt  *Attempt      // the attempt that this record tells of, if one is to be kept
	Stored   bool          // it stands in pending already
	Settles  bool          // it is the first news of a delivery that came from the stream
	KeyHash  *int64        // by which its endpoint orders it; nil when it does not
	Status   int
	Error    string

	// Committed is called, if set, on the writer's goroutine once the record
	// stands in the ledger.
	Committed func()
}

// size returns roughly how many bytes the record adds to a batch.
func (r *Record) size() int {
	n := 512 + len(r.Event.Payload)
	if r.Request != nil {
		n += len(r.Request.Body)
	}
	return n
}

// headersJSON returns the request's headers as a JSON array of pairs.
func (q *Request) headersJSON() *string {
	if q == nil {
		return nil
	}
	b, err := json.Marshal(q.Headers)
	if err != nil { // strings always marshal
		return nil
	}
	s := string(b)
	return &s
}

// clean makes text fit for a text column: valid UTF-8, no NUL, bounded.
func clean(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
		for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
		if r, _ := utf8.DecodeLastRuneInString(s); r == utf8.RuneError && len(s) > 0 {
			s = s[:len(s)-1]
		}
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// orNull returns nil for the empty string, which stands for "none".
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// orNullInt returns nil for 0.
func orNullInt(n int) *int32 {
	if n == 0 {
		return nil
	}
	v := int32(n)
	return &v
}
