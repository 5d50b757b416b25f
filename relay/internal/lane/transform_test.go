package lane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/transforms"
)

// batchFunc is a function as a transform.
type batchFunc func(ctx context.Context, batch []*transforms.Message)

func (f batchFunc) Transform(ctx context.Context, batch []*transforms.Message) { f(ctx, batch) }

func one(f func(m *transforms.Message) error) transforms.Transform {
	return transforms.Each(func(_ context.Context, m *transforms.Message) error { return f(m) })
}

// transform sets the transform of all events, or of those of the given types.
func (b *bench) transform(t transforms.Transform, types ...string) {
	if len(types) == 0 {
		types = []string{"*"}
	}
	b.set.opts.Chains = transforms.NewChains([]transforms.Rule{{Name: "rule", Match: types, Transform: t, Parallel: 2}}).For
}

// sometimesSlow takes its time, now and then longer than the hold allows.
func sometimesSlow(random *rand.Rand) transforms.Transform {
	var mu sync.Mutex
	return batchFunc(func(ctx context.Context, _ []*transforms.Message) {
		mu.Lock()
		d := time.Duration(random.IntN(300)) * time.Millisecond
		if random.IntN(40) == 0 {
			d = 5 * time.Second
		}
		mu.Unlock()
		_ = linger(ctx, d)
	})
}

func (f *fakeLedger) endings() map[ledger.State]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := map[ledger.State]int{}
	for _, state := range f.final {
		n[state]++
	}
	return n
}

// records returns what was recorded of deliveries, by state and error.
func (f *fakeLedger) note(settled *[]string) {
	f.settled = func(r *ledger.Record) {
		*settled = append(*settled, fmt.Sprintf("%s %d %s", r.State, r.Attempts, r.Error))
	}
}

func TestEventIsTransformedOnceForAllItsDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(200)
		b := prepareBench(testEndpoint(t, func(*Endpoint) {}), nil, 1, 1<<20, r.answer)
		var endpoints []*Endpoint
		for i := range 5 {
			endpoints = append(endpoints, testEndpoint(t, func(ep *Endpoint) { ep.ID, ep.Name = event.EndpointID(fmt.Sprint(i)), fmt.Sprint(i) }))
		}
		o := b.set.opts
		o.Endpoints = endpoints
		b.set = NewSet(o, nil, nil)
		var made atomic.Int64
		b.transform(one(func(m *transforms.Message) error {
			m.Payload = fmt.Appendf(nil, `{"made":%d}`, made.Add(1))
			return nil
		}))
		b.start(t)
		const n = 300
		for i := range n {
			e := &event.Event{ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)), Type: "t", Payload: []byte(`{}`), CommittedAt: time.Now()}
			if !b.set.Admit(e) {
				t.Fatal("the buffer is full")
			}
			b.set.Share(e, len(endpoints))
			for at, ep := range endpoints {
				b.set.Enqueue(t.Context(), at, event.DeliveryID(e.ID, ep.ID), e)
			}
		}
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == n*len(endpoints) })
		b.stop()
		if made.Load() != n {
			t.Errorf("%d events were transformed %d times", n, made.Load())
		}
		times := map[string]int{}
		for _, body := range r.bodies {
			times[body]++
		}
		for body, count := range times {
			if count != len(endpoints) {
				t.Errorf("%s was sent %d times", body, count)
			}
		}
		if used := b.set.Buffered(); used != 0 {
			t.Errorf("%d bytes are still charged", used)
		}
	})
}

func TestTemplatesSeeWhatTheTransformsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		header, err := transforms.ParseTemplate("{{ .Event.Type }} {{ .Event.Action }} {{ .Event.Headers.a }}")
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var got []string
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Headers = []Header{{Name: "X-Event", Value: header}} })
		b := newBench(t, ep, 1, 1<<20, func(q *egress.Request) (int, time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprintf("%s %s %s", q.Header.Get("X-Event"), q.Header.Get("Traceparent"), q.Body))
			return 200, 0
		})
		b.transform(one(func(m *transforms.Message) error {
			m.SetType("v2.made")
			m.Event.Headers = map[string]string{"a": "b", "traceparent": "other"}
			m.Payload = []byte(`{"new":1.0}`)
			return nil
		}), "change")
		for _, eventType := range []string{"change", "leave.it"} {
			b.give(t.Context(), &event.Event{
				ID: uuid.New(), Type: eventType, Payload: []byte(`{"old": 1.0 }`), Headers: []byte(`{"traceparent":"one"}`), CommittedAt: time.Now(),
			})
		}
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 2 })
		b.stop()
		slices.Sort(got)
		if diff := cmp.Diff([]string{`leave.it it  one {"old": 1.0 }`, `v2.made made b other {"new":1.0}`}, got); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
	})
}

