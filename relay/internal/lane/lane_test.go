package lane

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/transforms"
)

func testEndpoint(t *testing.T, change func(*Endpoint)) *Endpoint {
	t.Helper()
	body, err := transforms.ParseTemplate("{{ .Payload }}")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse("http://receiver.test/hook")
	if err != nil {
		t.Fatal(err)
	}
	ep := &Endpoint{
		ID: event.EndpointID("e"), Name: "e", URL: u, Method: "POST", ContentType: "application/json", Body: body,
		Timeout: 5 * time.Second, Concurrency: 8, Retry: Retry{Schedule: []time.Duration{time.Second, 2 * time.Second}},
	}
	change(ep)
	return ep
}

// bench is a set of one lane beside a fake ledger and a fake receiver.
type bench struct {
	set    *Set
	ledger *fakeLedger
	stop   func()
}

func newBench(t *testing.T, ep *Endpoint, seed uint64, buffer int64, answer func(q *egress.Request) (int, time.Duration)) *bench {
	t.Helper()
	return newStandingBench(t, ep, nil, seed, buffer, answer)
}

// newStandingBench is newBench with what a relay before left behind.
func newStandingBench(t *testing.T, ep *Endpoint, standings map[uuid.UUID]ledger.Standing, seed uint64, buffer int64, answer func(q *egress.Request) (int, time.Duration)) *bench {
	t.Helper()
	b := prepareBench(ep, standings, seed, buffer, answer)
	b.start(t)
	return b
}

// prepareBench returns a bench that does not run yet.
func prepareBench(ep *Endpoint, standings map[uuid.UUID]ledger.Standing, seed uint64, buffer int64, answer func(q *egress.Request) (int, time.Duration)) *bench {
	b := &bench{ledger: newFakeLedger(seed)}
	b.set = NewSet(Options{
		Endpoints: []*Endpoint{ep}, Store: b.ledger, Sender: &fakeSender{answer}, Permit: func() bool { return true },
		Buffer: buffer, MaxHold: 3 * time.Second, Meter: noMeter{}, Logger: slog.New(slog.DiscardHandler),
	}, nil, standings)
	b.set.Passed()
	return b
}

func (b *bench) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { b.ledger.run(ctx) })
	running.Go(func() {
		if err := b.set.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	b.stop = func() { cancel(); running.Wait() }
}

// offer gives the lane n events, as fast as the buffer admits them.
func (b *bench) offer(ctx context.Context, n int, key func(i int) string) {
	for i := range n {
		b.offerOne(ctx, i, key(i))
	}
}

func (b *bench) offerOne(ctx context.Context, i int, key string) {
	b.give(ctx, &event.Event{
		ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)), Type: "t", Key: key, CommittedAt: time.Now(),
		Position: event.Position{LSN: event.LSN(1 + i/3), Index: int64(i % 3)},
		Payload:  fmt.Appendf(nil, `{"n":%d,"key":%q}`, i, key),
	})
}

// give gives the lane an event once the buffer admits it.
func (b *bench) give(ctx context.Context, e *event.Event) {
	for !b.set.Admit(e) {
		<-b.set.Room()
	}
	b.set.Share(e, 1)
	b.set.Enqueue(ctx, 0, event.DeliveryID(e.ID, b.set.opts.Endpoints[0].ID), e)
}

// eventually waits, in the bubble's time, until done.
func eventually(t *testing.T, limit time.Duration, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("not done after %s", limit)
		}
		<-time.After(max(10*time.Millisecond, limit/10_000)) // of the bubble's clock
	}
}

type sent struct {
	N   int
	Key string
}

// TestKeyOrderHoldsWhateverHappens sends events of few keys to a receiver that
// fails in every way, with a ledger that answers late, and holds that an event
// is sent only when the ones before of its key are final, and never again when
// it is final itself.
func TestKeyOrderHoldsWhateverHappens(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkKeyOrder(t, seed, false) })
		})
	}
}

