package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/tail"
	"github.com/posthorn/posthorn/relay/signing"
)

const operationsSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// operations is a receiver of the relay's own events, which verifies them.
type operations struct {
	url      string
	arrivals chan ownArrival
}

type ownArrival struct {
	typ, path string
	body      []byte
}

func newOperations(t *testing.T) *operations {
	t.Helper()
	signer, err := signing.New(signing.Options{Scheme: "standard-webhooks"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := signing.ParseKey("standard-webhooks", operationsSecret)
	if err != nil {
		t.Fatal(err)
	}
	o := &operations{arrivals: make(chan ownArrival, 1000)}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = signer.Verify(r.Header, body, []signing.Key{key}, time.Now())
		}
		if err != nil {
			t.Error(err)
		}
		o.arrivals <- ownArrival{r.Header.Get("X-Type"), r.URL.Path, body}
	}))
	t.Cleanup(s.Close)
	o.url = s.URL
	return o
}

// await returns the next event of a type at a path, and the types that came
// there before it.
func (o *operations) await(t *testing.T, path, eventType string) (body []byte, before []string) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case a := <-o.arrivals:
			if a.path != path {
				continue
			}
			if a.typ == eventType {
				return a.body, before
			}
			before = append(before, a.typ)
		case <-limit:
			t.Fatalf("no %s arrives at %s, but %s", eventType, path, before)
		}
	}
}

const operationsEndpoints = `
egress: {allow: [127.0.0.0/8]}
endpoints:
  - {name: erp, tenant: acme, url: '%[1]s/erp', events: ['*']}
  - {name: ops, url: '%[1]s/ops', events: ['posthorn.*'], headers: {X-Type: '{{ .Event.Type }}'}, secret: %[2]s}
  - {name: acme-ops, tenant: acme, url: '%[1]s/acme', events: ['posthorn.endpoint.*'], headers: {X-Type: '{{ .Event.Type }}'}, secret: %[2]s}
  - {name: other-ops, tenant: other, url: '%[1]s/other', events: ['posthorn.*'], headers: {X-Type: '{{ .Event.Type }}'}, secret: %[2]s}
`

