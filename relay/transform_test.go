package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/signing"
	"github.com/posthorn/posthorn/transforms"
)

// openTransformer returns a transformer of cfg until the test ends.
func openTransformer(t *testing.T, cfg *config.Config) *Transformer {
	t.Helper()
	tr, err := OpenTransformer(t.Context(), cfg, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close(context.Background()) })
	return tr
}

// withoutDatabase returns a configuration whose database nobody runs.
func withoutDatabase(t *testing.T, text string) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "posthorn.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path, []string{"POSTHORN_DATABASE__URL=postgres://127.0.0.1:1/nowhere"})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// readOnly returns the database as one in which nothing can be written.
func (db *database) readOnly() *database {
	return &database{url: db.url + "&default_transaction_read_only=on", slot: db.slot, pool: db.pool}
}

const someTransforms = `
events:
  - {type: pr.submitted, example: {amount: 20, ssn: 1}}
  - {type: po.issued}
transforms:
  - {match: ["pr.*"], set: {source: hr}}
  - {match: ["pr.*"], filter: payload.amount > 10}
  - {match: ["pr.*", x], remove: [ssn]}
  - {match: ["pr.*"], type: "v2.{{ .Event.Type }}"}
  - {match: ["pr.*"], headers: {X-Source: "{{ .Event.Tenant }}"}}
`