// TestNothingIsLostWhateverIsPaused does the same to an endpoint that is
// paused and resumed at any time, by operators and by its rules, with a ledger
// that is very late at times, and holds that all is sent in the end, and that
// nothing is sent or waits in memory while it is paused, once the lane had the
// time to notice.
func TestNothingIsLostWhateverIsPaused(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkKeyOrder(t, seed, true) })
		})
	}
}

// turner pauses and resumes the endpoint of a fakeLedger until its time is
// over, then resumes it for good.
type turner struct {
	*bench
	random *rand.Rand
	until  time.Time
	paused atomic.Int64 // since when by us, in nanoseconds; 0 while it is not
}

func (u *turner) run(t *testing.T) {
	for time.Now().Before(u.until) {
		<-time.After(time.Duration(u.random.IntN(4000)) * time.Millisecond)
		if waiting := u.set.Statuses()[0].Waiting; u.noticed() && waiting > 0 {
			t.Errorf("%d deliveries wait in memory while the endpoint is paused", waiting)
		}
		state := []ledger.EndpointState{ledger.Enabled, ledger.Paused, ledger.Paused, ledger.Disabled}[u.random.IntN(4)]
		if state == ledger.Enabled {
			u.paused.Store(0)
		} else {
			u.paused.CompareAndSwap(0, time.Now().UnixNano())
		}
		u.ledger.set(state)
	}
	u.paused.Store(0)
	for u.ledger.finished() < keyOrderEvents { // its rules pause it too
		if state, _ := u.ledger.held(); state != ledger.Enabled { // a needless touch would rescue what is stuck
			u.ledger.set(ledger.Enabled)
		}
		<-time.After(30 * time.Second)
	}
}

// noticed reports whether the lane should have noticed a pause by now.
func (u *turner) noticed() bool {
	since := u.paused.Load()
	return since != 0 && time.Since(time.Unix(0, since)) > changedEvery+100*time.Millisecond
}

// sometimesLate is a gate at which claims and holds now and then take long.
func sometimesLate(random *rand.Rand) func(context.Context, string) error {
	var mu sync.Mutex
	return func(ctx context.Context, call string) error {
		mu.Lock()
		late := call != "changed" && call != "backlog" && random.Float64() < 0.1
		d := time.Duration(random.IntN(3000)) * time.Millisecond
		mu.Unlock()
		if !late {
			return nil
		}
		return linger(ctx, d)
	}
}

const keyOrderEvents = 400

