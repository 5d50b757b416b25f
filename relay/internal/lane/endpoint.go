package lane

import (
	"math/rand/v2"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/signing"
	"github.com/posthorn/posthorn/transforms"
)

// Endpoint says where and how one lane sends.
type Endpoint struct {
	ID           uuid.UUID
	Name, Tenant string
	URL          *url.URL

	Method      string
	ContentType string
	UserAgent   string
	Headers     []Header
	Body        *transforms.Template
	Compact     bool // remove the body's insignificant white space
	Signatures  []Signature
	Timeout     time.Duration // one attempt
	Retry       Retry
	Ordered     bool // the events of one key one after the other
	Concurrency int
	RateLimit   float64 // requests a second; 0 for none
}

// Header is a header whose value is rendered for each delivery.
type Header struct {
	Name  string
	Value *transforms.Template
}

// Signature is one signature on every request.
type Signature struct {
	Signer *signing.Signer
	Keys   []Key // the current one first
}

// Key is a signing key and when it stops being used; never if zero.
type Key struct {
	Key     signing.Key
	Expires time.Time
}

// keys returns the keys that sign at now.
func (s *Signature) keys(now time.Time) []signing.Key {
	keys := make([]signing.Key, 0, len(s.Keys))
	for _, k := range s.Keys {
		if k.Expires.IsZero() || now.Before(k.Expires) {
			keys = append(keys, k.Key)
		}
	}
	return keys
}

// Retry is a retry schedule.
type Retry struct {
	Schedule []time.Duration // the waits after the first try; empty means one try
	Jitter   float64         // each wait is spread over ± this share of it
	MaxAge   time.Duration   // after the event's commit no retry begins; 0 for no bound
}

// Next returns the wait before the next try of a delivery that was tried
// attempts times (at least once), or false when its schedule is exhausted. age
// is the time since the event's commit. A receiver that asks for a longer wait
// by Retry-After gets it, up to the longest wait of the schedule. random is
// uniform over [0, 1).
func (r Retry) Next(attempts int, age, retryAfter time.Duration, random float64) (time.Duration, bool) {
	if attempts > len(r.Schedule) {
		return 0, false
	}
	base := r.Schedule[attempts-1]
	wait := base + time.Duration(r.Jitter*(2*random-1)*float64(base))
	longest := base
	for _, w := range r.Schedule {
		longest = max(longest, w)
	}
	wait = max(wait, min(retryAfter, longest))
	if r.MaxAge > 0 && age+wait > r.MaxAge {
		return 0, false
	}
	return wait, true
}

func (r Retry) next(attempts int, age, retryAfter time.Duration) (time.Duration, bool) {
	return r.Next(attempts, age, retryAfter, rand.Float64())
}

// parseRetryAfter returns the wait that a Retry-After header asks for: seconds
// or an HTTP date; 0 for anything else.
func parseRetryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	for _, layout := range []string{time.RFC1123, time.RFC850, time.ANSIC} {
		if at, err := time.Parse(layout, value); err == nil {
			return max(0, at.Sub(now))
		}
	}
	return 0
}
