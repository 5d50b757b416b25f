package route

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/transforms"
)

func TestTailRoutesItselfOncePastWhatWasRecorded(t *testing.T) {
	filter, err := transforms.ParseFilter(`type == "a"`)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		filter *transforms.Filter
		direct bool
	}{
		{"no filter", nil, true},
		{"a filter, which may take its time", filter, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lanes := &taker{}
				r := New(Options{
					Endpoints: []Endpoint{{ID: event.EndpointID("e"), Patterns: []string{"a"}, Filter: tt.filter}},
					Lanes:     lanes, Positions: lanes, Recorded: event.Position{LSN: 5},
				})
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- r.Run(ctx) }()
				r.Passed(6)
				synctest.Wait() // for Run to be told
				if got := r.direct != nil; got != tt.direct {
					t.Errorf("the tail routes: %t", got)
				}
				r.Offer(&event.Event{ID: event.EndpointID("1"), Type: "a", Payload: []byte("{}"), Tx: &event.Tx{}, Position: event.Position{LSN: 7}})
				if tt.direct && lanes.n != 1 {
					t.Errorf("%d deliveries when the offer returned, not 1", lanes.n)
				}
				synctest.Wait()
				if lanes.n != 1 {
					t.Errorf("%d deliveries in the end, not 1", lanes.n)
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestEventsAfterAChangeGoToWhatTheEndpointsAreThen, and those before it to
// what they were, on whichever goroutine events are routed.
func TestEventsAfterAChangeGoToWhatTheEndpointsAreThen(t *testing.T) {
	for _, direct := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			lanes := &taker{}
			before, after := []Endpoint{{ID: event.EndpointID("e"), Patterns: []string{"a"}}}, []Endpoint{{ID: event.EndpointID("f"), Patterns: []string{"b"}}, {ID: event.EndpointID("g"), Patterns: []string{"b"}}}
			asked := 0
			r := New(Options{
				Endpoints: before, Lanes: lanes, Positions: lanes, Logger: slog.New(slog.DiscardHandler),
				Refresh: func(context.Context, int64) ([]Endpoint, error) {
					switch asked++; asked {
					case 1:
						return nil, errors.New("the ledger is away")
					case 2:
						return after, nil
					}
					return nil, nil // nothing changed
				},
			})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- r.Run(ctx) }()
			if direct {
				r.Passed(6)
				synctest.Wait()
			}
			offer := func(types ...string) {
				for _, typ := range types {
					r.Offer(&event.Event{ID: event.EndpointID(typ), Type: typ, Payload: []byte("{}"), Tx: &event.Tx{}, Position: event.Position{LSN: 7}})
				}
			}
			offer("a", "b") // 1 delivery
			r.Changed(1)
			offer("a", "b", "b")    // 4
			time.Sleep(time.Minute) // of the bubble: for the second try
			synctest.Wait()
			if lanes.n != 5 || asked != 2 {
				t.Errorf("%d deliveries, want 5; asked %d times", lanes.n, asked)
			}
			r.Changed(1)
			offer("b")
			synctest.Wait()
			if got := r.direct != nil; lanes.n != 7 || !got {
				t.Errorf("%d deliveries, want 7; the tail routes: %t", lanes.n, got)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