// TestFailedTransformIsAnAttempt holds that it is retried on the endpoint's
// schedule, if that makes sense, and stands as failed with its message, and
// that the endpoint is not blamed.
func TestFailedTransformIsAnAttempt(t *testing.T) {
	tests := []struct {
		name  string
		fails int // times
		err   error
		want  ledger.State
		tries []time.Duration // when the event was transformed
	}{
		{"mended", 2, transforms.Retryable(errors.New("no such table")), ledger.Delivered, []time.Duration{0, time.Second, 3 * time.Second}},
		{"exhausted", 9, transforms.Retryable(errors.New("no such table")), ledger.Failed, []time.Duration{0, time.Second, 3 * time.Second}},
		{"final", 9, errors.New("no such table"), ledger.Failed, []time.Duration{0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newReceiver(200)
				ep := testEndpoint(t, func(ep *Endpoint) { ep.Pause = Pause{OnExhausted: true, ConsecutiveFailures: 1} })
				b := newBench(t, ep, 1, 1<<20, r.answer)
				start := time.Now()
				var mu sync.Mutex
				tries := map[string][]time.Duration{}
				b.transform(one(func(m *transforms.Message) error {
					mu.Lock()
					defer mu.Unlock()
					tries[m.Event.ID] = append(tries[m.Event.ID], time.Since(start).Truncate(time.Second))
					if len(tries[m.Event.ID]) <= tt.fails {
						return tt.err
					}
					return nil
				}))
				var settled []string
				b.ledger.note(&settled)
				const n = 20
				b.offer(t.Context(), n, noKey)
				eventually(t, time.Minute, func() bool { return b.ledger.finished() == n })
				b.stop()
				if got := b.ledger.endings(); got[tt.want] != n {
					t.Errorf("ended as %v, want %s", got, tt.want)
				}
				for id, got := range tries {
					if !slices.Equal(got, tt.tries) {
						t.Errorf("%s was transformed at %v, want %v", id, got, tt.tries)
					}
				}
				if status := b.set.Statuses()[0]; status.Failing || status.State != ledger.Enabled {
					t.Errorf("the endpoint is blamed: %+v", status)
				}
				if !strings.HasSuffix(settled[0], " 1 transform: rule: no such table") {
					t.Errorf("recorded as %q", settled[0])
				}
				if want := b.ledger.endings()[ledger.Delivered]; r.count() != want {
					t.Errorf("%d requests, want %d", r.count(), want)
				}
			})
		})
	}
}

// TestSkippedEventsCostNothing holds that they are recorded as skipped, make
// room for the next of their key, and need no rate.
func TestSkippedEventsCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(200)
		b := newBench(t, testEndpoint(t, func(ep *Endpoint) { ep.Ordered, ep.RateLimit = true, 1 }), 1, 1<<20, r.answer)
		b.transform(one(func(m *transforms.Message) error {
			if !strings.Contains(string(m.Payload), `"n":99,`) {
				m.Skipped = "not wanted"
			}
			return nil
		}))
		var settled []string
		b.ledger.note(&settled)
		b.offer(t.Context(), 100, func(i int) string { return fmt.Sprint(i % 3) })
		eventually(t, 2*time.Second, func() bool { return b.ledger.finished() == 100 })
		b.stop()
		if got := b.ledger.endings(); got[ledger.Skipped] != 99 || got[ledger.Delivered] != 1 || r.count() != 1 {
			t.Errorf("ended as %v with %d requests", got, r.count())
		}
		if !slices.Contains(settled, "skipped 0 rule: not wanted") {
			t.Errorf("recorded as %q", settled)
		}
	})
}

