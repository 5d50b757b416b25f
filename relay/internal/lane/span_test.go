package lane

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/posthorn/posthorn/relay/httpsig"
	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/trace"
)

const (
	hostTrace  = "0af7651916cd43dd8448eb211c80319c"
	hostSpan   = "b7ad6b7169203331"
	hostParent = "00-" + hostTrace + "-" + hostSpan + "-01"
)

// startTracer returns a tracer and a function that ends it and returns what it
// exported.
func startTracer(t testing.TB) (*trace.Tracer, func() []*otlp.Span) {
	t.Helper()
	var mu sync.Mutex
	var spans []*otlp.Span
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		var export otlp.TracesData
		if err == nil {
			err = proto.Unmarshal(body, &export)
		}
		if err != nil {
			t.Errorf("no spans: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, resource := range export.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				spans = append(spans, scope.GetSpans()...)
			}
		}
	}))
	u, err := url.Parse(collector.URL)
	if err != nil {
		t.Fatal(err)
	}
	tracer := trace.Start(trace.Options{URL: u, Service: "test", Sample: 1, Logger: slog.New(slog.DiscardHandler)})
	stop := sync.OnceFunc(func() {
		tracer.Close(context.Background())
		collector.Close()
	})
	t.Cleanup(stop)
	return tracer, func() []*otlp.Span {
		stop()
		return spans
	}
}

