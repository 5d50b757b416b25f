package lane

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/transforms"
)

func TestRetrySchedule(t *testing.T) {
	schedule := []time.Duration{5 * time.Second, 5 * time.Minute, time.Hour}
	tests := []struct {
		name       string
		retry      Retry
		attempts   int
		age, after time.Duration
		random     float64
		want       time.Duration
		ok         bool
	}{
		{name: "first wait", retry: Retry{Schedule: schedule}, attempts: 1, random: 0.9, want: 5 * time.Second, ok: true},
		{name: "last wait", retry: Retry{Schedule: schedule}, attempts: 3, want: time.Hour, ok: true},
		{name: "exhausted", retry: Retry{Schedule: schedule}, attempts: 4},
		{name: "one try only", retry: Retry{}, attempts: 1},
		{name: "jitter at its least", retry: Retry{Schedule: schedule, Jitter: 0.2}, attempts: 1, random: 0, want: 4 * time.Second, ok: true},
		{name: "jitter at its most", retry: Retry{Schedule: schedule, Jitter: 0.2}, attempts: 1, random: 1, want: 6 * time.Second, ok: true},
		{name: "the receiver asks for more", retry: Retry{Schedule: schedule}, attempts: 1, after: time.Minute, want: time.Minute, ok: true},
		{name: "for more than the schedule has", retry: Retry{Schedule: schedule}, attempts: 1, after: 24 * time.Hour, want: time.Hour, ok: true},
		{name: "for less", retry: Retry{Schedule: schedule}, attempts: 2, after: time.Second, want: 5 * time.Minute, ok: true},
		{name: "within max_age", retry: Retry{Schedule: schedule, MaxAge: time.Hour}, attempts: 2, age: 55 * time.Minute, want: 5 * time.Minute, ok: true},
		{name: "past max_age", retry: Retry{Schedule: schedule, MaxAge: time.Hour}, attempts: 2, age: 56 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := tt.retry.Next(tt.attempts, tt.age, tt.after, tt.random)
			if got != tt.want || ok != tt.ok {
				t.Errorf("got %s, %t; want %s, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 5, 22, 9, 30, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, "Fri, 22 May 2026 09:31:00 GMT": time.Minute, "Fri, 22 May 2026 09:29:00 GMT": 0,
		"-5": 0, "soon": 0, "99999999999999999999": 0, "1.5": 0,
	} {
		if got := parseRetryAfter(value, now); got != want {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
}

func TestRender(t *testing.T) {
	e := &event.Event{
		ID: uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057"), Type: "pr.submitted", Tenant: "acme", Payload: []byte(`{"a": "<&>\u2028"}`),
		Headers: []byte(`{"traceparent":"00-1-2-01","x":"a\nb"}`), CommittedAt: time.Date(2026, 5, 22, 9, 30, 0, 0, time.UTC),
	}
	tests := []struct {
		name    string
		change  func(*Endpoint)
		event   *event.Event
		body    string // "" for the payload as it is
		headers [][2]string
		err     string
	}{
		{name: "the payload as it is", body: ""},
		{name: "compact", change: func(ep *Endpoint) { ep.Form = Compact }, body: `{"a":"<&>\u2028"}`},
		{name: "stringify", change: func(ep *Endpoint) { ep.Form = Stringify }, body: "{\"a\":\"<&>\u2028\"}"},
		{
			name: "a payload in a form",
			change: func(ep *Endpoint) {
				ep.Form, ep.ContentType = Compact, "application/x-www-form-urlencoded"
				ep.Body = template(t, "payload={{ urlquery .Payload }}")
			},
			body: "payload=%7B%22a%22%3A%22%3C%26%3E%5Cu2028%22%7D",
		},
		{name: "the payload alone in a form", change: func(ep *Endpoint) { ep.Form, ep.ContentType = Compact, "text/plain" }, body: `{"a":"<&>\u2028"}`},
		{
			name: "a template",
			change: func(ep *Endpoint) {
				ep.Body = template(t, `{"t":{{ json .Event.Type }},"d":{{ .Payload }},"at":{{ json (rfc3339 .Delivery.CreatedAt) }}}`)
			},
			body: `{"t":"pr.submitted","d":{"a": "<&>\u2028"},"at":"2026-05-22T09:30:00Z"}`,
		},
		{name: "not JSON", change: func(ep *Endpoint) { ep.Body = template(t, `{"t": {{ .Event.Type }}}`) }, err: "render body: the body is not JSON: "},
		{name: "an empty body is no payload", change: func(ep *Endpoint) { ep.ContentType, ep.Body = "text/plain", template(t, ``) }, body: "-"},
		{
			name:    "headers",
			change:  func(ep *Endpoint) { ep.Headers = []Header{{"X-Event", template(t, "{{ .Event.Action }}")}} },
			headers: [][2]string{{"Content-Type", "application/json"}, {"X-Event", "submitted"}, {"User-Agent", "test"}, {"Traceparent", "00-1-2-01"}},
		},
		{
			name:    "a trace context of its own",
			change:  func(ep *Endpoint) { ep.Headers = []Header{{"traceparent", template(t, "00-3-4-01")}} },
			headers: [][2]string{{"Content-Type", "application/json"}, {"traceparent", "00-3-4-01"}, {"User-Agent", "test"}},
		},
		{
			name:   "a header with a line break",
			change: func(ep *Endpoint) { ep.Headers = []Header{{"X-Event", template(t, `{{ index .Event.Headers "x" }}`)}} },
			err:    "render header X-Event: the value holds a control character, e.g. a line break",
		},
		{
			name: "the URL without its credentials",
			change: func(ep *Endpoint) {
				ep.URL.User = url.UserPassword("posthorn", "hunter2")
				ep.Headers = []Header{{"X-To", template(t, "{{ .Endpoint.URL }}")}}
				ep.Body = template(t, "{{ json .Endpoint.URL }}")
			},
			body:    `"http://receiver.test/hook"`,
			headers: [][2]string{{"Content-Type", "application/json"}, {"X-To", "http://receiver.test/hook"}, {"User-Agent", "test"}, {"Traceparent", "00-1-2-01"}},
		},
		{
			name: "headers that the event lacks",
			change: func(ep *Endpoint) {
				ep.Headers = []Header{{"X-Note", template(t, "{{ .Event.Headers.note }}")}}
				ep.Body = template(t, `{{ default "none" .Event.Headers.note | json }}`)
			},
			event:   &event.Event{Type: "a.b", Payload: []byte(`{}`)},
			body:    `"none"`,
			headers: [][2]string{{"Content-Type", "application/json"}, {"X-Note", ""}, {"User-Agent", "test"}},
		},
		{name: "an event that cannot be delivered", event: &event.Event{Invalid: "the payload is not JSON"}, err: "the payload is not JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ep := testEndpoint(t, func(ep *Endpoint) { ep.UserAgent = "test" })
			if tt.change != nil {
				tt.change(ep)
			}
			if tt.event == nil {
				tt.event = e
			}
			q, err := ep.render(uuid.Nil, tt.event)
			if tt.err != "" {
				if err == nil || len(err.Error()) < len(tt.err) || err.Error()[:len(tt.err)] != tt.err {
					t.Fatalf("got %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkRendered(t, q, tt.body, tt.headers)
		})
	}
}

func checkRendered(t *testing.T, q *ledger.Request, body string, headers [][2]string) {
	t.Helper()
	switch {
	case body == "-":
		if q.Body == nil || len(q.Body) != 0 {
			t.Errorf("body %q, want an empty one", q.Body)
		}
	case string(q.Body) != body || (body == "") != (q.Body == nil):
		t.Errorf("body %q, want %q", q.Body, body)
	}
	if headers != nil {
		if diff := cmp.Diff(headers, q.Headers); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
	}
}

func template(t *testing.T, text string) *transforms.Template {
	t.Helper()
	parsed, err := transforms.ParseTemplate(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}