// TestStuckChainDelaysNothingElse holds that events of other types arrive while
// one type's transform hangs, and that it does not hold the slot back.
func TestStuckChainDelaysNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(200)
		b := newBench(t, testEndpoint(t, func(ep *Endpoint) { ep.Concurrency = 2 }), 1, 64<<10, r.answer)
		stuck := make(chan struct{})
		b.transform(batchFunc(func(ctx context.Context, _ []*transforms.Message) {
			select {
			case <-stuck:
			case <-ctx.Done():
			}
		}), "stuck")
		const n = 400 // more than fits the buffer
		for i := range n {
			e := &event.Event{
				ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)), Type: []string{"stuck", "other"}[i%2], Payload: []byte(`{}`),
				Position: event.Position{LSN: event.LSN(1 + i)}, CommittedAt: time.Now(),
			}
			b.give(t.Context(), e)
		}
		eventually(t, 10*time.Second, func() bool { return r.count() == n/2 })
		eventually(t, 10*time.Second, func() bool { return b.set.Buffered() == 0 }) // all is recorded
		if status := b.set.Statuses()[0]; status.Overflow {
			t.Errorf("the endpoint overflows, although it is not slow: %+v", status)
		}
		close(stuck)
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == n })
		b.stop()
		if r.count() != n {
			t.Errorf("%d of %d events were sent", r.count(), n)
		}
	})
}

// TestRetiredChainIsReplaced swaps the chains while events wait for them.
func TestRetiredChainIsReplaced(t *testing.T) {
	for _, next := range []string{"*", "none"} {
		t.Run(next, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newReceiver(http.StatusOK)
				b := newBench(t, testEndpoint(t, func(*Endpoint) {}), 1, 1<<20, r.answer)
				chains := func(match string, after time.Duration, version int) *transforms.Chains {
					return transforms.NewChains([]transforms.Rule{{Name: "rule", Match: []string{match}, Parallel: 1, Transform: batchFunc(
						func(ctx context.Context, batch []*transforms.Message) {
							_ = linger(ctx, after)
							for _, m := range batch {
								m.Payload = fmt.Append(nil, version)
							}
						})}})
				}
				old := chains("*", time.Second, 1)
				var current atomic.Pointer[transforms.Chains]
				current.Store(old)
				b.set.opts.Chains = func(eventType string) *transforms.Chain { return current.Load().For(eventType) }
				const n = 2*batchEvents + 100
				b.offer(t.Context(), n, noKey)
				<-time.After(100 * time.Millisecond) // of the bubble's clock: the first batch is on its way
				current.Store(chains(next, 0, 2))
				old.Retire()
				eventually(t, time.Minute, func() bool { return b.ledger.finished() == n })
				b.stop()
				times := map[string]int{}
				for _, body := range r.bodies {
					times[body[:1]]++
				}
				made := map[string]string{"*": "2", "none": "{"}[next]
				if times["1"] < 1 || times["1"] > 2*batchEvents || times["1"]+times[made] != n {
					t.Errorf("sent %v", times)
				}
			})
		})
	}
}

// TestWhatWaitsToBeTransformedDoesNotHoldWhatWaitsForARequest has something new
// to transform at every moment, beside a request that takes long: the event
// behind it may not hold the slot back.
func TestWhatWaitsToBeTransformedDoesNotHoldWhatWaitsForARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Ordered, ep.Concurrency, ep.Timeout = true, 1000, time.Minute })
		b := newBench(t, ep, 1, 1<<20, func(*egress.Request) (int, time.Duration) { return 200, 30 * time.Second })
		b.transform(batchFunc(func(ctx context.Context, _ []*transforms.Message) { _ = linger(ctx, time.Second) }), "slow")
		start := time.Now()
		behind := &event.Event{ID: uuid.New(), Type: "other", Key: "k", Position: event.Position{LSN: 2}, Payload: []byte("{}"), CommittedAt: start}
		var settled atomic.Int64
		b.ledger.settled = func(r *ledger.Record) {
			if r.Event == behind {
				settled.Store(int64(time.Since(start)))
			}
		}
		b.give(t.Context(), &event.Event{ID: uuid.New(), Type: "other", Key: "k", Position: event.Position{LSN: 1}, Payload: []byte("{}"), CommittedAt: start})
		b.give(t.Context(), behind)
		for i := range 600 {
			b.give(t.Context(), &event.Event{
				ID: uuid.New(), Type: "slow", Key: fmt.Sprint(i), Position: event.Position{LSN: event.LSN(3 + i)}, Payload: []byte("{}"), CommittedAt: start,
			})
			<-time.After(30 * time.Millisecond)
		}
		if after := time.Duration(settled.Load()); after == 0 || after > 4*time.Second {
			t.Errorf("it was settled after %s", after)
		}
		eventually(t, time.Hour, func() bool { return b.ledger.finished() == 602 })
		b.stop()
	})
}

