package lane

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

func TestOnlySomeGoroutinesWaitForWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, testEndpoint(t, func(*Endpoint) {}), 1, 1<<20, func(*egress.Request) (int, time.Duration) { return 200, 0 })
		synctest.Wait()
		before := int(b.set.idle.Load())
		gate := make(chan struct{})
		for range 2 * maxIdle {
			if !b.set.spawn(func() { <-gate }) {
				t.Fatal("not spawned while the lanes run")
			}
		}
		close(gate)
		synctest.Wait()
		if got := int(b.set.idle.Load()); got != maxIdle {
			t.Errorf("%d goroutines wait for work, want %d", got, maxIdle)
		}
		done := make(chan struct{})
		b.set.spawn(func() { close(done) })
		<-done
		synctest.Wait()
		if got := int(b.set.idle.Load()); got != maxIdle || before > maxIdle {
			t.Errorf("%d goroutines wait after one had work, want %d", got, maxIdle)
		}
		b.stop()
		if b.set.spawn(func() {}) {
			t.Error("spawned after the lanes ended")
		}
	})
}

func TestWhatDiffersIsInNoOtherRequest(t *testing.T) {
	ep := testEndpoint(t, func(ep *Endpoint) { ep.UserAgent = "posthorn" })
	id := event.DeliveryID(event.IDOf("1"), ep.ID)
	ordinary := &event.Event{Payload: []byte(`{}`)}
	traced := &event.Event{Payload: []byte(`{}`), Headers: []byte(`{"traceparent": "00-a-b-01"}`)}
	want := [][2]string{{"Content-Type", "application/json"}, {"User-Agent", "posthorn"}}

	first, err := ep.render(id, ordinary)
	if err != nil || !slices.Equal(first.Headers, want) {
		t.Fatalf("got %v, %v; want %v", first, err, want)
	}
	with, err := ep.render(id, traced)
	if err != nil || !slices.Equal(with.Headers, append(slices.Clone(want), [2]string{"Traceparent", "00-a-b-01"})) {
		t.Errorf("got %v, %v; want the trace context beside %v", with, err, want)
	}
	if _, err := ep.Preview(id, ordinary, time.Now(), [2]string{TestHeader, "true"}); err != nil {
		t.Fatal(err)
	}
	last, err := ep.render(id, ordinary)
	if err != nil || !slices.Equal(last.Headers, want) || last != first {
		t.Errorf("got %v, %v; want the first request again", last, err)
	}
}

// asked is a Meter that remembers what it was asked for, and counts.
type asked struct {
	noMeter
	counters []string
	n        map[string]int
}

func (a *asked) counter(name string) func() {
	a.counters = append(a.counters, name)
	return func() { a.n[name]++ }
}

func (a *asked) Attempts(endpoint, outcome string) func() { return a.counter(endpoint + " " + outcome) }
func (a *asked) Finals(endpoint string, state ledger.State) func() {
	return a.counter(endpoint + " " + string(state))
}

func (*asked) Forget(string) {}

func TestLaneAsksForEachOfItsFiguresOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		meter := &asked{n: map[string]int{}}
		status := 503
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Concurrency = 1 })
		b := prepareBench(ep, nil, 1, 1<<20, func(*egress.Request) (int, time.Duration) {
			defer func() { status = 200 }()
			return status, 0
		})
		b.set.all()[0].counts = newCounts(meter, "e")
		b.start(t)
		defer b.stop()
		b.offer(context.Background(), 3, func(int) string { return "" })
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 3 })
		synctest.Wait()
		b.set.all()[0].mu.Lock()
		defer b.set.all()[0].mu.Unlock()
		if want := []string{"e rejected", "e delivered", "e delivered"}; !slices.Equal(meter.counters, want) { // of attempts, of deliveries
			t.Errorf("asked for %q, want %q", meter.counters, want)
		}
		if meter.n["e rejected"] != 1 || meter.n["e delivered"] != 6 {
			t.Errorf("counted %v, want 1 rejected, and 3 attempts and 3 deliveries as delivered", meter.n)
		}
	})
}

func TestNoRequestStartsWhileTheLedgerIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int32
		b := newBench(t, testEndpoint(t, func(*Endpoint) {}), 1, 1<<20, func(*egress.Request) (int, time.Duration) {
			requests.Add(1)
			return 200, time.Millisecond
		})
		defer b.stop()
		catchUp := b.ledger.behind()
		b.offer(t.Context(), 20, func(int) string { return "" })
		time.Sleep(time.Second)
		if got := requests.Load(); got > 0 {
			t.Errorf("%d requests while the ledger is behind", got)
		}
		catchUp()
		eventually(t, time.Second, func() bool { return b.ledger.finished() == 20 })

		ctx, cancel := context.WithCancel(t.Context())
		b.ledger.behind()
		b.offer(ctx, 20, func(int) string { return "" })
		synctest.Wait()
		cancel() // ends what waits
	})
}

func TestLaneWithoutBacklogClaimsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := prepareBench(testEndpoint(t, func(*Endpoint) {}), nil, 1, 1<<20, func(*egress.Request) (int, time.Duration) { return 200, 0 })
		var claims atomic.Int32
		b.ledger.guard(func(_ context.Context, call string) error {
			if call == "claim" {
				claims.Add(1)
			}
			return nil
		})
		b.start(t)
		defer b.stop()
		b.offer(t.Context(), 3, func(int) string { return "" })
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 3 })
		time.Sleep(time.Minute)
		if got := claims.Load(); got > 0 {
			t.Errorf("the ledger was asked %d times for deliveries that it cannot have", got)
		}
	})
}

// What waits because the ledger does not write is not parked, which would give
// it more to write: not for how long it waits, and not for its lane's pace.
func TestNoLaneIsBlamedForALedgerThatStalls(t *testing.T) {
	for name, stalls := range map[string]time.Duration{"for shorter than max_hold": 2 * time.Second, "for longer": 15 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 60_000 // at 8,000 a second, which fill the buffer
				b := newBench(t, testEndpoint(t, func(*Endpoint) {}), 1, 1<<20, func(*egress.Request) (int, time.Duration) { return 200, time.Millisecond })
				defer b.stop()
				go b.offer(t.Context(), n, func(int) string { return "" })
				time.Sleep(3 * time.Second)
				catchUp := b.ledger.behind()
				time.Sleep(stalls)
				catchUp()
				eventually(t, time.Minute, func() bool { return b.ledger.finished() == n })
				b.ledger.mu.Lock()
				defer b.ledger.mu.Unlock()
				if b.ledger.puts > 0 {
					t.Errorf("%d deliveries were parked", b.ledger.puts)
				}
			})
		})
	}
}
