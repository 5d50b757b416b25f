package lane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

func noKey(int) string { return "" }

// receiver answers by a status that the test sets, and notes when.
type receiver struct {
	mu     sync.Mutex
	status int
	start  time.Time
	at     []time.Duration // of each request, since start
	bodies []string
}

func newReceiver(status int) *receiver { return &receiver{status: status, start: time.Now()} }

func (r *receiver) answer(q *egress.Request) (int, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = append(r.at, time.Since(r.start))
	r.bodies = append(r.bodies, string(q.Body))
	return r.status, 0
}

func (r *receiver) set(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.at)
}

func (b *bench) state() ledger.EndpointState { return b.set.Statuses()[0].State }

// TestScheduleIsKeptThenTheEndpointIsPaused has the schedule that an
// endpoint's customers may be promised: six retries, then a pause.
func TestScheduleIsKeptThenTheEndpointIsPaused(t *testing.T) {
	t.Parallel() // a day and more of ticks take their time
	long := []time.Duration{30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}
	for onExhausted, schedule := range map[bool][]time.Duration{true: long, false: long[:2]} {
		t.Run(fmt.Sprint("pause ", onExhausted), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ep := testEndpoint(t, func(ep *Endpoint) { ep.Retry, ep.Pause = Retry{Schedule: schedule}, Pause{OnExhausted: onExhausted} })
				r := newReceiver(500)
				b := newBench(t, ep, 1, 1<<20, r.answer)
				b.offer(t.Context(), 1, noKey)
				eventually(t, 40*time.Hour, func() bool { return b.ledger.finished() == 1 })
				want := append([]time.Duration{0}, schedule...)
				var waits []time.Duration
				for i, at := range r.at {
					if i > 0 {
						at -= r.at[i-1]
					}
					waits = append(waits, at.Truncate(time.Second)) // a claim is asked for each 100 ms
				}
				if diff := cmp.Diff(want, waits); diff != "" {
					t.Errorf("waits (-want +got):\n%s", diff)
				}
				eventually(t, time.Minute, func() bool { return b.ledger.health.Failures == len(want) })
				state, reasons := b.ledger.held()
				if paused := state == ledger.Paused && len(reasons) == 1 && strings.Contains(reasons[0], "on_exhausted"); paused != onExhausted {
					t.Errorf("the endpoint is %s for %q", state, reasons)
				}
				b.stop()
			})
		})
	}
}

func TestPausedEndpointParksAndDrainsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1200 // more than one page
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Ordered, ep.Concurrency, ep.RateLimit = true, 4, 100 })
		r := newReceiver(200)
		b := newBench(t, ep, 1, 1<<20, r.answer)
		b.offer(t.Context(), 10, func(int) string { return "k" })
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 10 })
		b.ledger.set(ledger.Paused)
		eventually(t, 5*time.Second, func() bool { return b.state() == ledger.Paused })
		for i := range n {
			b.give(t.Context(), &event.Event{
				ID: uuid.New(), Type: "t", Key: "k", CommittedAt: time.Now(), Position: event.Position{LSN: event.LSN(1000 + i)}, Payload: fmt.Append(nil, i),
			})
		}
		eventually(t, time.Minute, func() bool { return b.set.Buffered() == 0 })
		if got := r.count(); got != 10 {
			t.Errorf("%d requests arrived, want none while paused", got-10)
		}
		b.ledger.set(ledger.Enabled)
		resumed := time.Now()
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == n+10 })
		if took := time.Since(resumed); took < (n-20)/100*time.Second {
			t.Errorf("%d deliveries were drained in %s, over a rate limit of 100 a second", n, took)
		}
		b.stop()
		for i, body := range r.bodies[10:] {
			if body != fmt.Sprint(i) {
				t.Fatalf("request %d after the pause carries event %s", i, body)
			}
		}
		if b.set.all()[0].overflow {
			t.Error("the lane still overflows after its backlog was drained")
		}
	})
}