// attribute returns what a span says of itself.
func attribute(s *otlp.Span, name string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == name {
			if n := a.GetValue().GetIntValue(); n != 0 {
				return fmt.Sprint(n)
			}
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

func TestAttemptsSpanIsTheReceiversParent(t *testing.T) {
	const state = "vendor=1"
	headers := func(parent, state string) []byte {
		return fmt.Appendf(nil, `{"traceparent": %q, "tracestate": %q}`, parent, state)
	}
	unsampled := hostParent[:len(hostParent)-1] + "0"
	for name, tt := range map[string]struct {
		headers []byte
		change  func(*Endpoint)
		off     bool
		parent  string // the header, or its trace where it ends in "-"; "new-" for one that begins here
		state   []string
		spans   int
		under   string // the span's parent
	}{
		"the host's trace":     {headers: headers(hostParent, state), parent: "00-" + hostTrace + "-", state: []string{state}, spans: 1, under: hostSpan},
		"no trace":             {parent: "new-", spans: 1},
		"a trace that is none": {headers: headers("00-1-2-01", state), parent: "new-", spans: 1},
		"a state that is none": {headers: headers(hostParent, "==="), parent: "00-" + hostTrace + "-", spans: 1, under: hostSpan},
		"not sampled":          {headers: headers(unsampled, state), parent: unsampled, state: []string{state}},
		"the endpoint's own": {
			headers: headers(unsampled, state),
			change:  func(ep *Endpoint) { ep.Headers = []Header{{"traceParent", template(t, hostParent)}} },
			parent:  hostParent, spans: 1, under: hostSpan,
		},
		"the endpoint's own state": {
			headers: headers(hostParent, state),
			change:  func(ep *Endpoint) { ep.Headers = []Header{{"tracestate", template(t, "own=1")}} },
			parent:  "00-" + hostTrace + "-", state: []string{"own=1"}, spans: 1, under: hostSpan,
		},
		"the endpoint's own state without a trace": {
			change: func(ep *Endpoint) { ep.Headers = []Header{{"tracestate", template(t, "own=1")}} },
			parent: "new-", state: []string{"own=1"}, spans: 1,
		},
		"the endpoint's own, which is none": {
			headers: headers(hostParent, state),
			change:  func(ep *Endpoint) { ep.Headers = []Header{{"Traceparent", template(t, "-")}} },
			parent:  "-", spans: 1,
		},
		"off": {headers: headers(hostParent, state), off: true, parent: hostParent},
	} {
		t.Run(name, func(t *testing.T) {
			var sent *egress.Request
			ep := testEndpoint(t, func(ep *Endpoint) {
				ep.Traced = !tt.off
				if tt.change != nil {
					tt.change(ep)
				}
			})
			b := prepareBench(ep, nil, 1, 1<<20, func(q *egress.Request) (int, time.Duration) { sent = q; return 200, 0 })
			tracer, spans := startTracer(t)
			if !tt.off {
				b.set.opts.Tracer = tracer
			}
			e := &event.Event{ID: uuid.New(), Type: "a.b", Payload: []byte(`{}`), Headers: tt.headers, CommittedAt: time.Now()}
			if o := b.set.all()[0].attempt(t.Context(), newDelivery(event.DeliveryID(e.ID, ep.ID), e)); o.state != ledger.Delivered {
				t.Fatalf("got %+v", o)
			}
			all := spans()
			if len(all) != tt.spans {
				t.Fatalf("%d spans, want %d", len(all), tt.spans)
			}
			want := []string{tt.parent}
			if tt.spans > 0 {
				if trace := hex.EncodeToString(all[0].GetTraceId()); tt.parent == "new-" {
					want[0] = "00-" + trace + "-"
				}
				if strings.HasSuffix(want[0], "-") && len(want[0]) > 1 {
					want[0] += hex.EncodeToString(all[0].GetSpanId()) + "-01"
				}
				if under := hex.EncodeToString(all[0].GetParentSpanId()); under != tt.under {
					t.Errorf("the span is under %q, want %q", under, tt.under)
				}
			}
			if got := sent.Header.Values("traceparent"); !slices.Equal(got, want) {
				t.Errorf("traceparent: got %q, want %q", got, want)
			}
			if got := sent.Header.Values("tracestate"); !slices.Equal(got, tt.state) {
				t.Errorf("tracestate: got %q, want %q", got, tt.state)
			}
		})
	}
}

// answers gives one answer after the other.
type answers struct {
	all  []egress.Response
	sent []*egress.Request
}

func (a *answers) Send(_ context.Context, q *egress.Request) egress.Response {
	a.sent = append(a.sent, q)
	return a.all[len(a.sent)-1]
}

func TestEachAttemptIsASpan(t *testing.T) {
	a := &answers{all: []egress.Response{{Status: 500}, {Status: 302}, {Err: errors.New("odd")}, {Err: &egress.BlockedError{}}, {Err: egress.ErrNotPermitted}, {Status: 204}}}
	ep := testEndpoint(t, func(ep *Endpoint) { ep.Traced = true })
	b := prepareBench(ep, nil, 1, 1<<20, nil)
	tracer, spans := startTracer(t)
	b.set.opts.Sender, b.set.opts.Tracer = a, tracer
	e := &event.Event{ID: uuid.New(), Type: "a.b", Payload: []byte(`{}`), Headers: fmt.Appendf(nil, `{"traceparent": %q}`, hostParent), CommittedAt: time.Now()}
	d := newDelivery(event.DeliveryID(e.ID, ep.ID), e)
	for range a.all {
		if o := b.set.all()[0].attempt(t.Context(), d); !o.abandoned {
			d.attempts++
		}
		if kept := egress.Header(d.request.Load().Headers).Values("Traceparent"); !slices.Equal(kept, []string{hostParent}) {
			t.Errorf("the rendered request has %q, want the host's", kept)
		}
	}
	var got, ids []string
	for i, s := range spans() {
		got = append(got, fmt.Sprintf("%s %d %s %s", attribute(s, "posthorn.attempt"), s.GetStatus().GetCode(), attribute(s, "error.type"), s.GetStatus().GetMessage()))
		ids = append(ids, hex.EncodeToString(s.GetSpanId()))
		if parent := a.sent[i].Header.Get("Traceparent"); parent != "00-"+hostTrace+"-"+ids[i]+"-01" {
			t.Errorf("attempt %d: %s, for the span %s", i+1, parent, ids[i])
		}
	}
	want := []string{"1 2 500 ", "2 2 302 ", "3 2 _OTHER odd", "4 2 blocked " + (&egress.BlockedError{}).Error(), "5 2 abandoned cut off, to be made again", "5 0  "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != len(a.all) {
		t.Errorf("spans share an id: %q", ids)
	}
}

func TestSignaturesCoverTheSpansHeader(t *testing.T) {
	signer, err := httpsig.New(httpsig.Options{Algorithm: "hmac-sha256", Components: []string{"content-digest", "traceparent"}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := httpsig.ParseKey("hmac-sha256", "a secret of some length")
	if err != nil {
		t.Fatal(err)
	}
	a := &answers{all: []egress.Response{{Status: 200}}}
	ep := testEndpoint(t, func(ep *Endpoint) {
		ep.Signatures = []Signature{&MessageSignature{Signer: signer, Keys: []Key[httpsig.Key]{{Key: key}}}}
	})
	b := prepareBench(ep, nil, 1, 1<<20, nil)
	b.set.opts.Sender = a
	b.set.opts.Tracer, _ = startTracer(t)
	e := &event.Event{ID: uuid.New(), Payload: []byte(`{}`), CommittedAt: time.Now()}
	b.set.all()[0].attempt(t.Context(), newDelivery(event.DeliveryID(e.ID, ep.ID), e))
	if len(a.sent) != 1 {
		t.Fatal("nothing was sent")
	}
	q := a.sent[0]
	if err := signer.Verify(httpsig.Message{Method: q.Method, URL: q.URL, Header: q.Header.HTTP(), Body: q.Body}, []httpsig.Key{key}, time.Now()); err != nil {
		t.Error(err)
	}
}

func TestWithoutTracerSpansCostNothing(t *testing.T) {
	ep := testEndpoint(t, func(*Endpoint) {})
	l := prepareBench(ep, nil, 1, 1<<20, nil).set.all()[0]
	d := newDelivery(uuid.New(), &event.Event{Headers: []byte(`{"traceparent": "` + hostParent + `"}`)})
	request := &ledger.Request{Headers: [][2]string{{"Traceparent", hostParent}}}
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() { end(l.span(d, request, now), egress.Response{Status: 500}, false) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}
