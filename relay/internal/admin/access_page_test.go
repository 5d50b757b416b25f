package admin

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

func inFrame(r *http.Request) { r.Header.Set("Sec-Fetch-Dest", "iframe") }

func TestProblemsInAFrameAreShown(t *testing.T) {
	o := accessOptions(io.Discard)
	o.FrameAncestors = []string{"https://app.example"}
	a := NewAccess(o)
	expired := a.sealPortalToken(portalClaims{Tenant: "acme", Subject: "jo", Role: "viewer", Expires: 1})
	for name, test := range map[string]struct {
		ask    func(*browser) *httptest.ResponseRecorder
		status int
	}{
		"without the CSRF token": {func(b *browser) *httptest.ResponseRecorder { return b.ask("POST", "/admin/webhooks/x", nil) }, 403},
		"of another host": {func(b *browser) *httptest.ResponseRecorder {
			b.change = func(r *http.Request) { inFrame(r); r.Host = "evil.example" }
			return b.ask("GET", "/admin/webhooks/x", nil)
		}, 421},
		"with an old token": {func(b *browser) *httptest.ResponseRecorder { return b.login(expired) }, 401},
		"too many": {func(b *browser) *httptest.ResponseRecorder {
			b.pages = a.SlowPage(time.Minute, 0, 0, nil)
			return b.ask("GET", "/admin/webhooks/x", nil)
		}, 429},
		"without the ledger": {func(b *browser) *httptest.ResponseRecorder {
			sessions := o.Sessions.(*fakeSessions)
			sessions.err = errors.New("away")
			defer func() { sessions.err = nil }()
			return b.ask("GET", "/admin/webhooks/x", nil)
		}, 503},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, a)
			b.login(adminToken)
			b.change = inFrame
			w := test.ask(b)
			if policy := w.Header().Get("Content-Security-Policy"); w.Code != test.status || !strings.HasSuffix(policy, "frame-ancestors https://app.example") {
				t.Errorf("answers %d with the policy %s, want %d that shows in a frame: %s", w.Code, policy, test.status, w.Body)
			}
			if strings.Contains(w.Body.String(), `type="password"`) {
				t.Errorf("a login stands in the frame: %s", w.Body)
			}
		})
	}
}

func TestProblemsWithinAPageAreNoPages(t *testing.T) {
	a := NewAccess(accessOptions(io.Discard))
	b := newBrowser(t, a)
	b.login(adminToken)
	full := newBrowser(t, a)
	full.cookies, full.pages = b.cookies, a.SlowPage(time.Minute, 0, 0, nil)
	for status, ask := range map[int]func() *httptest.ResponseRecorder{
		429: func() *httptest.ResponseRecorder { return full.ask("GET", "/admin/webhooks/x", nil) },
		403: func() *httptest.ResponseRecorder { return b.ask("POST", "/admin/webhooks/x", url.Values{}) },
		421: func() *httptest.ResponseRecorder {
			b.change = func(r *http.Request) { r.Header.Set("HX-Request", "true"); r.Host = "evil.example" }
			return b.ask("GET", "/admin/webhooks/x", nil)
		},
	} {
		b.change, full.change = header("Hx-Request", "true"), header("Hx-Request", "true")
		w := ask()
		if text := w.Body.String(); w.Code != status || strings.Contains(text, "<html") || !strings.HasPrefix(text, `<p class="alert" role="alert">`) {
			t.Errorf("htmx gets %d %s, want %d and a part of a page", w.Code, text, status)
		}
	}
}

func TestPortalTokensTakeNobodysPlaceUnasked(t *testing.T) {
	o := accessOptions(io.Discard)
	o.FrameAncestors = []string{"https://app.example"}
	o.Proxy = &Proxy{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")}, UserHeader: "X-User", Role: Operator}
	a := NewAccess(o)
	token := func(tenant, subject string) string {
		return a.sealPortalToken(portalClaims{Tenant: tenant, Subject: subject, Role: "viewer", Expires: time.Now().Add(time.Hour).Unix()})
	}
	for name, test := range map[string]struct {
		before string // the token of who is there
		change func(*http.Request)
		asked  string // "" for not at all
	}{
		"nobody":                {"", nil, ""},
		"the same":              {token("acme", "jo"), nil, ""},
		"an operator":           {adminToken, nil, "logged in as root."},
		"another of the tenant": {token("acme", "al"), nil, "logged in as al of acme."},
		"the same of another":   {token("bravo", "jo"), nil, "logged in as jo of bravo."},
		"a proxy's user":        {"", header("X-User", "jane"), "logged in as jane."},
		"an operator, framed":   {adminToken, inFrame, "logged in as root."},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, a)
			if test.before != "" {
				b.login(test.before)
			}
			b.change = test.change
			kept := maps.Clone(b.cookies)
			w := b.login(token("acme", "jo"))
			if test.asked == "" {
				b.wants(w, 303, "/admin/webhooks/x?y=1")
				return
			}
			text := strings.NewReplacer("<strong>", "", "</strong>", "").Replace(w.Body.String())
			if w.Code != 200 || !strings.Contains(text, test.asked) || !strings.Contains(text, "Go on as jo of acme?") || !maps.Equal(b.cookies, kept) {
				t.Errorf("answers %d %s, with the cookies %v, before %v", w.Code, text, b.cookies, kept)
			}
			if policy := w.Header().Get("Content-Security-Policy"); strings.HasSuffix(policy, "'none'") == (name == "an operator, framed") {
				t.Errorf("the question has the policy %s", policy)
			}
			w = b.ask("POST", "/admin/webhooks/login", url.Values{"token": {token("acme", "jo")}, "next": {"/admin/webhooks/x"}, "instead": {"1"}})
			b.wants(w, 303, "/admin/webhooks/x")
			b.wants(b.ask("GET", "/admin/webhooks/x", nil), 200, "jo is viewer (portal) at acme")
		})
	}
}
