package lane

import (
	"net/url"
	"slices"
	"sync"
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
	b.set.Update(t.Context(), endpoints, nil, standings, b.set.Holds())
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
		b.set.Update(t.Context(), []*Endpoint{first, second}, nil, map[uuid.UUID]ledger.Standing{second.ID: {State: ledger.Paused}}, b.set.Holds())
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

// TestRateLimitThatChangedHoldsNobody: neither what waits for a slow one, nor
// the end of a lane that is gone.
func TestRateLimitThatChangedHoldsNobody(t *testing.T) {
	for name, next := range map[string]func(t *testing.T, b *bench){
		"a higher limit": func(t *testing.T, b *bench) { b.update(t, testEndpoint(t, func(ep *Endpoint) { ep.RateLimit = 100 })) },
		"no limit":       func(t *testing.T, b *bench) { b.update(t, testEndpoint(t, func(*Endpoint) {})) },
		"no endpoint":    func(t *testing.T, b *bench) { b.update(t) },
		"the same limit": func(t *testing.T, b *bench) {
			b.update(t, testEndpoint(t, func(ep *Endpoint) { ep.RateLimit = 0.001 }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, testEndpoint(t, func(ep *Endpoint) { ep.RateLimit = 0.001 }), 1, 1<<20, func(*egress.Request) (int, time.Duration) { return 200, 0 })
				defer b.stop()
				b.offer(t.Context(), 5, noKey)
				synctest.Wait()
				next(t, b)
				time.Sleep(time.Second)
				synctest.Wait()
				finished, left := b.ledger.finished(), b.set.Leaving()
				switch name {
				case "no endpoint":
					if left != 0 || b.ledger.waiting() != 4 {
						t.Errorf("%d lanes are leaving after a second, %d deliveries are parked", left, b.ledger.waiting())
					}
				case "the same limit":
					if finished != 1 {
						t.Errorf("%d deliveries of 5 were made within the limit, not 1", finished)
					}
				default:
					if finished != 5 {
						t.Errorf("%d deliveries of 5 were made within a second", finished)
					}
				}
			})
		})
	}
}

// TestDisablingAndEnablingIsToldOnce, whoever of the lane and the ledger's
// watch is first, and whether the lane is still there.
func TestDisablingAndEnablingIsToldOnce(t *testing.T) {
	for _, slow := range []bool{true, false} { // requests keep the lane there
		synctest.Test(t, func(t *testing.T) {
			ep := testEndpoint(t, func(*Endpoint) {})
			b := prepareBench(ep, nil, 1, 1<<20, func(*egress.Request) (int, time.Duration) {
				if slow {
					return 200, 4 * time.Second
				}
				return 200, 0
			})
			var told []Turn
			var mu sync.Mutex
			b.set.opts.Tell = func(n News) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, n.Turn)
			}
			b.start(t)
			defer b.stop()
			b.offer(t.Context(), 1, noKey)
			synctest.Wait()
			b.ledger.set(ledger.Disabled)
			b.set.Update(t.Context(), nil, nil, map[uuid.UUID]ledger.Standing{ep.ID: {State: ledger.Disabled}}, b.set.Holds())
			time.Sleep(time.Second)
			if left := b.set.Leaving(); (left > 0) != slow {
				t.Errorf("%d lanes are leaving", left)
			}
			b.ledger.set(ledger.Enabled)
			again := testEndpoint(t, func(ep *Endpoint) { ep.Again = true })
			b.update(t, again)
			time.Sleep(time.Minute)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if want := []Turn{TurnDisabled, TurnResumed}; !slices.Equal(told, want) {
				t.Errorf("told %v, want %v", told, want)
			}
		})
	}
}

