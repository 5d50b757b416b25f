package lane

import (
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// update makes the bench's endpoints those given, which stand as enabled.
func (b *bench) update(t *testing.T, endpoints ...*Endpoint) {
	t.Helper()
	standings := map[uuid.UUID]ledger.Standing{}
	for _, ep := range endpoints {
		standings[ep.ID] = ledger.Standing{State: ledger.Enabled}
	}
	if err := b.set.Update(t.Context(), endpoints, nil, standings); err != nil {
		t.Fatal(err)
	}
}

// at returns an endpoint like the bench's, at another address.
func at(t *testing.T, address string, change func(*Endpoint)) *Endpoint {
	return testEndpoint(t, func(ep *Endpoint) {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		ep.URL = u
		change(ep)
	})
}

func TestEditedEndpointIsSentToByItsNewSelfAndWithWhatWasRendered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var urls, methods []string
		b := newBench(t, testEndpoint(t, func(*Endpoint) {}), 1, 1<<20, func(q *egress.Request) (int, time.Duration) {
			urls, methods = append(urls, q.URL.String()), append(methods, q.Method)
			if len(urls) == 1 {
				return 500, 0
			}
			return 200, 0
		})
		defer b.stop()
		b.offer(t.Context(), 1, noKey)
		synctest.Wait()
		b.update(t, at(t, "http://elsewhere.test/hook", func(ep *Endpoint) { ep.Method = "PUT" }))
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 1 })
		b.offerOne(t.Context(), 1, "")
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 2 })
		for i, want := range []string{"POST http://receiver.test/hook", "POST http://elsewhere.test/hook", "PUT http://elsewhere.test/hook"} {
			if got := methods[i] + " " + urls[i]; got != want {
				t.Errorf("attempt %d was %s, not %s", i+1, got, want)
			}
		}
	})
}

func TestRemovedEndpointEndsWhatIsInFlightAndStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made atomic.Int32
		b := newBench(t, testEndpoint(t, func(ep *Endpoint) { ep.Concurrency = 2 }), 1, 1<<20, func(*egress.Request) (int, time.Duration) {
			made.Add(1)
			return 200, 2 * time.Second
		})
		defer b.stop()
		b.offer(t.Context(), 5, noKey)
		synctest.Wait()
		b.update(t)
		if b.set.Leaving() != 1 || b.set.InFlight() != 2 {
			t.Errorf("%d lanes are leaving with %d requests in flight, want 1 and 2", b.set.Leaving(), b.set.InFlight())
		}
		eventually(t, time.Minute, func() bool { return b.set.Leaving() == 0 })
		time.Sleep(time.Minute) // of the bubble: nothing more is made
		synctest.Wait()
		if made.Load() != 2 || b.ledger.finished() != 2 || b.ledger.waiting() != 3 {
			t.Errorf("%d requests were made, %d deliveries ended and %d are pending, want 2, 2 and 3", made.Load(), b.ledger.finished(), b.ledger.waiting())
		}
		if len(b.set.byID)+len(b.set.seen)+len(b.set.Statuses()) != 0 || b.set.Buffered() != 0 {
			t.Errorf("%d lanes and %d bytes are left", len(b.set.byID), b.set.Buffered())
		}
	})
}

// TestEndpointThatComesBackIsSentToOnce: what is in flight while an endpoint is
// gone for a moment is not sent again.
func TestEndpointThatComesBackIsSentToOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Concurrency = 2 })
		var made atomic.Int32
		b := newBench(t, ep, 1, 1<<20, func(*egress.Request) (int, time.Duration) {
			made.Add(1)
			return 200, 2 * time.Second
		})
		defer b.stop()
		b.offer(t.Context(), 5, noKey)
		synctest.Wait()
		b.update(t)
		time.Sleep(100 * time.Millisecond)
		b.update(t, testEndpoint(t, func(ep *Endpoint) { ep.Concurrency = 3 }))
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 5 })
		if made.Load() != 5 || b.set.Leaving() != 0 {
			t.Errorf("%d requests for 5 events, %d lanes are leaving", made.Load(), b.set.Leaving())
		}
	})
}

func TestNewEndpointBeginsWithItsBacklogAndStanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := testEndpoint(t, func(*Endpoint) {}), testEndpoint(t, func(ep *Endpoint) { ep.ID, ep.Name = event.EndpointID("f"), "f" })
		b := newBench(t, first, 1, 1<<20, func(*egress.Request) (int, time.Duration) { return 200, 0 })
		defer b.stop()
		err := b.set.Update(t.Context(), []*Endpoint{first, second}, nil, map[uuid.UUID]ledger.Standing{second.ID: {State: ledger.Paused}})
		if err != nil {
			t.Fatal(err)
		}
		e := &event.Event{ID: event.EndpointID("1"), Type: "t", CommittedAt: time.Now(), Payload: []byte("{}")}
		b.set.Admit(e)
		b.set.Share(e, 1)
		b.set.Enqueue(t.Context(), 1, event.DeliveryID(e.ID, second.ID), e)
		eventually(t, time.Minute, func() bool { return b.ledger.waiting() == 1 })
		b.update(t, second, first) // in another order
		if s := b.set.Statuses(); s[0].Endpoint != "f" || s[0].State != ledger.Paused || s[0].Pending != 1 || s[1].State != ledger.Enabled {
			t.Errorf("they stand as %+v", s)
		}
	})
}

// TestEndpointThatCannotBeUsedKeepsItsEvents: they wait until it can be.
func TestEndpointThatCannotBeUsedKeepsItsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made atomic.Int32
		b := newBench(t, testEndpoint(t, func(ep *Endpoint) { ep.Broken = "no profile of that name" }), 1, 1<<20, func(*egress.Request) (int, time.Duration) {
			made.Add(1)
			return 200, 0
		})
		defer b.stop()
		b.offer(t.Context(), 3, noKey)
		time.Sleep(time.Minute)
		synctest.Wait()
		if made.Load() != 0 || b.ledger.waiting() != 3 {
			t.Fatalf("%d requests were made, %d are pending", made.Load(), b.ledger.waiting())
		}
		b.update(t, testEndpoint(t, func(*Endpoint) {}))
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 3 })
	})
}