func checkKeyOrder(t *testing.T, seed uint64, turned bool) {
	random := rand.New(rand.NewPCG(seed, 2))
	const n = keyOrderEvents
	keys := 1 + random.IntN(12)
	schedule := []time.Duration{200 * time.Millisecond, time.Second, time.Second, time.Second, 2 * time.Second}
	ep := testEndpoint(t, func(ep *Endpoint) {
		ep.Ordered, ep.Concurrency = true, 1+random.IntN(16)
		ep.Retry = Retry{Schedule: schedule, Jitter: 0.5}
	})
	if turned {
		ep.Pause = Pause{OnExhausted: random.IntN(2) == 0, ConsecutiveFailures: random.IntN(3) * 20}
	}
	var mu sync.Mutex
	var turns turner
	tries := map[int]int{}
	ended := map[string]int{} // by key, the newest event that is final, +1
	failShare := random.Float64() * 0.6
	delivered := 0
	b := newBench(t, ep, seed, int64(20+random.IntN(100))*1100, func(q *egress.Request) (int, time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		var s sent
		if err := json.Unmarshal(q.Body, &s); err != nil {
			t.Error(err)
		}
		if before := s.N - keys; before >= ended[s.Key] && before >= 0 {
			t.Errorf("event %d of key %s was sent before event %d was final", s.N, s.Key, before)
		}
		if s.N < ended[s.Key] {
			t.Errorf("event %d was sent again after it was final", s.N)
		}
		if turned && random.Float64() < 0.02 {
			return notPermitted, time.Duration(random.IntN(2000)) * time.Millisecond
		}
		if turns.noticed() {
			t.Errorf("event %d was sent while the endpoint was paused", s.N)
		}
		tries[s.N]++
		after := time.Duration(random.IntN(50)) * time.Millisecond
		if random.Float64() < 0.02 {
			after = 4 * time.Second // longer than the hold
		}
		if random.Float64() < failShare {
			if tries[s.N] > len(schedule) {
				ended[s.Key] = s.N + 1
			}
			return 500, after
		}
		delivered++
		ended[s.Key] = s.N + 1
		return 200, after
	})
	if seed%3 == 0 {
		b.transform(sometimesSlow(rand.New(rand.NewPCG(seed, 4))))
	}
	if random.IntN(2) == 0 {
		b.set.all()[0].maxKeys = random.IntN(4) // fewer than there are
	}
	var turning sync.WaitGroup
	if turned {
		turns.bench, turns.random, turns.until = b, rand.New(rand.NewPCG(seed, 3)), time.Now().Add(time.Minute)
		b.ledger.guard(sometimesLate(rand.New(rand.NewPCG(seed, 4))))
		turning.Go(func() { turns.run(t) })
	}
	for i := range n {
		b.offerOne(t.Context(), i, fmt.Sprint("k", i%keys))
		if turned && i%10 == 0 { // else all is parked by the first pause
			<-time.After(time.Second)
		}
	}
	eventually(t, 6*time.Hour, func() bool { return b.ledger.finished() == n })
	turning.Wait()
	b.stop()
	if len(b.ledger.pending) != 0 {
		t.Errorf("%d deliveries are left in pending", len(b.ledger.pending))
	}
	if used := b.set.Buffered(); used != 0 {
		t.Errorf("%d bytes are left in the buffer", used)
	}
	if got := len(tries); got != n {
		t.Errorf("%d events were sent, want %d", got, n)
	}
	t.Logf("keys %d, failing %.2f: delivered %d, parked %d times", keys, failShare, delivered, b.ledger.puts)
}

func TestHealthyEndpointNeedsNoPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(*Endpoint) {})
		b := newBench(t, ep, 1, 100*1100, func(*egress.Request) (int, time.Duration) { return 200, time.Millisecond })
		b.offer(t.Context(), 5000, func(int) string { return "" })
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 5000 })
		b.stop()
		if b.ledger.puts != 0 {
			t.Errorf("%d records went to pending, want none", b.ledger.puts)
		}
	})
}

func TestSlowEndpointOverflowsAndDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Concurrency = 1 })
		var mu sync.Mutex
		seen := map[string]int{}
		b := newBench(t, ep, 1, 200*1100, func(q *egress.Request) (int, time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			seen[string(q.Body)]++
			return 200, 100 * time.Millisecond
		})
		start := time.Now()
		b.offer(t.Context(), 2000, func(int) string { return "" })
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("reading 2000 events took %s beside an endpoint that does 10 a second", took)
		}
		eventually(t, time.Hour, func() bool { return b.ledger.finished() == 2000 })
		b.stop()
		for body, n := range seen {
			if n != 1 {
				t.Errorf("%s was sent %d times", body, n)
			}
		}
		if b.set.all()[0].overflow {
			t.Error("the lane still overflows after its backlog was drained")
		}
	})
}

func TestFailingEndpointIsProbedAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) {
			ep.Retry = Retry{Schedule: []time.Duration{10 * time.Minute, 10 * time.Minute}}
		})
		start := time.Now()
		var mu sync.Mutex
		var attempts []time.Duration
		b := newBench(t, ep, 1, 1<<20, func(*egress.Request) (int, time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			attempts = append(attempts, time.Since(start))
			if time.Since(start) < 2*time.Minute {
				return 0, 0
			}
			return 200, 0
		})
		b.offer(t.Context(), 300, func(int) string { return "" })
		eventually(t, time.Minute+55*time.Second, func() bool { return time.Since(start) > time.Minute+50*time.Second })
		mu.Lock()
		if n := len(attempts); n < 8 || n > 30 {
			t.Errorf("%d attempts at an endpoint that refuses for 110 s, want the first few and some probes: %v", n, attempts)
		}
		mu.Unlock()
		eventually(t, 30*time.Minute, func() bool { return b.ledger.finished() == 300 })
		b.stop()
	})
}

