package ledger

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
)

func TestPauseAndResumeDoNothingTwice(t *testing.T) {
	l := acquire(t, open(t))
	l.sync(t, erp())
	pause := func(reason string) func(*testing.T) *Turned {
		return func(t *testing.T) *Turned { return l.pause(t, reason) }
	}
	resume := func(reason string) func(*testing.T) *Turned {
		return func(t *testing.T) *Turned {
			e, err := l.Resume(t.Context(), "erp", reason, Actor{Name: "cli:test"})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
	}
	badReason := "\x00\xff" + strings.Repeat("x", 2*reasonLimit)
	goodReason := "\uFFFD\uFFFD" + strings.Repeat("x", reasonLimit-2)
	steps := []struct {
		name  string
		do    func(*testing.T) *Turned
		want  Turned
		audit string
	}{
		{"resume what is enabled", l.resume, Turned{State: Enabled, Was: Enabled, By: "configuration"}, ""},
		{"pause", pause(""), Turned{State: Paused, Was: Enabled, By: "operator", Changed: true}, "cli:test endpoint.pause erp enabled"},
		{"pause again", pause(""), Turned{State: Paused, Was: Paused, By: "operator"}, ""},
		{"give a reason", pause("why"), Turned{State: Paused, Was: Paused, By: "operator", Reason: "why", Changed: true}, "cli:test endpoint.pause erp paused why"},
		{"the same reason", pause("why"), Turned{State: Paused, Was: Paused, By: "operator", Reason: "why"}, ""},
		{"no reason", pause(""), Turned{State: Paused, Was: Paused, By: "operator", Reason: "why"}, ""},
		{"resume", l.resume, Turned{State: Enabled, Was: Paused, By: "operator", Changed: true}, "cli:test endpoint.resume erp paused"},
		{"resume again", l.resume, Turned{State: Enabled, Was: Enabled, By: "operator"}, ""},
		{"pause for a reason", pause("why"), Turned{State: Paused, Was: Enabled, By: "operator", Reason: "why", Changed: true}, "cli:test endpoint.pause erp enabled why"},
		{"resume for a reason", resume("mended"), Turned{State: Enabled, Was: Paused, By: "operator", Reason: "mended", Changed: true}, "cli:test endpoint.resume erp paused mended"},
		{"resume again for a reason", resume("really"), Turned{State: Enabled, Was: Enabled, By: "operator", Reason: "mended"}, ""},
		{"a reason that is no text, and too long", pause(badReason), Turned{State: Paused, Was: Enabled, By: "operator", Reason: goodReason, Changed: true}, "cli:test endpoint.pause erp enabled " + goodReason},
		{"the same reason that is no text", pause(badReason), Turned{State: Paused, Was: Paused, By: "operator", Reason: goodReason}, ""},
	}
	for _, s := range steps {
		s.want.ID, s.want.Name, s.want.Tenant = endpointID, "erp", "t1"
		got := s.do(t)
		if diff := cmp.Diff(s.want, *got, cmpopts.IgnoreFields(Turned{}, "Since")); diff != "" {
			t.Errorf("%s: differs (-want +got):\n%s", s.name, diff)
		}
		if at := texts(t, l.pool, `SELECT (state_at = $1)::text FROM posthorn.endpoints`, got.Since); at[0] != "true" {
			t.Errorf("%s: since %v", s.name, got.Since)
		}
		if got := l.audit(t); got != s.audit {
			t.Errorf("%s: audit %q, want %q", s.name, got, s.audit)
		}
	}
}

func TestEndpointsAreFoundByNameAndID(t *testing.T) {
	l := acquire(t, open(t))
	namesake := Endpoint{ID: uuid.New(), Name: endpointID.String(), URL: "https://a.example", Enabled: true}
	gone := Endpoint{ID: uuid.New(), Name: "erp", URL: "https://b.example", Enabled: true}
	off := Endpoint{ID: uuid.New(), Name: "off", URL: "https://c.example"}
	l.sync(t, gone)
	l.sync(t, erp(), off)
	cases := []struct {
		name, given string
		want        uuid.UUID
		err         error
	}{
		{"name", "erp", endpointID, nil},
		{"id", endpointID.String(), endpointID, nil},
		{"id in capitals", strings.ToUpper(endpointID.String()), endpointID, nil},
		{"unknown", "nope", uuid.Nil, ErrUnknownEndpoint},
		{"a removed one's id", gone.ID.String(), uuid.Nil, ErrUnknownEndpoint},
		{"disabled in the configuration", "off", uuid.Nil, ErrConfigured},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for what, do := range map[string]func() (*Turned, error){
				"pause":  func() (*Turned, error) { return l.Pause(t.Context(), c.given, "", Actor{Name: "cli:test"}) },
				"resume": func() (*Turned, error) { return l.Resume(t.Context(), c.given, "", Actor{Name: "cli:test"}) },
			} {
				e, err := do()
				if !errors.Is(err, c.err) || err == nil && e.ID != c.want || err != nil && !strings.Contains(err.Error(), what+" endpoint "+c.given) {
					t.Errorf("%s: %+v, %v", what, e, err)
				}
			}
		})
	}
	l.sync(t, erp(), namesake)
	if e, err := l.Pause(t.Context(), endpointID.String(), "", Actor{Name: "cli:test"}); err != nil || e.ID != namesake.ID {
		t.Errorf("named like an id: %+v, %v", e, err)
	}
}

