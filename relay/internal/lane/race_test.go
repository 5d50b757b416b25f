package lane

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// slowly returns a gate at which one kind of call takes d.
func slowly(slow string, d time.Duration) func(context.Context, string) error {
	return func(ctx context.Context, call string) error {
		if call != slow {
			return nil
		}
		return linger(ctx, d)
	}
}

func TestRetryByHandDuringAClaimIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Retry = Retry{Schedule: []time.Duration{time.Hour}} })
		r := newReceiver(500)
		b := newBench(t, ep, 1, 1<<20, r.answer)
		b.offer(t.Context(), 2, noKey)
		eventually(t, 10*time.Second, func() bool { return r.count() == 2 && b.set.Buffered() == 0 })
		var claims atomic.Int64
		b.ledger.guard(func(ctx context.Context, call string) error {
			if call != "claim" {
				return nil
			}
			claims.Add(1)
			return linger(ctx, 3*time.Second)
		})
		b.ledger.set(ledger.Enabled) // touched: the lane claims
		eventually(t, 10*time.Second, func() bool { return claims.Load() == 1 })
		r.set(200)
		b.ledger.retryAll()
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 2 })
		b.stop()
	})
}

func TestRetryByHandBeforeTheFirstLookIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(*Endpoint) {})
		before := time.Now()
		r := newReceiver(200)
		b := prepareBench(ep, map[uuid.UUID]ledger.Standing{ep.ID: {State: ledger.Enabled, At: before}}, 1, 1<<20, r.answer)
		<-time.After(time.Second)
		e := &event.Event{ID: uuid.New(), Type: "t", CommittedAt: before, Payload: []byte("{}")}
		id := event.DeliveryID(e.ID, ep.ID)
		b.ledger.pending[id] = &row{Record: ledger.Record{ID: id, Event: e, State: ledger.Pending, Attempts: 3}}
		b.ledger.retryAll()
		b.start(t)
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 1 })
		b.stop()
	})
}

func TestStopWaitsUntilAHoldIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(http.StatusGone)
		b := newBench(t, testEndpoint(t, func(*Endpoint) {}), 1, 1<<20, r.answer)
		b.ledger.guard(slowly("hold", 2*time.Second))
		delivering, stopDelivering := context.WithCancel(t.Context())
		b.offer(delivering, 1, noKey)
		eventually(t, time.Second, func() bool { return b.state() == ledger.Disabled })
		if err := b.set.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		stopDelivering()
		b.stop()
		if state, _ := b.ledger.held(); state != ledger.Disabled {
			t.Errorf("the ledger has the endpoint as %s after a graceful stop", state)
		}
	})
}

// TestNothingIsDroppedBeforeTheLedgerKnows holds that events go on being
// matched, and parked, as long as a relay after this one would send them.
func TestNothingIsDroppedBeforeTheLedgerKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(http.StatusGone)
		b := newBench(t, testEndpoint(t, func(*Endpoint) {}), 1, 1<<20, r.answer)
		b.ledger.guard(slowly("hold", 2*time.Second))
		b.offer(t.Context(), 1, noKey)
		eventually(t, time.Second, func() bool { return b.state() == ledger.Disabled })
		if b.set.Disabled(0) {
			t.Error("no event is matched any more although the ledger has the endpoint as enabled")
		}
		eventually(t, 5*time.Second, func() bool { return b.set.Disabled(0) })
		if state, _ := b.ledger.held(); state != ledger.Disabled {
			t.Errorf("the ledger has the endpoint as %s", state)
		}
		b.stop()
	})
}

func TestGoneOutlivesAPauseThatIsBeingRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Retry, ep.Pause = Retry{}, Pause{OnExhausted: true} })
		var requests, holds atomic.Int64
		b := newBench(t, ep, 1, 1<<20, func(*egress.Request) (int, time.Duration) {
			if requests.Add(1) == 1 {
				return 500, 100 * time.Millisecond
			}
			return http.StatusGone, time.Second
		})
		b.ledger.guard(func(ctx context.Context, call string) error {
			if call == "hold" && holds.Add(1) == 1 {
				return linger(ctx, 3*time.Second)
			}
			return nil
		})
		b.offer(t.Context(), 2, noKey)
		<-time.After(time.Minute) // both requests are made at once
		if state, reasons := b.ledger.held(); state != ledger.Disabled || b.state() != ledger.Disabled {
			t.Errorf("the ledger has the endpoint as %s for %q, the lane as %s", state, reasons, b.state())
		}
		b.stop()
	})
}

func TestHealthIsToldOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Pause = Pause{ConsecutiveFailures: 40} })
		r := newReceiver(500)
		b := newBench(t, ep, 1, 1<<20, r.answer)
		var now, most atomic.Int64
		b.ledger.guard(func(ctx context.Context, call string) error {
			if call != "health" {
				return nil
			}
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			return linger(ctx, time.Minute)
		})
		b.offer(t.Context(), 30, noKey)
		eventually(t, 10*time.Minute, func() bool {
			state, _ := b.ledger.held() // else that would come after the resume
			return state == ledger.Paused && b.state() == ledger.Paused && now.Load() > 0
		})
		if n := most.Load(); n != 1 {
			t.Errorf("the ledger was told %d times at once", n)
		}
		b.ledger.set(ledger.Enabled) // what is being told is out of date now
		r.set(200)
		eventually(t, 10*time.Minute, func() bool { return b.ledger.finished() == 30 })
		<-time.After(3 * time.Minute)
		if h := b.ledger.health; h.Failures != 0 {
			t.Errorf("the ledger has %d failures after the resume", h.Failures)
		}
		b.stop()
	})
}

func TestHoldsOfOtherEndpointsDoNotDelayAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, testEndpoint(t, func(*Endpoint) {}), 1, 1<<20, newReceiver(200).answer)
		b.ledger.guard(func(_ context.Context, call string) error {
			if call == "backlog" {
				b.set.holds.Add(1)
			}
			return nil
		})
		<-time.After(1500 * time.Millisecond)
		b.ledger.set(ledger.Paused)
		eventually(t, 2*time.Second, func() bool { return b.state() == ledger.Paused })
		b.stop()
	})
}

// TestBacklogCountedDuringTheDrainIsNotTooLarge counts what is pending while
// it becomes less: the lane would never be done with what it counted too much.
func TestBacklogCountedDuringTheDrainIsNotTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 2000
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Ordered, ep.RateLimit = true, 400 })
		b := newStandingBench(t, ep, map[uuid.UUID]ledger.Standing{ep.ID: {State: ledger.Paused}}, 1, 1<<20, newReceiver(200).answer)
		b.ledger.set(ledger.Paused)
		b.offer(t.Context(), n, noKey)
		eventually(t, time.Minute, func() bool { return b.set.Statuses()[0].Pending == n && b.set.Buffered() == 0 })
		b.ledger.set(ledger.Enabled)
		eventually(t, time.Minute, func() bool { return b.ledger.finished() > n/10 })
		b.ledger.guard(slowly("backlog", 3*time.Second))
		b.ledger.retryAll()
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == n })
		<-time.After(10 * time.Second)
		if s := b.set.Statuses()[0]; s.Pending != 0 || s.Overflow {
			t.Errorf("%d pending, overflow %t after all was delivered", s.Pending, s.Overflow)
		}
		b.stop()
	})
}

// TestResumeDuringAClaimDrains pauses and resumes while a claim is under way,
// whose answer leaves out what the lane had in memory when it asked.
func TestResumeDuringAClaimDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 20
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Concurrency = 1 })
		b := newStandingBench(t, ep, map[uuid.UUID]ledger.Standing{ep.ID: {State: ledger.Paused}}, 1, 1<<20, func(*egress.Request) (int, time.Duration) {
			return 200, 2 * time.Second
		})
		b.ledger.set(ledger.Paused)
		b.offer(t.Context(), n, noKey)
		eventually(t, time.Minute, func() bool { return b.set.Buffered() == 0 })
		b.ledger.set(ledger.Enabled)
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 1 })
		var claims atomic.Int64
		b.ledger.guard(func(ctx context.Context, call string) error {
			if call != "claim" {
				return nil
			}
			claims.Add(1)
			return linger(ctx, 5*time.Second)
		})
		b.ledger.set(ledger.Enabled) // touched: the lane claims
		eventually(t, 10*time.Second, func() bool { return claims.Load() == 1 })
		b.ledger.set(ledger.Paused)
		eventually(t, 2*time.Second, func() bool { return b.state() == ledger.Paused })
		b.ledger.set(ledger.Enabled)
		eventually(t, 2*time.Second, func() bool { return b.state() == ledger.Enabled && claims.Load() == 1 })
		eventually(t, 10*time.Minute, func() bool { return b.ledger.finished() == n })
		b.stop()
	})
}

// TestRecoveryDuringAClaimIsNotForgotten has a failing endpoint answer again
// while its lane asks for scheduled retries only: the parked ones come next.
func TestRecoveryDuringAClaimIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Retry = Retry{Schedule: []time.Duration{3 * time.Second}} })
		var well atomic.Bool
		b := newBench(t, ep, 1, 1<<20, func(*egress.Request) (int, time.Duration) {
			if well.Load() {
				return 200, 3 * time.Second
			}
			return 500, 0
		})
		b.ledger.guard(func(ctx context.Context, call string) error {
			if call == "claim" && well.Load() {
				return linger(ctx, 5*time.Second)
			}
			return nil
		})
		b.offer(t.Context(), 30, noKey)
		eventually(t, time.Second, func() bool { return b.set.Statuses()[0].Failing })
		well.Store(true)
		eventually(t, 10*time.Minute, func() bool { return b.ledger.finished() == 30 })
		b.stop()
	})
}