// TestSkippedProbesAreFollowedByOthers holds that a failing endpoint does not
// have to wait for one look after the other until there is something to send.
func TestSkippedProbesAreFollowedByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Retry = Retry{Schedule: []time.Duration{time.Hour}} })
		r := newReceiver(500)
		b := newBench(t, ep, 1, 4<<20, r.answer)
		b.transform(one(func(m *transforms.Message) error {
			m.Skipped = "not wanted"
			return nil
		}), "skipped")
		const n = 1000
		for i := range failAfter {
			b.offerOne(t.Context(), i, "")
		}
		eventually(t, time.Second, func() bool { return b.set.Statuses()[0].Failing })
		for i := range n {
			eventType := "skipped"
			if i == n-1 {
				eventType = "t"
			}
			b.give(t.Context(), &event.Event{ID: uuid.New(), Type: eventType, Position: event.Position{LSN: event.LSN(100 + i)}, Payload: []byte("{}"), CommittedAt: time.Now()})
		}
		r.set(200)
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == n })
		if status := b.set.Statuses()[0]; status.Failing {
			t.Error("the endpoint is still failing")
		}
		b.stop()
	})
}

// TestTransformThatLeavesNothingFails holds that the event as it was committed
// is not sent in its stead.
func TestTransformThatLeavesNothingFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(200)
		b := newBench(t, testEndpoint(t, func(*Endpoint) {}), 1, 1<<20, r.answer)
		b.transform(one(func(m *transforms.Message) error {
			m.Payload = nil
			return nil
		}))
		b.offer(t.Context(), 3, noKey)
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 3 })
		b.stop()
		if got := b.ledger.endings(); got[ledger.Failed] != 3 || r.count() != 0 {
			t.Errorf("ended as %v with %d requests", got, r.count())
		}
	})
}

// TestWhatTransformsMakeIsBounded has them make much out of little, for an
// endpoint that is slower than they are.
func TestWhatTransformsMakeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const buffer, made, n = 4 << 20, 16 << 10, 4000
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Concurrency = 1 })
		b := newBench(t, ep, 1, buffer, func(*egress.Request) (int, time.Duration) { return 200, time.Millisecond })
		b.transform(one(func(m *transforms.Message) error {
			m.Payload = fmt.Appendf(nil, "%0*d", made, 1)
			m.Payload[0] = '1'
			return nil
		}))
		most := int64(0)
		for i := range n {
			b.offerOne(t.Context(), i, "")
			most = max(most, b.set.Buffered())
		}
		eventually(t, time.Hour, func() bool { most = max(most, b.set.Buffered()); return b.ledger.finished() == n })
		b.stop()
		if limit := int64(2*buffer + 2*batchEvents*made + 1<<20); most > limit {
			t.Errorf("up to %d bytes were in the buffer, want at most %d", most, limit)
		}
		if used, grown := b.set.Buffered(), b.set.stage.grown.Load(); used != 0 || grown != 0 {
			t.Errorf("%d bytes are still charged, %d of them for what transforms made", used, grown)
		}
	})
}

// TestKeyOrderHoldsWhateverIsTransformed sends events of few keys through a
// transform that is slow, fails and skips, to an endpoint that is slow, fails
// and is paused, and holds that each key's events are sent in their order, all
// but the skipped ones and each once.
func TestKeyOrderHoldsWhateverIsTransformed(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkTransformedOrder(t, seed) })
		})
	}
}

