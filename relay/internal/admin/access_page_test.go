package admin

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
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
			b.pages = a.SlowPage(time.Minute, 0, nil)
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
	full.cookies, full.pages = b.cookies, a.SlowPage(time.Minute, 0, nil)
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