func TestEndpointsGetTheRelaysOwnEventsSigned(t *testing.T) {
	o, db := newOperations(t), newDatabase(t)
	r := db.startAPI(t, fmt.Sprintf(operationsEndpoints, o.url, operationsSecret))
	c := newAPIClient(r.address)
	body, _ := o.await(t, "/ops", "posthorn.relay.took_over")
	var taken aboutRelay
	if err := json.Unmarshal(body, &taken); err != nil || taken.Relay == "" || taken.Slot != db.slot || taken.Epoch != 1 || taken.Standby {
		t.Errorf("%s: %v", body, err)
	}

	c.must(t, "operator", "POST", "/api/v1/endpoints/erp/pause", `{"reason": "maintenance"}`, &struct{}{})
	body, before := o.await(t, "/ops", "posthorn.endpoint.paused")
	var about aboutEndpoint
	if err := json.Unmarshal(body, &about); err != nil || about.Endpoint.Name != "erp" || about.Endpoint.Tenant != "acme" || about.Reason != "maintenance" || about.Failures != 0 || len(before) > 0 {
		t.Errorf("after %s: %s: %v", before, body, err)
	}
	c.must(t, "operator", "POST", "/api/v1/endpoints/erp/resume", "", &struct{}{})
	if _, before := o.await(t, "/acme", "posthorn.endpoint.resumed"); len(before) > 1 { // the paused one may have been passed over above
		t.Errorf("acme gets %s, too", before)
	}

	// What is about nobody's endpoint, or another tenant's, is no business of a tenant.
	c.must(t, "operator", "POST", "/api/v1/endpoints/other-ops/pause", "", &struct{}{})
	o.await(t, "/ops", "posthorn.endpoint.paused")
	c.must(t, "operator", "POST", "/api/v1/endpoints/other-ops/resume", "", &struct{}{})
	if body, before := o.await(t, "/other", "posthorn.endpoint.resumed"); !strings.Contains(string(body), `"other-ops"`) || slices.Contains(before, "posthorn.relay.took_over") || len(before) > 1 {
		t.Errorf("other gets %s after %s", body, before)
	}

	metrics := string(c.ask(t, "", "GET", "/metrics", "").body)
	for _, line := range []string{
		`posthorn_operational_events_total{type="posthorn.relay.took_over"} 1`, `posthorn_operational_events_total{type="posthorn.endpoint.paused"} 2`,
		`posthorn_operational_events_total{type="posthorn.endpoint.resumed"} 2`,
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
}

func TestReloadIsNoTakeOver(t *testing.T) {
	o, db := newOperations(t), newDatabase(t)
	const ops = "\negress: {allow: [127.0.0.0/8]}\nendpoints:\n  - {name: ops, url: '%s/%s', events: ['posthorn.*'], headers: {X-Type: '{{ .Event.Type }}'}, secret: " + operationsSecret + "}\n"
	r := db.startAPI(t, fmt.Sprintf(ops, o.url, "first"))
	o.await(t, "/first", "posthorn.relay.took_over")
	r.Reload(db.apiConfig(t, fmt.Sprintf(ops, o.url, "second")))
	r.log.waitFor(t, "slot acquired, delivering")
	newAPIClient(r.address).must(t, "operator", "POST", "/api/v1/endpoints/ops/pause", "", &struct{}{})
	r.log.waitFor(t, "endpoint paused")
	newAPIClient(r.address).must(t, "operator", "POST", "/api/v1/endpoints/ops/resume", "", &struct{}{})
	if _, before := o.await(t, "/second", "posthorn.endpoint.resumed"); slices.Contains(before, "posthorn.relay.took_over") {
		t.Error("a reload is told as a take-over")
	}
}

func TestStandbyThatTakesOverIsTold(t *testing.T) {
	o, db := newOperations(t), newDatabase(t)
	config := func(path string) string {
		return fmt.Sprintf("\negress: {allow: [127.0.0.0/8]}\nendpoints: [{name: ops, url: '%s/%s', events: ['posthorn.*'], headers: {X-Type: '{{ .Event.Type }}'}, secret: %s}]\n", o.url, path, operationsSecret)
	}
	first := db.startAPI(t, config("first"))
	o.await(t, "/first", "posthorn.relay.took_over")
	second := start(t, db.apiConfig(t, config("second")))
	second.log.waitFor(t, "another relay holds the slot")
	first.stop()
	body, _ := o.await(t, "/second", "posthorn.relay.took_over")
	var taken aboutRelay
	if err := json.Unmarshal(body, &taken); err != nil || !taken.Standby || taken.Epoch != 2 {
		t.Errorf("%s: %v", body, err)
	}
}

func TestEndpointsOfTheAPIAreToldOfAndTold(t *testing.T) {
	o, db := newOperations(t), newDatabase(t)
	c := db.runAPI(t, apiKeys)
	const headers = `"headers": {"X-Type": "{{ .Event.Type }}"}`
	for _, name := range []string{"ops", "made"} {
		c.must(t, "operator", "POST", "/api/v1/endpoints", fmt.Sprintf(`{"name": %q, "url": "%s/%s", "events": [%q], "secret": %q, %s}`,
			name, o.url, name, map[string]string{"ops": "posthorn.*", "made": "*"}[name], operationsSecret, headers), &struct{}{})
	}
	db.publish(t, "pr.made", `{}`)
	o.await(t, "/made", "pr.made") // the relay knows it
	c.must(t, "operator", "PATCH", "/api/v1/endpoints/made", `{"enabled": false}`, &struct{}{})
	body, _ := o.await(t, "/ops", "posthorn.endpoint.disabled")
	var about aboutEndpoint
	if err := json.Unmarshal(body, &about); err != nil || about.Endpoint.Name != "made" || about.Reason != "it was disabled through the API" {
		t.Errorf("%s: %v", body, err)
	}
}

// TestAnnouncerIsBoundedWhileTheDatabaseIsAway has more happen than waits, and
// ends all the same.
func TestAnnouncerIsBoundedWhileTheDatabaseIsAway(t *testing.T) {
	pool, err := openPool("postgres://127.0.0.1:1/nowhere", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	log := make(logLines, 10_000)
	metrics := admin.NewMetrics("test", func() admin.Snapshot { return admin.Snapshot{} })
	a := newAnnouncer(&tail.Source{Pool: pool}, metrics, slog.New(slog.NewTextHandler(log, nil)))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); a.run(ctx) }()
	for range mostAnnounced + 10 {
		a.announce(ctx, typeTookOver, "", aboutRelay{})
	}
	a.mu.Lock()
	waiting := len(a.queue)
	a.mu.Unlock()
	if waiting != mostAnnounced {
		t.Errorf("%d events wait, want %d", waiting, mostAnnounced)
	}
	for missing := []string{"operational events are dropped", "operational events not written, trying again"}; len(missing) > 0; {
		line := log.waitFor(t, "operational events")
		missing = slices.DeleteFunc(missing, func(text string) bool { return strings.Contains(line, text) })
	}
	stop()
	<-ended
}

