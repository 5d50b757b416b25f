package browser

import (
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// audited sees in the audit what was done, and no secret.
func (s *story) audited() {
	s.t.Helper()
	s.b.submit("Audit")
	s.b.see("Who did what")
	got := s.b.entries()
	rest := got
	for _, want := range s.did {
		at := slices.Index(rest, want)
		if at < 0 {
			s.t.Errorf("the audit lacks %q, or has it elsewhere: did %q, it has %q", want, s.did, got)
			continue
		}
		rest = rest[at+1:]
	}
	s.b.lacks(s.secrets...)
}

// entries returns who did what by the audit's page, the oldest first.
func (b *tab) entries() []string {
	b.t.Helper()
	rows, err := eval[[]string](b, `[...document.querySelectorAll("tbody tr")].map((row) => [1, 2].map((i) => row.cells[i].firstChild.textContent.trim()).join(" "))`)
	if err != nil {
		b.t.Fatal(err)
	}
	slices.Reverse(rows)
	return rows
}

// viewer is shown the endpoint and a delivery, but nothing to press, nor what
// was sent. What the buttons do is refused to a viewer who knows how.
func (s *story) viewer(delivery uuid.UUID, payload string) {
	s.t.Helper()
	b := s.logIn(viewerToken)
	b.submit("Endpoints")
	b.lacks("New endpoint")
	b.submit(s.name)
	b.see("healthy", "Settings in effect")
	b.lacks("Send test", "Pause", "Rotate", "Delete this endpoint", "/edit")
	b.expect("status of 403")
	at := pages + "/endpoints/" + s.endpoint
	for _, path := range []string{at + "/pause", at + "/resume", at + "/enable", at + "/drain", at + "/test", at + "/secret", at + "/edit", at + "/delete", pages + "/endpoints/new", pages + "/deliveries/" + delivery.String() + "/retry", pages + "/failed/retry"} {
		if status := b.post(path, nil); status != http.StatusForbidden {
			s.t.Errorf("a viewer who posts to %s gets %d", path, status)
		}
	}
	b.visit(pages + "/deliveries/" + delivery.String())
	b.see("What was sent and answered is shown to operators.")
	b.lacks("Retry now", payload)
	b.lacks(s.secrets...)
	for _, path := range []string{"/audit", "/settings", "/endpoints/new", "/endpoints/" + s.endpoint + "/edit"} {
		b.shut(pages+path, http.StatusForbidden)
	}
}

// stranger is another tenant's customer, in the portal: there is nothing of the
// story's.
func (s *story) stranger(tenant string, delivery uuid.UUID, payload string) {
	s.t.Helper()
	b := s.enterPortal(tenant)
	mine := append([]string{s.name, s.endpoint, delivery.String(), s.url(), payload}, s.secrets...)
	b.see("No endpoints yet")
	b.lacks(mine...)
	for _, page := range []string{"Deliveries", "Failed", "Events", "Audit"} {
		b.submit(page)
		b.lacks(mine...)
	}
	b.visit(pages + "/endpoints?search=" + s.name)
	b.see("No endpoints yet")
	b.expect("status of 404")
	at := pages + "/endpoints/" + s.endpoint
	for _, path := range []string{at + "/pause", at + "/resume", at + "/test", at + "/secret", at + "/edit", at + "/delete", pages + "/deliveries/" + delivery.String() + "/retry"} {
		if status := b.post(path, map[string]string{"grace": "0s"}); status != http.StatusNotFound {
			s.t.Errorf("another tenant who posts to %s gets %d", path, status)
		}
	}
	for _, path := range []string{at, at + "/edit", at + "/delete", pages + "/deliveries/" + delivery.String(), pages + "/stats?endpoint=" + s.endpoint, pages + "/overview", pages + "/settings", pages + "/replays"} {
		b.shut(path, http.StatusNotFound)
	}
}

// customer is the tenant's own, in the portal: the endpoint is theirs, and what
// the host's people did to it stands in their audit, but not who they are.
func (s *story) customer() {
	s.t.Helper()
	b := s.enterPortal(s.tenant)
	b.submit(s.name)
	b.see("healthy", "Send a test")
	b.submit("Audit")
	b.see("Who did what")
	want := []string{"operator portal.token", "portal:jo@" + s.tenant + " login"}
	for _, did := range s.did {
		if who, what, _ := strings.Cut(did, " "); what != "login" {
			want = append(want, strings.Replace(who, s.actor, "operator", 1)+" "+what)
		}
	}
	got := b.entries()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.t.Errorf("the tenant's audit has %q, want %q", got, want)
	}
	b.lacks(s.secrets...)
}
