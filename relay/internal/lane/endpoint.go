package lane

import (
	"cmp"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/transforms"
)

// Endpoint says where and how one lane sends.
type Endpoint struct {
	ID           uuid.UUID
	Name, Tenant string
	Label        string // what metrics call it; "" for Name
	Again        bool   // it was disabled before: that it is not any more is told
	Broken       string // why nothing can be sent to it: its events are parked; "" for nothing
	URL          *url.URL

	Method      string
	ContentType string
	UserAgent   string
	Headers     []Header
	Body        *transforms.Template
	Form        Form
	Signatures  []Signature    // each may cover the headers of those before it
	Target      *egress.Target // TLS and authentication
	Timeout     time.Duration  // one attempt
	Retry       Retry
	Pause       Pause
	Traced      bool // an event's tracestate is passed on beside its traceparent
	Ordered     bool // the events of one key one after the other
	Concurrency int
	RateLimit   float64 // requests a second; 0 for none

	shown shownURL // URL for templates
	plain plain
}

// label returns what metrics call the endpoint.
func (ep *Endpoint) label() string { return cmp.Or(ep.Label, ep.Name) }

// limiter returns what keeps to the endpoint's rate limit, nil without one.
func (ep *Endpoint) limiter() *rate.Limiter {
	if ep.RateLimit <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(ep.RateLimit), max(1, int(ep.RateLimit/10)))
}

// sets reports whether the endpoint has a header of this name, in any spelling.
func (ep *Endpoint) sets(name string) bool {
	return slices.ContainsFunc(ep.Headers, func(h Header) bool { return strings.EqualFold(h.Name, name) })
}

// Header is a header whose value is rendered for each delivery.
type Header struct {
	Name  string
	Value *transforms.Template
}

// Retry is a retry schedule.
type Retry struct {
	Schedule []time.Duration // the waits after the first try; empty means one try
	Jitter   float64         // each wait is spread over ± this share of it
	MaxAge   time.Duration   // after the event's commit no retry begins; 0 for no bound
	StopOn   []StatusRange   // answers after which there is no retry
}

// StatusRange is the HTTP status codes from First to Last, both included.
type StatusRange struct{ First, Last int }

// stops reports whether an answer of this status ends a delivery.
func (r Retry) stops(status int) bool {
	return slices.ContainsFunc(r.StopOn, func(s StatusRange) bool { return s.First <= status && status <= s.Last })
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
