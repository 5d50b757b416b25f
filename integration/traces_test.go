package integration

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// otlpReceiver is a collector that takes spans by OTLP over HTTP.
type otlpReceiver struct {
	url string

	mu      sync.Mutex
	spans   []*otlp.Span
	headers []http.Header // of each request
}

func newOTLPReceiver(t testing.TB) *otlpReceiver {
	t.Helper()
	c := &otlpReceiver{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // the relay was killed while it sent
		}
		var export collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &export); err != nil || req.URL.Path != "/v1/traces" {
			t.Errorf("%s: no spans: %v", req.URL.Path, err)
			http.Error(w, "no spans", http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.headers = append(c.headers, req.Header)
		for _, resource := range export.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf") // of an answer that says nothing
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// of returns the spans of the events of a type, in the order of their start.
func (c *otlpReceiver) of(eventType string) []*otlp.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*otlp.Span
	for _, s := range c.spans {
		if spanAttribute(s, "posthorn.event.type").GetStringValue() == eventType {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *otlp.Span) int {
		return cmp.Compare(a.GetStartTimeUnixNano(), b.GetStartTimeUnixNano())
	})
	return all
}

func (c *otlpReceiver) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.spans)
}

func spanAttribute(s *otlp.Span, name string) *common.AnyValue {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == name {
			return a.GetValue()
		}
	}
	return nil
}

const (
	hostTrace  = "0af7651916cd43dd8448eb211c80319c"
	hostSpan   = "b7ad6b7169203331"
	hostParent = "00-" + hostTrace + "-" + hostSpan + "-01"
)

// traceHeaders is the trace context of each request, by the event's n.
type traceHeaders struct {
	mu  sync.Mutex
	all map[int][]string
}

func (h *traceHeaders) note(q *request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all = map[int][]string{}
	}
	text := strings.Join(q.Header.Values("Traceparent"), ", ")
	if state := q.Header.Values("Tracestate"); state != nil {
		text += " " + strings.Join(state, ", ")
	}
	h.all[q.Event.N] = append(h.all[q.Event.N], text)
}

// tracedEvents commits one event of each kind: within the host's trace and
// failing at first, in no trace, in a trace that is not sampled, and with what
// is none.
func tracedEvents(t *testing.T, db *database) {
	t.Helper()
	for n, e := range []struct{ eventType, headers string }{
		{"traced.host", `{"traceparent": "` + hostParent + `", "tracestate": "vendor=1"}`},
		{"traced.none", ``},
		{"traced.unsampled", `{"traceparent": "` + hostParent[:len(hostParent)-1] + `0"}`},
		{"traced.odd", `{"traceparent": "00-` + strings.Repeat("x", 5000) + `"}`},
	} {
		db.exec(t, `INSERT INTO posthorn.outbox (type, payload, headers) VALUES ($1, json_build_object('n', $2::int), NULLIF($3, '')::json)`, e.eventType, n+1, e.headers)
	}
}

const tracedEndpoint = `
endpoints:
  - {name: plain, url: "${RECEIVER}/plain?key=hunter2", events: ["traced.*"], secret: "${SECRET}", retry: {schedule: [100ms]}}
`