func TestRetryToAHeldEndpointSaysToResumeItFirst(t *testing.T) {
	l, records := filled(t)
	l.sync(t, erp())
	turns := []struct {
		name string
		do   func()
		want string // "" when it takes a retry
	}{
		{"paused", func() { l.pause(t, "") }, "its endpoint erp is paused: resume it first: posthorn endpoints resume erp"},
		{"disabled by a 410", func() { l.hold(t, Disabled, "410 Gone") }, "its endpoint erp is disabled (410 Gone): resume it first: posthorn endpoints resume erp"},
		{"resumed", func() { l.resume(t) }, ""},
	}
	for _, turn := range turns {
		turn.do()
		for what, i := range map[string]int{"pending": 0, "failed": 3} {
			_, err := l.Retry(t.Context(), retryOf(records[i].ID, false))
			if turn.want == "" && err != nil || turn.want != "" && (err == nil || !strings.HasSuffix(err.Error(), turn.want)) {
				t.Errorf("%s, a %s delivery: %v", turn.name, what, err)
			}
		}
	}
}

func TestResumeCommandCanBePastedIntoAShell(t *testing.T) {
	for name, want := range map[string]string{
		"acme-erp.1": "acme-erp.1", "Müller": "Müller", "Acme ERP": "'Acme ERP'", "it's; rm": `'it'\''s; rm'`, "$HOME": "'$HOME'",
	} {
		if got := ResumeCommand(name); got != "posthorn endpoints resume "+want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestEndpointsCountWhatIsPending(t *testing.T) {
	l, records := filled(t) // one pending in an hour, one sending
	idle := Endpoint{ID: uuid.New(), Name: "a", URL: "https://a.example", Enabled: true}
	gone := Endpoint{ID: uuid.New(), Name: "z", URL: "https://z.example", Enabled: true}
	l.sync(t, erp(), idle, gone)
	l.sync(t, erp(), idle)
	l.pause(t, "why")
	if err := l.SetHealth(t.Context(), endpointID, Health{State: Paused, Failing: true, Failures: 5, FailingFor: time.Minute}); err != nil {
		t.Fatal(err)
	}
	list, err := l.Endpoints(t.Context(), "", false)
	if err != nil || len(list) != 2 {
		t.Fatalf("got %+v, %v", list, err)
	}
	if own, err := l.Endpoints(t.Context(), "t1", true); err != nil || len(own) != 1 || own[0].ID != endpointID || own[0].Pending != 2 {
		t.Errorf("the tenant's: %+v, %v", own, err)
	}
	want := []EndpointStatus{
		{ID: idle.ID, Name: "a", URL: "https://a.example", State: Enabled, By: "configuration", Origin: OfConfiguration},
		{ID: endpointID, Name: "erp", Tenant: "t1", URL: "https://erp.example", State: Paused, By: "operator", Reason: "why", Failing: true, Failures: 5, Pending: 2, Origin: OfConfiguration},
	}
	if diff := cmp.Diff(want, list, cmpopts.IgnoreTypes(&time.Time{})); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
	e := list[1]
	if e.FailingSince == nil || time.Since(*e.FailingSince) < 50*time.Second || e.Since == nil || time.Since(*e.Since) > time.Minute {
		t.Errorf("failing since %v, paused since %v", e.FailingSince, e.Since)
	}
	if e.OldestPending == nil || !e.OldestPending.Equal(records[1].Event.CommittedAt) || e.NextDue == nil || time.Until(*e.NextDue) < 50*time.Minute {
		t.Errorf("oldest %v, next due %v", e.OldestPending, e.NextDue)
	}
	if i := list[0]; i.OldestPending != nil || i.NextDue != nil || i.FailingSince != nil || i.Held() || !e.Held() {
		t.Errorf("%+v", i)
	}
	if list, err = l.Endpoints(t.Context(), "", true); err != nil || len(list) != 3 || list[2].State != Removed || list[2].Held() {
		t.Errorf("with the removed one: %+v, %v", list, err)
	}
}

func TestEnlistMakesKnownOnlyWhatIsNot(t *testing.T) {
	l := acquire(t, open(t))
	enlist := func(e Endpoint) string {
		t.Helper()
		if err := l.Enlist(context.Background(), e); err != nil {
			t.Fatal(err)
		}
		return l.row(t)
	}
	off := erp()
	off.Enabled = false
	if got := enlist(off); got != "disabled configuration "+reasonDisabled {
		t.Errorf("a new one is %s", got)
	}
	if got := enlist(erp()); got != "disabled configuration "+reasonDisabled {
		t.Errorf("a known one became %s", got)
	}
	l.sync(t)
	if got := enlist(erp()); got != "enabled configuration" {
		t.Errorf("a removed one is %s", got)
	}
}
