package route

import (
	"context"
	"testing"
	"testing/synctest"

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