func TestTransformerSaysWhatEachRuleDid(t *testing.T) {
	tr := openTransformer(t, withoutDatabase(t, someTransforms))
	content := func(eventType, payload string) Content { return Content{Type: eventType, Payload: []byte(payload)} }
	tests := []struct {
		name   string
		event  Event
		states string // of the rules, in order
		want   Outcome
	}{
		{
			"all apply", Event{Tenant: "acme", Content: content("pr.submitted", `{"ssn": 1, "amount":  20.0}`)},
			"applied applied applied applied applied",
			Outcome{Content: &Content{Type: "v2.pr.submitted", Headers: map[string]string{"X-Source": "acme"}, Payload: []byte(`{"amount":  20.0,"source":"hr"}`)}},
		},
		{
			"skipped", Event{Content: content("pr.submitted", `{"amount":1}`)},
			"applied skipped not reached not reached not reached",
			Outcome{Skipped: "transforms[1] (filter): filter is false"},
		},
		{
			"none is for its type", Event{Content: content("a", `{"ssn":1}`)}, "",
			Outcome{Content: &Content{Type: "a", Payload: []byte(`{"ssn":1}`)}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := tr.Transform(t.Context(), tt.event)
			if err != nil {
				t.Fatal(err)
			}
			var states []string
			for _, rule := range r.Rules {
				states = append(states, string(rule.State))
			}
			if got := strings.Join(states, " "); got != tt.states {
				t.Errorf("rules: %s, want %s", got, tt.states)
			}
			if diff := cmp.Diff(tt.want, r.Outcome, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("outcome differs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.event.Content, r.Event.Content); diff != "" {
				t.Errorf("the event as committed differs (-want +got):\n%s", diff)
			}
			if r.Event.ID == uuid.Nil || r.Event.CreatedAt.IsZero() {
				t.Errorf("the event has no id or time: %+v", r.Event)
			}
		})
	}
}

func TestTransformerSaysWhichRuleFailed(t *testing.T) {
	tr := openTransformer(t, withoutDatabase(t, someTransforms))
	r, err := tr.Transform(t.Context(), Event{Content: Content{Type: "pr.a", Payload: []byte(`{"amount":"secret"}`)}})
	if err != nil {
		t.Fatal(err)
	}
	wants(t, r.Err, "transforms[1] (filter): ")
	if len(r.Rules) != 5 || r.Rules[0].State != RuleApplied || r.Rules[1].State != RuleFailed || r.Rules[2].State != RuleNotReached || r.Content != nil || r.Retry {
		t.Errorf("got %+v", r)
	}
	if strings.Contains(r.Err.Error(), "secret") {
		t.Errorf("the error quotes the payload: %v", r.Err)
	}
}

func TestExamplesOfTheCatalogueAreEvents(t *testing.T) {
	cfg := withoutDatabase(t, someTransforms)
	e, err := ExampleOf(cfg, "pr.submitted")
	if err != nil || e.Type != "pr.submitted" || string(e.Payload) != `{"amount":20,"ssn":1}` {
		t.Errorf("got %+v, %v", e, err)
	}
	_, err = ExampleOf(cfg, "po.issued") // is there without one
	wants(t, err, "no example of type po.issued; examples: pr.submitted")
}

func TestTransformerRefusesWhatNoOutboxHolds(t *testing.T) {
	tr := openTransformer(t, withoutDatabase(t, someTransforms))
	_, err := tr.Transform(t.Context(), Event{Content: Content{Type: "a", Payload: []byte(`{`)}})
	wants(t, err, "the payload is not JSON")
	_, err = tr.Transform(t.Context(), Event{Content: Content{Payload: []byte(`{}`)}})
	wants(t, err, "the event has no type")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = tr.Transform(ctx, Event{Content: Content{Type: "pr.a", Payload: []byte(`{}`)}}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestParseEvent(t *testing.T) {
	e, err := ParseEvent([]byte(`{"id": "42", "type": "a.b", "payload": {"b": 1.0,  "a": 2}, "headers": {"h": "v"}, "tenant": "t", "key": "k", "created_at": "2026-01-02T03:04:05Z"}`))
	want := Event{
		ID: event.IDOf("42"), Content: Content{Type: "a.b", Headers: map[string]string{"h": "v"}, Payload: []byte(`{"b": 1.0,  "a": 2}`)},
		Tenant: "t", Key: "k", CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	if diff := cmp.Diff(want, e, cmpopts.IgnoreUnexported(Event{})); diff != "" || err != nil {
		t.Errorf("%v, differs (-want +got):\n%s", err, diff)
	}
	if e, err := ParseEvent([]byte(`{"type": "a", "payload": null}`)); err != nil || string(e.Payload) != "null" {
		t.Errorf("a payload null: %s, %v", e.Payload, err)
	}
	for _, bad := range []string{``, `{`, `[]`, `{} {}`, `{"type": "a"}`, `{"payload": 1}`, `{"type": "a", "payload": 1, "x": 1}`, `{"type": "a", "payload": 1, "headers": {"h": 1}}`} {
		if _, err := ParseEvent([]byte(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestRequestOfATransformedEventIsSignedAndNotSent(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
	defer receiver.Close()
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	tr := openTransformer(t, withoutDatabase(t, someTransforms+fmt.Sprintf(`
egress: {allow: [127.0.0.0/8]}
endpoints:
  - {name: erp, url: "%s/a?key=hunter2", events: ["pr.*"], secret: %s, headers: {X-Type: "{{ .Event.Type }}", Cookie: hunter2}, body: '{"d": {{ .Payload }}}', auth: {bearer: {token: hunter2}}}
  - {name: other, url: "%[1]s", events: [po.issued], tenant: acme, filter: payload.amount > 100, enabled: false}
  - {name: picky, url: "%[1]s", events: ["*"], filter: payload.note > 1}
`, receiver.URL, secret)))
	r, err := tr.Transform(t.Context(), Event{ID: uuid.New(), Content: Content{Type: "pr.a", Payload: []byte(`{"amount":20,"note":"x"}`)}})
	if err != nil {
		t.Fatal(err)
	}
	q, err := tr.Request("erp", r)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{}
	for _, h := range q.Header {
		header.Add(h[0], h[1])
	}
	signer, err := signing.New(signing.Options{Scheme: "standard-webhooks"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := signing.ParseKey("standard-webhooks", secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := signer.Verify(header, q.Body, []signing.Key{key}, q.SignedAt); err != nil {
		t.Errorf("%+v: %v", q, err)
	}
	if string(q.Body) != `{"d": {"amount":20,"note":"x","source":"hr"}}` || header.Get("X-Type") != "v2.pr.a" || header.Get("Webhook-Id") != q.Delivery.String() ||
		q.Delivery != event.DeliveryID(r.Event.ID, event.EndpointID("erp")) || header.Get("Authorization") != "***" || q.Method != http.MethodPost || len(q.Notes) != 0 {
		t.Errorf("got %+v with body %s", q, q.Body)
	}
	if strings.Contains(fmt.Sprint(q), "hunter2") {
		t.Errorf("it shows credentials: %+v", q)
	}

	q, err = tr.Request("other", r)
	if err != nil {
		t.Fatal(err)
	}
	notes := fmt.Sprint(q.Notes)
	for _, want := range []string{"it is disabled", "it does not get events of type pr.a", "of tenant acme only", "its filter does not match"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes do not say %q: %s", want, notes)
		}
	}
	if q, err = tr.Request("picky", r); err != nil || len(q.Notes) != 1 || !strings.Contains(q.Notes[0], "its delivery would fail: ") {
		t.Errorf("a filter that cannot judge: %+v, %v", q, err)
	}
	_, err = tr.Request("nobody", r)
	wants(t, err, `no endpoint "nobody"`)
	r, err = tr.Transform(t.Context(), Event{Content: Content{Type: "pr.a", Payload: []byte(`{"amount":1}`)}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = tr.Request("erp", r)
	wants(t, err, "nothing is sent")
}

func TestTransformerReadsARowAsTheStreamBringsIt(t *testing.T) {
	db := newDatabase(t)
	db.initialised(t, "")
	db.script(t, `
INSERT INTO posthorn.outbox (id, type, tenant, key, payload, headers, created_at)
  VALUES ('0198f1d2-0000-7000-8000-000000000001', 'a.b', 't', 'k', '{"b": 1.0,  "a": 2}', '{"h": "v"}', '2026-01-02 03:04:05.000006+02');
INSERT INTO posthorn.outbox (id, type, payload, headers, created_at) VALUES ('0198f1d2-0000-7000-8000-000000000002', 'a.b', '1', '["x"]', 'infinity');
CREATE TABLE events (nr bigint PRIMARY KEY, "kind of" text, body text, at timestamp);
INSERT INTO events VALUES (42, 'c', '{"b": 1.0,  "a": 2}', '2026-01-02 03:04:05'), (43, 'c', '{', NULL);`)
	ignored := cmpopts.IgnoreUnexported(Event{})

	outbox := openTransformer(t, db.readOnly().config(t, `transforms: [{match: ["*"], set: {x: 1}}]`))
	e, err := outbox.Row(t.Context(), "0198F1D2-0000-7000-8000-000000000001")
	want := Event{
		ID: uuid.MustParse("0198f1d2-0000-7000-8000-000000000001"), Content: Content{Type: "a.b", Headers: map[string]string{"h": "v"}, Payload: []byte(`{"b": 1.0,  "a": 2}`)},
		Tenant: "t", Key: "k", CreatedAt: time.Date(2026, 1, 2, 1, 4, 5, 6000, time.UTC),
	}
	if diff := cmp.Diff(want, e, ignored); diff != "" || err != nil {
		t.Errorf("%v, differs (-want +got):\n%s", err, diff)
	}
	e, err = outbox.Row(t.Context(), "0198f1d2-0000-7000-8000-000000000002")
	if err != nil || !e.CreatedAt.IsZero() || e.Headers != nil {
		t.Errorf("got %+v, %v", e, err)
	}
	r, err := outbox.Transform(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, r.Err, "the event's headers are not a JSON object of strings")
	if len(r.Rules) != 1 || r.Rules[0].State != RuleNotReached {
		t.Errorf("without headers: %+v", r.Rules)
	}
	for _, missing := range []string{"0198f1d2-0000-7000-8000-000000000003", "42", ""} {
		_, err = outbox.Row(t.Context(), missing)
		wants(t, err, "event "+missing+": no such row in the outbox")
	}

	own := openTransformer(t, db.readOnly().config(t, `source: {table: public.events, columns: {id: nr, type: kind of, payload: body, created_at: at}}`))
	e, err = own.Row(t.Context(), "42")
	want = Event{ID: event.IDOf("42"), Content: Content{Type: "c", Payload: []byte(`{"b": 1.0,  "a": 2}`)}, CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if diff := cmp.Diff(want, e, ignored); diff != "" || err != nil {
		t.Errorf("%v, differs (-want +got):\n%s", err, diff)
	}
	if e, err = own.Row(t.Context(), "43"); err != nil {
		t.Fatal(err)
	}
	if r, err = own.Transform(t.Context(), e); err != nil || r.Content != nil {
		t.Errorf("a row without JSON: %+v, %v", r, err)
	}
	wants(t, r.Err, "the payload is not JSON")
	_, err = own.Row(t.Context(), "99999999999999999999")
	wants(t, err, "no such row")
	_, err = openTransformer(t, db.config(t, `source: {table: nowhere}`)).Row(t.Context(), "1")
	wants(t, err, "does not exist: run posthorn init")
}

func TestTransformerFailsWithThePanicOfARule(t *testing.T) {
	tr := openTransformer(t, withoutDatabase(t, ""))
	tr.chains.Chains = transforms.NewChains([]transforms.Rule{{Name: "transforms[0] (x)", Match: []string{"*"}, Transform: transforms.Each(func(context.Context, *transforms.Message) error {
		panic("secret")
	})}})
	r, err := tr.Transform(t.Context(), Event{Content: Content{Type: "a", Payload: []byte(`{}`)}})
	if err != nil || r.Err == nil || strings.Contains(r.Err.Error(), "secret") || r.Rules[0].State != RuleFailed {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestTransformerRunsPlugins(t *testing.T) {
	const text = `
plugins: {p: {path: "%s", env: {LABEL: one}}}
transforms: [{match: ["*"], plugin: p}]`
	cfg := withoutDatabase(t, fmt.Sprintf(text, program(t, "")))
	tr := openTransformer(t, cfg)
	tests := []struct {
		eventType string
		state     RuleState
		retry     bool
		says      string // of payload, reason or error
	}{
		{"a", RuleApplied, false, `"label":"one"`},
		{"skip.why", RuleSkipped, false, "transforms[0] (plugin p): "},
		{"fail.once", RuleFailed, true, "no luck"},
		{"fail.final", RuleFailed, false, "never"},
	}
	for _, tt := range tests {
		r, err := tr.Transform(t.Context(), Event{Content: Content{Type: tt.eventType, Payload: []byte(`{}`)}})
		if err != nil {
			t.Fatal(err)
		}
		says := r.Skipped
		switch {
		case r.Content != nil:
			says = string(r.Content.Payload)
		case r.Err != nil:
			says = r.Err.Error()
		}
		if r.Rules[0].State != tt.state || r.Retry != tt.retry || !strings.Contains(says, tt.says) {
			t.Errorf("%s: %+v says %q", tt.eventType, r, says)
		}
	}

	cfg.Plugins["q"] = config.Plugin{Path: filepath.Join(t.TempDir(), "nowhere"), StartTimeout: time.Second}
	cfg.Transforms = append(cfg.Transforms, config.Transform{Match: []string{"*"}, Plugin: "q"})
	_, err := OpenTransformer(t.Context(), cfg, "test", slog.New(slog.DiscardHandler))
	var failed *PluginsError
	if !errors.As(err, &failed) {
		t.Fatalf("got %v", err)
	}
	wants(t, err, "plugin q: ")
}
