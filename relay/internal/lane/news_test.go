package lane

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// listener keeps what lanes tell.
type listener struct {
	mu  sync.Mutex
	all []News
}

func (o *listener) tell(n News) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, n)
}

func (o *listener) turns() []Turn {
	o.mu.Lock()
	defer o.mu.Unlock()
	turns := make([]Turn, len(o.all))
	for i, n := range o.all {
		turns[i] = n.Turn
	}
	return turns
}

func (o *listener) are(turns ...Turn) func() bool {
	return func() bool { return slices.Equal(o.turns(), turns) }
}

// newToldBench is newStandingBench with what is told.
func newToldBench(t *testing.T, ep *Endpoint, standing ledger.Standing, r *receiver) (*bench, *listener) {
	t.Helper()
	o := &listener{}
	b := prepareBench(ep, map[uuid.UUID]ledger.Standing{ep.ID: standing}, 1, 1<<20, r.answer)
	b.set.opts.Tell = o.tell
	b.start(t)
	return b, o
}

func TestEveryTurnOfAnEndpointIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Concurrency, ep.Tenant = 1, "acme" })
		r := newReceiver(503)
		b, o := newToldBench(t, ep, ledger.Standing{}, r)
		b.offer(t.Context(), 20, noKey)
		eventually(t, time.Minute, o.are(TurnFailing))
		if n := o.all[0]; n.Endpoint != ep || n.Failures < failAfter || n.Since.IsZero() {
			t.Errorf("of the failing endpoint is told %+v", n)
		}
		<-time.After(2 * tellEvery) // it is tried again and again meanwhile
		r.set(200)
		eventually(t, time.Hour, func() bool { return b.ledger.finished() == 20 })
		eventually(t, time.Minute, o.are(TurnFailing, TurnRecovered))
		b.ledger.set(ledger.Paused)
		eventually(t, time.Minute, o.are(TurnFailing, TurnRecovered, TurnPaused))
		b.ledger.set(ledger.Enabled)
		eventually(t, time.Minute, o.are(TurnFailing, TurnRecovered, TurnPaused, TurnResumed))
		r.set(http.StatusGone)
		b.offerOne(t.Context(), 100, "")
		eventually(t, time.Minute, o.are(TurnFailing, TurnRecovered, TurnPaused, TurnResumed, TurnDisabled))
		if n := o.all[4]; n.Reason != "it answered 410 Gone" {
			t.Errorf("the endpoint was disabled for %q", n.Reason)
		}
		b.stop()
	})
}

func TestRelayThatTakesOverTellsWhatIsNew(t *testing.T) {
	for status, want := range map[int][]Turn{200: {TurnRecovered}, 503: {}} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ep := testEndpoint(t, func(ep *Endpoint) { ep.Concurrency = 1 })
				b, o := newToldBench(t, ep, ledger.Standing{Failures: failAfter, FailingFor: time.Hour}, newReceiver(status))
				b.offer(t.Context(), 10, noKey)
				<-time.After(5 * time.Minute)
				if diff := cmp.Diff(want, o.turns()); diff != "" {
					t.Errorf("told (-want +got):\n%s", diff)
				}
				b.stop()
			})
		})
	}
}

func TestResumedEndpointThatFailedBeforeHasNotRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Concurrency = 1 })
		r := newReceiver(503)
		b, o := newToldBench(t, ep, ledger.Standing{}, r)
		b.offer(t.Context(), 20, noKey)
		eventually(t, time.Minute, o.are(TurnFailing))
		b.ledger.set(ledger.Paused)
		eventually(t, time.Minute, o.are(TurnFailing, TurnPaused))
		<-time.After(2 * tellEvery)
		b.ledger.set(ledger.Enabled)
		eventually(t, 5*time.Minute, o.are(TurnFailing, TurnPaused, TurnResumed, TurnFailing))
		b.stop()
	})
}

func TestEndpointOfAnotherAddressHasNotRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Concurrency = 1 })
		r := newReceiver(503)
		b, o := newToldBench(t, ep, ledger.Standing{}, r)
		b.offer(t.Context(), 20, noKey)
		eventually(t, time.Minute, o.are(TurnFailing))
		r.set(200)
		b.update(t, at(t, "http://elsewhere.test/hook", func(*Endpoint) {}))
		eventually(t, time.Hour, func() bool { return b.ledger.finished() == 20 })
		if diff := cmp.Diff([]Turn{TurnFailing}, o.turns()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		b.stop()
	})
}

// TestNewsThatGoToTheEndpointTheyAreAboutDoNotMultiply has an endpoint that
// gets the news of itself and turns whenever that makes most of them.
func TestNewsThatGoToTheEndpointTheyAreAboutDoNotMultiply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) {
			ep.Concurrency, ep.Retry = 1, Retry{Schedule: slices.Repeat([]time.Duration{time.Millisecond}, 50)}
		})
		r := newReceiver(503)
		o, more := &listener{}, make(chan struct{}, 1000)
		b := prepareBench(ep, nil, 1, 1<<20, r.answer)
		b.set.opts.Tell = func(n News) {
			o.tell(n)
			if n.Turn == TurnFailing {
				r.set(200)
			} else {
				r.set(503)
			}
			more <- struct{}{}
		}
		b.start(t)
		b.offer(t.Context(), 20, noKey)
		const minutes = 30
		for end, n := time.After(minutes*time.Minute), 0; ; n++ {
			select {
			case <-more:
				for i := range 5 { // even if there were several for each
					b.give(t.Context(), &event.Event{ID: uuid.New(), Type: "posthorn.endpoint.failing", CommittedAt: time.Now(), Position: event.Position{LSN: event.LSN(1000 + n), Index: int64(i)}, Payload: []byte("{}")})
				}
				continue
			case <-end:
			}
			break
		}
		if got := len(o.turns()); got < minutes || got > 2*(minutes+1) {
			t.Errorf("%d news in %d minutes, want at most two a minute and that it turns at all", got, minutes)
		}
		b.stop()
	})
}