func checkTransformedOrder(t *testing.T, seed uint64) {
	const n = keyOrderEvents
	random := rand.New(rand.NewPCG(seed, 5))
	keys := 1 + random.IntN(12)
	skips := func(n int) bool { return n%7 == 3 }
	var mu sync.Mutex
	failures, sentOf, newest := map[int]int{}, map[int]int{}, map[string]int{}
	ep := testEndpoint(t, func(ep *Endpoint) {
		ep.Ordered, ep.Concurrency = true, 1+random.IntN(16)
		ep.Retry = Retry{Schedule: slices.Repeat([]time.Duration{500 * time.Millisecond}, 20), Jitter: 0.5}
		ep.RateLimit = float64(random.IntN(2) * 200)
	})
	b := newBench(t, ep, seed, int64(20+random.IntN(100))*1100, func(q *egress.Request) (int, time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		var s sent
		if err := json.Unmarshal(q.Body, &s); err != nil {
			t.Error(err)
		}
		if random.IntN(50) == 0 {
			return notPermitted, 0
		}
		if last, ok := newest[s.Key]; ok && s.N <= last {
			t.Errorf("event %d of key %s was sent after event %d", s.N, s.Key, last)
		}
		if before := s.N - keys; before >= 0 && !skips(before) && sentOf[before] == 0 {
			t.Errorf("event %d of key %s was sent before event %d", s.N, s.Key, before)
		}
		if random.IntN(10) == 0 {
			return 500, 0
		}
		newest[s.Key] = s.N
		sentOf[s.N]++
		return 200, time.Duration(random.IntN(100)) * time.Millisecond
	})
	slow := sometimesSlow(rand.New(rand.NewPCG(seed, 6)))
	b.transform(batchFunc(func(ctx context.Context, batch []*transforms.Message) {
		slow.Transform(ctx, batch)
		mu.Lock()
		defer mu.Unlock()
		for _, m := range batch {
			var s sent
			if err := json.Unmarshal(m.Payload, &s); err != nil {
				t.Error(err)
			}
			switch {
			case failures[s.N] < 3 && random.IntN(4) == 0:
				failures[s.N]++
				m.Err = transforms.Retryable(errors.New("not now"))
			case skips(s.N):
				m.Skipped = "not wanted"
			default:
				m.Payload = append([]byte(" "), m.Payload...)
			}
		}
	}))
	var turning sync.WaitGroup
	if seed%2 == 0 {
		b.ledger.guard(sometimesLate(rand.New(rand.NewPCG(seed, 7))))
		turning.Go(func() {
			turns := rand.New(rand.NewPCG(seed, 8))
			for range 10 {
				for _, state := range []ledger.EndpointState{ledger.Paused, ledger.Enabled} {
					<-time.After(time.Duration(turns.IntN(5000)) * time.Millisecond)
					b.ledger.set(state)
				}
			}
		})
	}
	for i := range n {
		b.offerOne(t.Context(), i, fmt.Sprint("k", i%keys))
		if i%10 == 0 {
			<-time.After(100 * time.Millisecond)
		}
	}
	eventually(t, 6*time.Hour, func() bool { return b.ledger.finished() == n })
	turning.Wait()
	eventually(t, time.Minute, func() bool { // for what is being transformed in vain, too
		b.set.stage.mu.Lock()
		defer b.set.stage.mu.Unlock()
		return len(b.set.stage.jobs) == 0
	})
	b.stop()
	for i := range n {
		if want := map[bool]int{true: 0, false: 1}[skips(i)]; sentOf[i] != want {
			t.Errorf("event %d was sent %d times", i, sentOf[i])
		}
	}
	if used, grown := b.set.Buffered(), b.set.stage.grown.Load(); used != 0 || grown != 0 {
		t.Errorf("%d bytes are still charged, %d of them for what transforms made", used, grown)
	}
	b.set.stage.mu.Lock()
	defer b.set.stage.mu.Unlock()
	if l := b.set.all()[0]; len(b.set.stage.jobs)+len(b.set.stage.queues)+len(l.raw)+len(l.keys)+l.waits != 0 || l.bytes != 0 {
		t.Errorf("left behind: %d jobs, %d queues, %d raw, %d keys, %d waiting with %d bytes", len(b.set.stage.jobs), len(b.set.stage.queues), len(l.raw), len(l.keys), l.waits, l.bytes)
	}
}

// TestRetriesDoNotWaitForWhatASlowTransformLeft parks more of one type than a
// lane claims at once, and holds that another type's retry is made in time.
func TestRetriesDoNotWaitForWhatASlowTransformLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var first atomic.Int64
		var mu sync.Mutex
		var at []time.Duration
		b := newBench(t, testEndpoint(t, func(*Endpoint) {}), 1, 8<<20, func(*egress.Request) (int, time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Duration(time.Now().UnixNano()-first.Load()))
			return []int{500, 200}[min(1, len(at)-1)], 0
		})
		b.transform(batchFunc(func(ctx context.Context, batch []*transforms.Message) {
			_ = linger(ctx, time.Minute)
			for _, m := range batch {
				m.Skipped = "not wanted"
			}
		}), "slow")
		const n = 3 * pageRows
		for range n {
			b.give(t.Context(), &event.Event{ID: uuid.New(), Type: "slow", Payload: []byte("{}"), CommittedAt: time.Now()})
		}
		eventually(t, time.Minute, func() bool {
			l := b.set.all()[0]
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.held) >= pageRows
		})
		first.Store(time.Now().UnixNano())
		b.offer(t.Context(), 1, noKey)
		eventually(t, time.Hour, func() bool { return b.ledger.finished() == n+1 })
		b.stop()
		if len(at) != 2 || at[1] > 5*time.Second {
			t.Errorf("sent at %v, want a retry after a second", at)
		}
	})
}