func TestTracesJoinTheHostsTraceToTheReceivers(t *testing.T) {
	db := newDatabase(t)
	rcv := newReceiver(t, "/plain")
	otel := newOTLPReceiver(t)
	var arrived traceHeaders
	plain := rcv.endpoints["/plain"]
	plain.answers(func(q *request) int {
		arrived.note(q)
		if q.Event.N == 1 && q.Try == 1 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	r := startRelay(t, db, rcv, `traces: {url: "`+otel.url+`", headers: {X-Key: hunter2}}`+tracedEndpoint)
	r.waitReady()
	tracedEvents(t, db)
	plain.waitDelivered(4, time.Minute)
	waitSettled(t, db)
	if code, _ := r.stop(); code != 0 { // what was not exported is now
		t.Errorf("exit code: got %d, want 0", code)
	}

	host := otel.of("traced.host")
	if len(host) != 2 {
		t.Fatalf("%d spans of the host's event, want 2", len(host))
	}
	for i, s := range host {
		id := hex.EncodeToString(s.GetSpanId())
		if hex.EncodeToString(s.GetTraceId()) != hostTrace || hex.EncodeToString(s.GetParentSpanId()) != hostSpan || s.GetTraceState() != "vendor=1" {
			t.Errorf("attempt %d: %v is not the host's child", i+1, s)
		}
		if want := "00-" + hostTrace + "-" + id + "-01 vendor=1"; len(arrived.all[1]) != 2 || arrived.all[1][i] != want {
			t.Errorf("attempt %d: the receiver got %q, want %s", i+1, arrived.all[1], want)
		}
		if n := spanAttribute(s, "posthorn.attempt").GetIntValue(); n != int64(i+1) {
			t.Errorf("attempt %d says it is %d", i+1, n)
		}
		if s.GetStartTimeUnixNano() >= s.GetEndTimeUnixNano() || s.GetName() != "deliver traced.host" || s.GetKind() != otlp.Span_SPAN_KIND_CLIENT {
			t.Errorf("attempt %d: %v", i+1, s)
		}
		if host := spanAttribute(s, "server.address").GetStringValue(); host != "127.0.0.1" {
			t.Errorf("attempt %d: it went to %s", i+1, host)
		}
	}
	got := []string{}
	for _, s := range host {
		got = append(got, fmt.Sprint(s.GetStatus().GetCode(), " ", spanAttribute(s, "http.response.status_code").GetIntValue(), " ", spanAttribute(s, "error.type").GetStringValue()))
	}
	if diff := gocmp.Diff([]string{"STATUS_CODE_ERROR 500 500", "STATUS_CODE_UNSET 200 "}, got); diff != "" {
		t.Errorf("outcomes: want -, got +:\n%s", diff)
	}
	for n, eventType := range map[int]string{2: "traced.none", 4: "traced.odd"} {
		all := otel.of(eventType)
		if len(all) != 1 || len(all[0].GetParentSpanId()) != 0 {
			t.Errorf("%s: got %v, want one span without a parent", eventType, all)
			continue
		}
		if want := fmt.Sprintf("00-%x-%x-01", all[0].GetTraceId(), all[0].GetSpanId()); !slices.Equal(arrived.all[n], []string{want}) {
			t.Errorf("%s: the receiver got %q, want %s", eventType, arrived.all[n], want)
		}
	}
	if all := otel.of("traced.unsampled"); len(all) != 0 || !slices.Equal(arrived.all[3], []string{hostParent[:len(hostParent)-1] + "0"}) {
		t.Errorf("not sampled: %d spans, the receiver got %q", len(all), arrived.all[3])
	}
	for _, h := range otel.headers {
		if h.Get("X-Key") != "hunter2" {
			t.Errorf("the collector got %v", h)
		}
	}
	if text := r.tail(1000); strings.Contains(text, "hunter2") {
		t.Errorf("a secret is logged: %s", text)
	}
}

func TestTracesAreOffByDefault(t *testing.T) {
	db := newDatabase(t)
	rcv := newReceiver(t, "/plain")
	otel := newOTLPReceiver(t)
	var arrived traceHeaders
	plain := rcv.endpoints["/plain"]
	plain.answers(func(q *request) int { arrived.note(q); return http.StatusOK })
	file := filepath.Join(t.TempDir(), "posthorn.yaml")
	if err := os.WriteFile(file, []byte(tracedEndpoint), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(commonEnv(db), "RECEIVER="+rcv.url(), "SECRET="+secret, "OTEL_EXPORTER_OTLP_ENDPOINT="+otel.url, "OTEL_TRACES_EXPORTER=otlp")
	r := startProcess(t, env, "run", "--init", "--config", file)
	r.waitReady()
	tracedEvents(t, db)
	plain.waitDelivered(4, time.Minute)
	waitSettled(t, db)
	if code, _ := r.stop(); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	want := map[int][]string{1: {hostParent}, 2: {""}, 3: {hostParent[:len(hostParent)-1] + "0"}, 4: {"00-" + strings.Repeat("x", 5000)}}
	if diff := gocmp.Diff(want, arrived.all); diff != "" || otel.count() != 0 {
		t.Errorf("%d spans; the receiver got other headers than were written: want -, got +:\n%s", otel.count(), diff)
	}
}

func TestTracesHoldNothingUpWhenTheCollectorIs(t *testing.T) {
	const stopTimeout = 3 * time.Second
	hanging, err := net.Listen("tcp", "127.0.0.1:0") // whose connections nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = refusing.Close()
	odd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, "/elsewhere", http.StatusPermanentRedirect)
	}))
	defer odd.Close()
	for name, address := range map[string]string{"hanging": "http://" + hanging.Addr().String(), "not there": "http://" + refusing.Addr().String(), "odd": odd.URL} {
		t.Run(name, func(t *testing.T) {
			db := newDatabase(t)
			rcv := newReceiver(t, "/ordered")
			ordered := rcv.endpoints["/ordered"]
			ordered.ordered = true
			r := startRelay(t, db, rcv, fmt.Sprintf("stop_timeout: %s\ntraces: {url: %q}\n%s", stopTimeout, address, oneOrderedEndpoint))
			r.waitReady()
			n := scaled(20_000)
			db.mustWrite(t, bulk{From: 1, To: n, Keys: 50}, 500)
			ordered.waitDelivered(n, time.Minute)
			waitSettled(t, db)
			db.mustWrite(t, bulk{From: n + 1, To: n + 1}, 1) // a span for the stop to export
			ordered.waitDelivered(n+1, time.Minute)
			r.signal(syscall.SIGTERM)
			began := time.Now()
			if code := r.wait(time.Minute); code != 0 {
				t.Errorf("exit code: got %d, want 0", code)
			}
			if took := time.Since(began); took > stopTimeout+stopSlack {
				t.Errorf("the stop took %s of %s", took, stopTimeout)
			}
			if got, want := ordered.counts(), (account{Requests: n + 2, Delivered: n + 2}); got != want { // and the marker
				t.Errorf("arrived: got %+v, want %+v", got, want)
			}
			if logged := r.logged("traces not exported"); len(logged) == 0 || len(logged) > 3 || logged[0].Level != "WARN" { // one a minute
				t.Errorf("logged %v, want a warning now and then", logged)
			}
		})
	}
}
