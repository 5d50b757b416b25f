package lane

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/signing"
	"github.com/posthorn/posthorn/transforms"
)

// benchPayload is JSON text of 512 bytes.
var benchPayload = []byte(`{"n": "` + strings.Repeat("x", 503) + `"}`)

func benchTemplate(b *testing.B, text string) *transforms.Template {
	b.Helper()
	t, err := transforms.ParseTemplate(text)
	if err != nil {
		b.Fatal(err)
	}
	return t
}

func benchEndpoint(b *testing.B, change func(*Endpoint)) *Endpoint {
	b.Helper()
	u, err := url.Parse("http://receiver.test/hook")
	if err != nil {
		b.Fatal(err)
	}
	ep := &Endpoint{
		ID: event.EndpointID("e"), Name: "e", URL: u, Method: "POST", ContentType: "application/json", UserAgent: "posthorn",
		Body: benchTemplate(b, "{{ .Payload }}"), Timeout: 5 * time.Second, Concurrency: 64,
	}
	change(ep)
	return ep
}

func benchEvent(i int) *event.Event {
	e := &event.Event{
		ID: event.IDOf(fmt.Sprint(i)), Type: "invoice.paid", Key: fmt.Sprint("key-", i%1000), CommittedAt: time.Now(),
		Position: event.Position{LSN: event.LSN(i + 1)}, Payload: benchPayload,
	}
	e.CreatedAt = e.CommittedAt
	return e
}

func BenchmarkRender(b *testing.B) {
	for _, bb := range []struct {
		name   string
		change func(*Endpoint)
	}{
		{"payload", func(*Endpoint) {}},
		{"stringify", func(ep *Endpoint) { ep.Form = Stringify }},
		{"template and two headers", func(ep *Endpoint) {
			ep.Body = benchTemplate(b, `{"event": {{ json .Event.Type }}, "data": {{ .Payload }}}`)
			ep.Headers = []Header{{"X-Event", benchTemplate(b, "{{ .Event.Type }}")}, {"X-Delivery", benchTemplate(b, "{{ .Delivery.ID }}")}}
		}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			ep, e := benchEndpoint(b, bb.change), benchEvent(0)
			id := event.DeliveryID(e.ID, ep.ID)
			b.ReportAllocs()
			b.SetBytes(int64(len(benchPayload)))
			for b.Loop() {
				if _, err := ep.render(id, e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// answering answers 200 at once.
type answering struct{}

func (answering) Send(context.Context, *egress.Request) egress.Response {
	return egress.Response{Status: 200}
}

// counting is a ledger that commits at once, and says when it has what it wants.
type counting struct {
	*fakeLedger
	mu      sync.Mutex
	n, want int
	done    chan struct{}
}

func (c *counting) Put(r *ledger.Record) {
	r.Committed()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n++; c.n == c.want {
		close(c.done)
	}
}

// One delivery from the router's hand to the ledger's: render, sign, and a
// request that is answered at once.
func BenchmarkAttempt(b *testing.B) {
	signer, err := signing.New(signing.Options{Scheme: "hmac", Header: "X-Signature"})
	if err != nil {
		b.Fatal(err)
	}
	key, err := signing.ParseKey("hmac", "secret")
	if err != nil {
		b.Fatal(err)
	}
	for _, bb := range []struct {
		name    string
		ordered bool
		buffer  int
		traced  bool
	}{{"ordering none", false, 16 << 20, false}, {"ordering key", true, 16 << 20, false}, {"one after the other", false, 1, false}, {"traced", false, 16 << 20, true}} {
		b.Run(bb.name, func(b *testing.B) {
			ep := benchEndpoint(b, func(ep *Endpoint) {
				ep.Ordered = bb.ordered
				ep.Signatures = []Signature{&BodySignature{Signer: signer, Keys: []Key[signing.Key]{{Key: key}}}}
			})
			c := &counting{fakeLedger: newFakeLedger(1), want: b.N, done: make(chan struct{})}
			set := NewSet(Options{
				Endpoints: []*Endpoint{ep}, Store: c, Sender: answering{}, Permit: func() bool { return true },
				Buffer: int64(bb.buffer), MaxHold: time.Minute, Meter: noMeter{}, Logger: slog.New(slog.DiscardHandler),
			}, nil, nil)
			if bb.traced {
				set.opts.Tracer, _ = startTracer(b)
			}
			set.Passed()
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = set.Run(ctx)
			}()
			events := make([]event.Event, min(b.N, 1<<16)) // each comes back long after it is settled
			for i := range events {
				e := benchEvent(i)
				events[i].ID, events[i].Type, events[i].Key, events[i].Payload = e.ID, e.Type, e.Key, e.Payload
				events[i].CommittedAt, events[i].CreatedAt = e.CommittedAt, e.CommittedAt
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				e := &events[i%len(events)]
				e.Position.LSN = event.LSN(i + 1)
				for !set.Admit(e) {
					<-set.Room()
				}
				set.Share(e, 1)
				set.Enqueue(ctx, 0, event.DeliveryID(e.ID, ep.ID), e)
			}
			<-c.done
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			cancel()
			<-ended
		})
	}
}