func TestPauseRules(t *testing.T) {
	tests := []struct {
		name     string
		pause    Pause
		before   ledger.Standing
		requests int // that are made
		why      string
	}{
		{name: "after so many in a row", pause: Pause{ConsecutiveFailures: 8}, requests: 8, why: "consecutive_failures"},
		{name: "counting those of the relay before", pause: Pause{ConsecutiveFailures: 8}, before: ledger.Standing{Failures: 5}, requests: 3, why: "consecutive_failures"},
		{name: "when failing for a time", pause: Pause{FailingFor: time.Hour}, before: ledger.Standing{Failures: 1, FailingFor: 2 * time.Hour}, requests: 1, why: "failing_for"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ep := testEndpoint(t, func(ep *Endpoint) { ep.Pause, ep.Concurrency = tt.pause, 1 })
				r := newReceiver(503)
				b := newStandingBench(t, ep, map[uuid.UUID]ledger.Standing{ep.ID: tt.before}, 1, 1<<20, r.answer)
				b.offer(t.Context(), 20, noKey)
				eventually(t, 10*time.Minute, func() bool { state, _ := b.ledger.held(); return state == ledger.Paused })
				<-time.After(time.Hour)
				if _, reasons := b.ledger.held(); len(reasons) != 1 || !strings.Contains(reasons[0], tt.why) {
					t.Errorf("held for %q, want %s", reasons, tt.why)
				}
				if got := r.count(); got != tt.requests {
					t.Errorf("%d requests, want %d", got, tt.requests)
				}
				if used := b.set.Buffered(); used != 0 {
					t.Errorf("%d bytes hold the slot while paused", used)
				}
				r.set(200)
				b.ledger.set(ledger.Enabled)
				eventually(t, time.Hour, func() bool { return b.ledger.finished() == 20 })
				eventually(t, time.Minute, func() bool { return b.ledger.health.Failures == 0 })
				b.stop()
			})
		})
	}
}

func TestGoneDisables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Concurrency = 1 })
		r := newReceiver(http.StatusGone)
		b := newBench(t, ep, 1, 1<<20, r.answer)
		b.offer(t.Context(), 3, noKey)
		eventually(t, time.Minute, func() bool { state, _ := b.ledger.held(); return state == ledger.Disabled })
		eventually(t, time.Minute, func() bool { return b.set.Buffered() == 0 })
		if !b.set.Disabled(0) || r.count() != 1 || b.ledger.finished() != 1 {
			t.Errorf("disabled %t after %d requests, %d final", b.set.Disabled(0), r.count(), b.ledger.finished())
		}
		r.set(200)
		b.ledger.set(ledger.Enabled)
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 3 && !b.set.Disabled(0) })
		b.stop()
	})
}

func TestStatusEndsADeliveryAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) {
			ep.Retry.StopOn, ep.Pause = []StatusRange{{400, 404}}, Pause{OnExhausted: true}
		})
		r := newReceiver(404)
		b := newBench(t, ep, 1, 1<<20, r.answer)
		b.offer(t.Context(), 1, noKey)
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 1 })
		if r.count() != 1 || b.state() != ledger.Enabled {
			t.Errorf("%d requests, the endpoint is %s", r.count(), b.state())
		}
		r.set(405)
		b.set.Refuse(t.Context(), 0, uuid.New(), shared(b, &event.Event{ID: uuid.New(), Payload: []byte("{}")}), "filter: broken")
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 2 })
		if r.count() != 1 {
			t.Error("a refused delivery was sent")
		}
		b.stop()
	})
}

func shared(b *bench, e *event.Event) *event.Event {
	b.set.Admit(e)
	b.set.Share(e, 1)
	return e
}

// TestHoldOutlivesWhatWasReadBefore pauses while an older reading of the
// endpoint's state is under way, and while the ledger does not take the pause.
func TestHoldOutlivesWhatWasReadBefore(t *testing.T) {
	for _, slow := range []time.Duration{0, 300 * time.Millisecond, 900 * time.Millisecond, 3 * time.Second} {
		t.Run(slow.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ep := testEndpoint(t, func(ep *Endpoint) { ep.Retry, ep.Pause = Retry{}, Pause{OnExhausted: true} })
				r := newReceiver(500)
				b := newBench(t, ep, 1, 1<<20, r.answer)
				b.ledger.guard(func(ctx context.Context, call string) error {
					switch {
					case call == "changed":
						return linger(ctx, slow)
					case call == "hold" && time.Since(r.start) < 5*time.Second:
						return errors.New("no answer")
					}
					return nil
				})
				<-time.After(1200 * time.Millisecond)
				b.ledger.set(ledger.Enabled) // touched by somebody, at any rate
				b.offer(t.Context(), 1, noKey)
				eventually(t, time.Minute, func() bool { return b.ledger.finished() == 1 })
				var seen []ledger.EndpointState
				for range 3000 {
					<-time.After(10 * time.Millisecond)
					if s := b.state(); len(seen) == 0 || seen[len(seen)-1] != s {
						seen = append(seen, s)
					}
				}
				if !slices.Equal(seen, []ledger.EndpointState{ledger.Paused}) {
					t.Errorf("the endpoint was %v, want paused throughout", seen)
				}
				if state, _ := b.ledger.held(); state != ledger.Paused {
					t.Errorf("the ledger says %s", state)
				}
				b.stop()
			})
		})
	}
}