// TestBacklogOfAnEndpointThatIsBackIsCountedBesideTheRouter: what Update is told
// may be less than there is.
func TestBacklogOfAnEndpointThatIsBackIsCountedBesideTheRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := testEndpoint(t, func(ep *Endpoint) { ep.Ordered = true })
		b := newBench(t, ep, 1, 1<<20, func(*egress.Request) (int, time.Duration) { return 200, 0 })
		defer b.stop()
		b.ledger.set(ledger.Paused)
		time.Sleep(time.Second)
		b.offer(t.Context(), 30, func(i int) string { return string(rune('a' + i%3)) })
		eventually(t, time.Minute, func() bool { return b.ledger.waiting() == 30 })
		b.set.Update(t.Context(), nil, nil, nil, 0)
		eventually(t, time.Minute, func() bool { return b.set.Leaving() == 0 })
		b.ledger.set(ledger.Enabled)
		b.set.Update(t.Context(), []*Endpoint{testEndpoint(t, func(ep *Endpoint) { ep.Ordered = true })},
			map[uuid.UUID]ledger.Backlog{ep.ID: {Rows: 1}}, map[uuid.UUID]ledger.Standing{ep.ID: {State: ledger.Enabled}}, b.set.Holds())
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 30 })
		eventually(t, time.Minute, func() bool { return b.set.Statuses()[0].Pending == 0 })
		b.offerOne(t.Context(), 31, "a")
		eventually(t, time.Minute, func() bool { return b.ledger.finished() == 31 })
		if b.ledger.waiting() != 0 || b.set.all()[0].allBlocked {
			t.Errorf("%d are parked, all keys blocked: %t", b.ledger.waiting(), b.set.all()[0].allBlocked)
		}
	})
}

func TestEndpointThatComesBackKeepsItsRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limited := func(ep *Endpoint) { ep.RateLimit = 1 }
		var made atomic.Int32
		b := newBench(t, testEndpoint(t, limited), 1, 1<<20, func(*egress.Request) (int, time.Duration) {
			made.Add(1)
			return 200, 0
		})
		defer b.stop()
		b.update(t)
		b.update(t, testEndpoint(t, limited)) // before its lane is gone
		b.offer(t.Context(), 100, noKey)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := made.Load(); n > 3 {
			t.Errorf("%d requests in 2s at one a second", n)
		}
	})
}

func TestEndpointThatComesBackIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, testEndpoint(t, func(*Endpoint) {}), 1, 1<<20, func(*egress.Request) (int, time.Duration) { return 500, 0 })
		defer b.stop()
		b.offer(t.Context(), 100, noKey)
		eventually(t, time.Minute, func() bool { return b.set.Statuses()[0].Failing })
		b.update(t)
		b.update(t, testEndpoint(t, func(*Endpoint) {}))
		if b.set.Statuses()[0].Failing {
			t.Error("it is failing as it was before")
		}
	})
}

// TestEndpointEnabledAfter410IsMatchedAtOnce: it was disabled and enabled through
// the API between two looks, so that its lane never left.
func TestEndpointEnabledAfter410IsMatchedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, testEndpoint(t, func(*Endpoint) {}), 1, 1<<20, func(*egress.Request) (int, time.Duration) { return 410, 0 })
		defer b.stop()
		older := b.set.Holds()
		b.offer(t.Context(), 1, noKey)
		eventually(t, time.Minute, func() bool { return b.set.Disabled(0) })
		enabled := map[uuid.UUID]ledger.Standing{testEndpoint(t, func(*Endpoint) {}).ID: {State: ledger.Enabled}}
		b.set.Update(t.Context(), []*Endpoint{testEndpoint(t, func(*Endpoint) {})}, nil, enabled, older)
		if !b.set.Disabled(0) {
			t.Error("what was read before its 410 enables it")
		}
		b.update(t, testEndpoint(t, func(*Endpoint) {}))
		if b.set.Disabled(0) {
			t.Error("events pass it after it was enabled")
		}
	})
}

// TestAttemptIsJudgedByTheEndpointItWasMadeWith: the one that the lane has when
// the answer comes may be of no use.
func TestAttemptIsJudgedByTheEndpointItWasMadeWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := testEndpoint(t, func(*Endpoint) {})
		b := newBench(t, good, 1, 1<<20, func(*egress.Request) (int, time.Duration) { return 500, time.Second })
		defer b.stop()
		b.offer(t.Context(), 1, noKey)
		synctest.Wait()
		b.update(t, &Endpoint{ID: good.ID, Name: good.Name, URL: good.URL, Broken: "its profile is gone"})
		time.Sleep(time.Minute)
		synctest.Wait()
		if b.ledger.finished() != 0 || b.ledger.waiting() != 1 {
			t.Errorf("%d failed for good, %d wait", b.ledger.finished(), b.ledger.waiting())
		}
	})
}
