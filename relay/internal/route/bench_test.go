package route

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// taker is lanes and positions that take everything and keep nothing.
type taker struct{ n int }

func (*taker) Admit(*event.Event) bool                                        { return true }
func (*taker) Room() <-chan struct{}                                          { return nil }
func (*taker) Share(*event.Event, int)                                        {}
func (*taker) Disabled(int) bool                                              { return false }
func (t *taker) Enqueue(context.Context, int, uuid.UUID, *event.Event)        { t.n++ }
func (t *taker) Refuse(context.Context, int, uuid.UUID, *event.Event, string) { t.n++ }
func (*taker) Known(*event.Event)                                             {}
func (*taker) Passed()                                                        {}
func (*taker) Add(*event.Tx, int)                                             {}
func (*taker) Settle(*event.Tx, int)                                          {}

// Routing one event, with its deliveries' ids, until the lanes have them.
func BenchmarkRoute(b *testing.B) {
	many := func(n int, change func(i int, ep *Endpoint)) []Endpoint {
		all := make([]Endpoint, n)
		for i := range all {
			all[i] = Endpoint{ID: event.EndpointID(fmt.Sprint(i)), Patterns: []string{"*"}}
			change(i, &all[i])
		}
		return all
	}
	for _, bb := range []struct {
		name      string
		endpoints []Endpoint
		want      int
	}{
		{"1 endpoint", many(1, func(int, *Endpoint) {}), 1},
		{"100 endpoints", many(100, func(int, *Endpoint) {}), 100},
		{"10000 types, one matches", many(10_000, func(i int, ep *Endpoint) { ep.Patterns = []string{fmt.Sprintf("invoice.%d", i)} }), 1},
		{"10000 tenants, one matches", many(10_000, func(i int, ep *Endpoint) { ep.Tenant = fmt.Sprintf("tenant-%d", i) }), 1},
	} {
		b.Run(bb.name, func(b *testing.B) {
			lanes := &taker{}
			r := New(Options{Endpoints: bb.endpoints, Lanes: lanes, Positions: lanes})
			e := &event.Event{ID: event.EndpointID("e"), Type: "invoice.4711", Tenant: "tenant-4711", Tx: &event.Tx{}}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				r.routeNew(b.Context(), item{event: e})
				n++
			}
			if lanes.n != n*bb.want {
				b.Fatalf("%d deliveries of %d events, want %d for each", lanes.n, n, bb.want)
			}
		})
	}
}

// From the tail's offer until the lanes have it.
func BenchmarkOffer(b *testing.B) {
	lanes := &counted{done: make(chan struct{})}
	r := New(Options{Endpoints: []Endpoint{{ID: event.EndpointID("e"), Patterns: []string{"*"}}}, Lanes: lanes, Positions: lanes})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.Run(ctx)
	}()
	e := &event.Event{ID: event.EndpointID("e"), Type: "invoice.paid", Tx: &event.Tx{}, Position: event.Position{LSN: 1}}
	lanes.want = b.N
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		r.Offer(e)
	}
	<-lanes.done
	b.StopTimer()
	cancel()
	<-ended
}

// counted is a taker that says when it has what it wants.
type counted struct {
	taker
	want int
	done chan struct{}
}

func (c *counted) Enqueue(ctx context.Context, at int, id uuid.UUID, e *event.Event) {
	c.taker.Enqueue(ctx, at, id, e)
	if c.n == c.want {
		close(c.done)
	}
}