func TestDeliveryThatWasNotPermittedIsSentWhenTheSlotIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Ordered, ep.Concurrency = true, 2 })
		start := time.Now()
		var mu sync.Mutex
		var order []int
		var lost atomic.Bool // noticed by the first request, for a second
		b := newBench(t, ep, 1, 1<<20, func(q *egress.Request) (int, time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			if time.Since(start) < time.Second {
				lost.Store(true)
				return notPermitted, 0
			}
			var s sent
			if err := json.Unmarshal(q.Body, &s); err != nil {
				t.Error(err)
			}
			order = append(order, s.N)
			return 200, 0
		})
		b.set.opts.Permit = func() bool { return !lost.Load() || time.Since(start) >= time.Second }
		b.offer(t.Context(), 5, func(int) string { return "k" })
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 5 })
		b.stop()
		if fmt.Sprint(order) != "[0 1 2 3 4]" {
			t.Errorf("sent in the order %v", order)
		}
	})
}

func TestClaimedDeliveriesInFrontDoNotHoldTheSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Concurrency = 1 })
		b := newBench(t, ep, 1, 1<<20, func(*egress.Request) (int, time.Duration) { return 200, time.Second })
		const parked = 40
		b.offer(t.Context(), parked, func(int) string { return "" })
		eventually(t, time.Minute, func() bool { // the first few went at once; the rest overflowed and came back
			l := b.set.all()[0]
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.held) > parked/2 && !l.overflow
		})
		start := time.Now()
		var settled atomic.Int64
		fresh := &event.Event{ID: uuid.New(), Type: "t", CommittedAt: start, Position: event.Position{LSN: 1000}, Payload: []byte("{}")}
		b.ledger.mu.Lock()
		b.ledger.settled = func(r *ledger.Record) {
			if r.Event == fresh {
				settled.Store(int64(time.Since(start)))
			}
		}
		b.ledger.mu.Unlock()
		b.set.Admit(fresh)
		b.set.Share(fresh, 1)
		b.set.Enqueue(t.Context(), 0, uuid.New(), fresh)
		eventually(t, time.Hour, func() bool { return settled.Load() != 0 })
		if after := time.Duration(settled.Load()); after > 4*time.Second {
			t.Errorf("a fresh delivery behind claimed ones was settled after %s", after)
		}
		eventually(t, time.Hour, func() bool { return b.ledger.finished() == parked+1 })
		b.stop()
		if used := b.set.Buffered(); used != 0 {
			t.Errorf("%d bytes are left in the buffer", used)
		}
	})
}

func TestLongRequestDoesNotHoldTheSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Concurrency, ep.Timeout = 1, time.Minute })
		b := newBench(t, ep, 1, 1<<20, func(*egress.Request) (int, time.Duration) { return 200, 30 * time.Second })
		start := time.Now()
		settledAfter := map[uuid.UUID]time.Duration{}
		var states []ledger.State
		b.ledger.settled = func(r *ledger.Record) { settledAfter[r.ID] = time.Since(start); states = append(states, r.State) }
		b.offer(t.Context(), 2, func(int) string { return "" })
		eventually(t, 10*time.Minute, func() bool { return b.ledger.finished() == 2 })
		b.stop()
		for id, after := range settledAfter {
			if after > 4*time.Second {
				t.Errorf("%s was settled only after %s", id, after)
			}
		}
		if len(states) != 2 || states[0] != ledger.Sending && states[1] != ledger.Sending {
			t.Errorf("settled as %v, want one as sending", states)
		}
	})
}