func TestSlotAtRiskIsToldWhenItGetsWorse(t *testing.T) {
	kib := func(n int64) *int64 { n <<= 10; return &n }
	reserved := tail.SlotStatus{WALStatus: "reserved", Retained: 1 << 10}
	extended := tail.SlotStatus{WALStatus: "extended"}
	unreserved := tail.SlotStatus{WALStatus: "unreserved", Retained: 100 << 10, Safe: kib(-1)}
	near := tail.SlotStatus{WALStatus: "reserved", Retained: 80 << 10, Safe: kib(20)}
	far := tail.SlotStatus{WALStatus: "reserved", Retained: 79 << 10, Safe: kib(21)}
	steps := []struct {
		name  string
		after time.Duration
		tail.SlotStatus
		want bool
	}{
		{"out of risk", 0, reserved, false},
		{"a limit that is far", 0, far, false},
		{"a limit that is near", 0, near, true},
		{"still", time.Hour, near, false},
		{"not worse", 0, extended, false},
		{"worse", 0, unreserved, true},
		{"better", 0, extended, false},
		{"worse again", 0, unreserved, false},
		{"out of it for a moment", 0, reserved, false},
		{"and back", slotCalm - time.Second, extended, false},
		{"out of it", 0, reserved, false},
		{"for long", slotCalm, reserved, false},
		{"and back after long", 0, extended, true},
		{"lost", 0, tail.SlotStatus{WALStatus: "lost"}, true},
	}
	var k slotRisk
	now := time.Now()
	for _, s := range steps {
		now = now.Add(s.after)
		if got := k.worse(s.SlotStatus, now); got != s.want {
			t.Errorf("%s: news %t, want %t", s.name, got, s.want)
		}
	}
}

func TestCatalogueHasTheRelaysOwnTypes(t *testing.T) {
	list := catalogueOf(&config.Config{Events: []config.EventType{{Type: "a.b"}, {Type: "posthorn.endpoint.paused", Title: "mine"}}}, nil)
	var types []string
	for _, e := range list {
		types = append(types, e.Type)
		if strings.HasPrefix(e.Type, "posthorn.") && (e.Title == "" || e.Title != "mine" && !json.Valid(e.Example)) {
			t.Errorf("%+v", e)
		}
	}
	want := []string{
		"a.b", "posthorn.endpoint.paused", "posthorn.endpoint.resumed", "posthorn.endpoint.disabled", "posthorn.endpoint.failing", "posthorn.endpoint.recovered",
		"posthorn.relay.took_over", "posthorn.slot.at_risk",
	}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
}

// TestEndpointThatIsNewWasNotResumed, though it is edited at once.
func TestEndpointThatIsNewWasNotResumed(t *testing.T) {
	db := newDatabase(t)
	c := db.runAPI(t, apiKeys)
	for i := range 20 {
		var made struct{ ID string }
		c.must(t, "admin", "POST", "/api/v1/endpoints", fmt.Sprintf(`{"name": "new-%d", "url": "https://new.example", "events": ["never"]}`, i), &made)
		c.must(t, "admin", "PATCH", "/api/v1/endpoints/"+made.ID, `{"timeout": "3s"}`, &made)
	}
	time.Sleep(2 * revisionEvery) // the relay has them all by then
	if metrics := string(c.ask(t, "", "GET", "/metrics", "").body); strings.Contains(metrics, `type="posthorn.endpoint.resumed"`) {
		t.Error("it is told that endpoints were resumed")
	}
}
