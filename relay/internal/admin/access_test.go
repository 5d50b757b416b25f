package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// fakeSessions is a ledger of sessions.
type fakeSessions struct {
	mu    sync.Mutex
	open  map[[sha256.Size]byte]ledger.Session
	audit []string
	err   error
}

func (f *fakeSessions) OpenSession(_ context.Context, s ledger.Session, actor ledger.Actor) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[s.Hash] = s
	f.audit = append(f.audit, fmt.Sprintf("login %s %s %s", actor.Name, actor.From, s.Lasts))
	return f.err
}

func (f *fakeSessions) Session(_ context.Context, hash [sha256.Size]byte) (*ledger.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.open[hash]
	if !ok {
		return nil, ledger.ErrUnknownSession
	}
	return &s, f.err
}

func (f *fakeSessions) CloseSession(_ context.Context, hash [sha256.Size]byte, from string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.audit = append(f.audit, "logout "+f.open[hash].Name+" "+from)
	delete(f.open, hash)
	return f.err
}

func (f *fakeSessions) Note(_ context.Context, actor ledger.Actor, e ledger.Entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.audit = append(f.audit, fmt.Sprintf("%s %s %s %s", e.Action, actor.Name, e.Subject, e.Tenant))
	return f.err
}

func accessOptions(log io.Writer) AccessOptions {
	return AccessOptions{
		Listen: "192.0.2.1:8080", Hosts: []string{"Posthorn.Example", "2001:db8::1"},
		Tokens:     []Token{{"watcher", Viewer, sha256.Sum256([]byte(viewerToken))}, {"root", Admin, sha256.Sum256([]byte(adminToken))}},
		PortalKeys: [][]byte{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)},
		Sessions:   &fakeSessions{open: make(map[[sha256.Size]byte]ledger.Session)},
		Logger:     slog.New(slog.NewTextHandler(log, nil)),
	}
}

// browser is a browser's side of pages that Access serves.
type browser struct {
	t       *testing.T
	pages   http.Handler
	cookies map[string]string
	change  func(*http.Request) // of each request
}

// newBrowser returns a browser without cookies, of pages that say who is there.
func newBrowser(t *testing.T, a *Access) *browser {
	t.Helper()
	mux := http.NewServeMux()
	a.Mount(mux)
	mux.Handle("/admin/webhooks/", a.Page(func(w http.ResponseWriter, _ *http.Request, who *Caller, csrf string) {
		_, _ = fmt.Fprintf(w, "%s is %s (%s) at %s from %s\ncsrf=%s\n", who.Name, who.Role, who.Via, who.Tenant, who.From, csrf)
	}))
	return &browser{t: t, pages: mux, cookies: make(map[string]string)}
}

// ask makes a request as a browser does, on a page of ours.
func (b *browser) ask(method, target string, form url.Values) *httptest.ResponseRecorder {
	b.t.Helper()
	r := httptest.NewRequest(method, "http://localhost:8080"+target, strings.NewReader(form.Encode()))
	r.RemoteAddr = "192.0.2.7:1234"
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if method == http.MethodPost {
		r.Header.Set("Origin", "http://localhost:8080")
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	if b.change != nil {
		b.change(r)
	}
	w := answerOf(b.pages, r)
	for _, c := range w.Result().Cookies() {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	return w
}

func (b *browser) login(token string) *httptest.ResponseRecorder {
	b.t.Helper()
	return b.ask("POST", "/admin/webhooks/login", url.Values{"token": {token}, "next": {"/admin/webhooks/x?y=1"}})
}

// csrf returns the CSRF token of the page that is shown.
func (b *browser) csrf() string {
	b.t.Helper()
	_, token, _ := strings.Cut(b.ask("GET", "/admin/webhooks/x", nil).Body.String(), "csrf=")
	return strings.TrimSpace(token)
}

func (b *browser) wants(w *httptest.ResponseRecorder, status int, text string) {
	b.t.Helper()
	if w.Code != status || !strings.Contains(html.UnescapeString(w.Body.String())+w.Header().Get("Location"), text) {
		b.t.Errorf("answers %d %s %s, want %d with %q", w.Code, w.Header(), w.Body, status, text)
	}
}

func TestLoginOpensASessionThatLogoutEnds(t *testing.T) {
	o := accessOptions(io.Discard)
	sessions := o.Sessions.(*fakeSessions)
	b := newBrowser(t, NewAccess(o))
	b.wants(b.ask("GET", "/admin/webhooks/x?y=1", nil), 303, "/admin/webhooks/login?next=%2Fadmin%2Fwebhooks%2Fx%3Fy%3D1")
	b.wants(b.ask("GET", "/admin/webhooks/login?next=/admin/webhooks/x", nil), 200, `value="/admin/webhooks/x"`)
	b.wants(b.login("nobody-0102030405060708090a"), 401, "none of http.tokens")
	if len(b.cookies) != 0 {
		t.Errorf("a wrong token gets the cookies %v", b.cookies)
	}
	w := b.login(adminToken)
	b.wants(w, 303, "/admin/webhooks/x?y=1")
	if c := w.Result().Cookies()[0]; c.Name != "posthorn" || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Secure || c.MaxAge != 0 || strings.Contains(c.Value, "admin") {
		t.Errorf("the cookie is %s", c)
	}
	b.wants(b.ask("GET", "/admin/webhooks/x", nil), 200, "root is admin (web) at  from 192.0.2.7")
	b.wants(b.ask("GET", "/admin/webhooks/login", nil), 303, "/admin/webhooks")
	kept := b.cookies["posthorn"]
	b.wants(b.ask("POST", "/admin/webhooks/logout", nil), 403, "CSRF")
	b.wants(b.ask("POST", "/admin/webhooks/logout", url.Values{"csrf": {b.csrf()}}), 303, "/admin/webhooks/login")
	if len(b.cookies) != 0 {
		t.Errorf("after the logout there are the cookies %v", b.cookies)
	}
	b.cookies["posthorn"] = kept
	b.wants(b.ask("GET", "/admin/webhooks/x", nil), 303, "/login")
	if want := []string{"login.failed unknown  ", "login web:root 192.0.2.7 12h0m0s", "logout root 192.0.2.7"}; !slices.Equal(sessions.audit, want) {
		t.Errorf("the audit has %q", sessions.audit)
	}
}

func TestEachLoginHasASessionOfItsOwn(t *testing.T) {
	o := accessOptions(io.Discard)
	b := newBrowser(t, NewAccess(o))
	planted := newCookie(o.Tokens[1].sessionKey()).text() // such as somebody with a right token can have made
	b.cookies["posthorn"] = planted
	b.login(adminToken)
	first := b.cookies["posthorn"]
	b.login(viewerToken)
	if second := b.cookies["posthorn"]; first == planted || second == first || second == planted {
		t.Errorf("the sessions %s, %s, %s", planted, first, second)
	}
	b.wants(b.ask("GET", "/admin/webhooks/x", nil), 200, "watcher is viewer")
	b.cookies["posthorn"] = first // that the second login replaced
	b.wants(b.ask("GET", "/admin/webhooks/x", nil), 303, "/login")
}

func TestSessionsEndWithTheirToken(t *testing.T) {
	o := accessOptions(io.Discard)
	b := newBrowser(t, NewAccess(o))
	b.login(viewerToken)
	cases := []struct {
		name   string
		change func(*AccessOptions)
		want   string
	}{
		{"as it was", func(*AccessOptions) {}, "watcher is viewer"},
		{"with another role and name", func(o *AccessOptions) { o.Tokens[0].Role, o.Tokens[0].Name = Operator, "worker" }, "worker is operator"},
		{"with another token", func(o *AccessOptions) { o.Tokens[0].Hash = sha256.Sum256([]byte("another")) }, ""},
		{"without the token", func(o *AccessOptions) { o.Tokens = o.Tokens[1:] }, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			changed := o
			changed.Tokens = slices.Clone(o.Tokens)
			c.change(&changed)
			later := newBrowser(t, NewAccess(changed))
			later.cookies = b.cookies
			if w := later.ask("GET", "/admin/webhooks/x", nil); (w.Code == 200) != (c.want != "") || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("answers %d %s", w.Code, w.Body)
			}
		})
	}
}

// asksNobody is a ledger that nothing may be asked of.
type asksNobody struct {
	sessionLog
	t *testing.T
}

func (f asksNobody) Session(context.Context, [sha256.Size]byte) (*ledger.Session, error) {
	f.t.Error("the ledger is asked for a session that nobody opened")
	return nil, ledger.ErrUnknownSession
}

func TestForgedCookiesCostTheLedgerNothing(t *testing.T) {
	o := accessOptions(io.Discard)
	o.Sessions = asksNobody{t: t}
	b := newBrowser(t, NewAccess(o))
	right := newCookie(o.Tokens[0].sessionKey())
	flipped := slices.Clone(right)
	flipped[0] ^= 1
	for _, value := range []string{"", "x", right.text()[1:], right.text() + "A", flipped.text(), newCookie(nil).text(), newCookie([]byte("key")).text(), strings.Repeat("A", 64)} {
		b.cookies["posthorn"] = value
		b.wants(b.ask("GET", "/admin/webhooks/x", nil), 303, "/login")
	}
}

func TestNothingChangesWithoutTheCSRFToken(t *testing.T) {
	a := NewAccess(accessOptions(io.Discard))
	api, err := NewAPI(APIOptions{Control: &fakeControl{}, Access: a, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	b, other := newBrowser(t, a), newBrowser(t, a)
	b.login(adminToken)
	other.login(adminToken)
	token, foreign := b.csrf(), other.csrf()
	if token == foreign || token == "" {
		t.Fatalf("two sessions have the tokens %q and %q", token, foreign)
	}
	cases := []struct {
		name   string
		form   string
		change func(*http.Request)
		page   int
		api    int
	}{
		{"with it in the form", token, nil, 200, 403},
		{"with it in the header", "", header("X-Csrf-Token", token), 200, 200},
		{"without it", "", nil, 403, 403},
		{"with another session's", foreign, header("X-Csrf-Token", foreign), 403, 403},
		{"with a wrong one in the header", token, header("X-Csrf-Token", "x"), 403, 403},
		{"from another origin", token, func(r *http.Request) {
			r.Header.Set("X-CSRF-Token", token)
			r.Header.Set("Origin", "https://evil.example")
		}, 403, 403},
		{"from a page of no origin", token, func(r *http.Request) {
			r.Header.Set("X-CSRF-Token", token)
			r.Header.Set("Origin", "null")
		}, 403, 403},
		{"from another site, as the browser says", token, func(r *http.Request) {
			r.Header.Set("X-CSRF-Token", token)
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Del("Origin")
		}, 403, 403},
		{"by another host", token, func(r *http.Request) {
			r.Header.Set("X-CSRF-Token", token)
			r.Host = "evil.example"
			r.Header.Set("Origin", "http://evil.example")
		}, 421, 421},
		{"in a form of parts", token, header("Content-Type", "multipart/form-data; boundary=x"), 415, 403},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b.change = c.change
			defer func() { b.change = nil }()
			if w := b.ask("POST", "/admin/webhooks/x", url.Values{"csrf": {c.form}}); w.Code != c.page {
				t.Errorf("a page answers %d %s", w.Code, w.Body)
			}
			r := request("POST", "/api/v1/endpoints/e/pause", "", func(r *http.Request) { r.Header.Del("Authorization") })
			r.AddCookie(&http.Cookie{Name: "posthorn", Value: b.cookies["posthorn"]})
			if c.change != nil {
				c.change(r)
			}
			if w := answerOf(api, r); w.Code != c.api {
				t.Errorf("the API answers %d %s", w.Code, w.Body)
			}
		})
	}
	r := request("GET", "/api/v1/events", "", func(r *http.Request) { r.Header.Del("Authorization") })
	r.AddCookie(&http.Cookie{Name: "posthorn", Value: b.cookies["posthorn"]})
	if w := answerOf(api, r); w.Code != 200 {
		t.Errorf("reading needs a CSRF token: %d %s", w.Code, w.Body)
	}
}

func TestALoginIsMadeByOurOwnPageOnly(t *testing.T) {
	b := newBrowser(t, NewAccess(accessOptions(io.Discard)))
	for name, change := range map[string]func(*http.Request){
		"another origin": header("Origin", "https://evil.example"),
		"another site":   header("Sec-Fetch-Site", "cross-site"),
		"another host":   host("evil.example"),
	} {
		b.change = change
		if w := b.login(adminToken); w.Code < 400 || len(b.cookies) != 0 {
			t.Errorf("%s: answers %d with %v", name, w.Code, b.cookies)
		}
	}
	b.change = nil
	b.wants(b.ask("PUT", "/admin/webhooks/login", nil), 405, "GET and POST")
	b.wants(b.ask("POST", "/admin/webhooks/login", url.Values{"token": {strings.Repeat("x", maxLogin)}}), 413, "too large")
}

func TestGuessingAtTheLoginIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a := NewAccess(accessOptions(&log))
		b := newBrowser(t, a)
		b.wants(b.login(adminToken), 303, "/admin/webhooks")
		for i := range guessBurst {
			b.wants(b.login(fmt.Sprintf("guess-%d", i)), 401, "none of")
		}
		w := b.login("guess")
		b.wants(w, 429, "too many wrong tokens")
		if w.Header().Get("Retry-After") != "10" || w.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("the headers are %v", w.Header())
		}
		b.wants(b.login(adminToken), 429, "too many wrong tokens")
		portal := a.sealPortalToken(portalClaims{Tenant: "t", Subject: "s", Role: "viewer", Expires: time.Now().Add(time.Hour).Unix()})
		clear(b.cookies)
		b.wants(b.login(portal), 303, "/admin/webhooks") // nobody guesses one
		clear(b.cookies)
		time.Sleep(guessEvery)
		b.wants(b.login(adminToken), 303, "/admin/webhooks")
		if got := strings.Count(strings.Join(a.Sessions.(*fakeSessions).audit, "\n"), "login.failed unknown"); got != guessBurst {
			t.Errorf("the audit has %d failed logins", got)
		}
		if strings.Contains(log.String()+fmt.Sprint(a.Sessions.(*fakeSessions).audit), "guess-") {
			t.Errorf("logged: %s", &log)
		}
	})
}

func TestTheLoginLeadsToPagesOfOursOnly(t *testing.T) {
	for next, want := range map[string]string{
		"":                                               "/admin/webhooks",
		"/admin/webhooks":                                "/admin/webhooks",
		"/admin/webhooks/a b?c=d&e=%2F#frag":             "/admin/webhooks/a%20b?c=d&e=%2F",
		"https://evil.example/admin/webhooks/x":          "/admin/webhooks",
		"//evil.example/admin/webhooks/x":                "/admin/webhooks",
		"/\\evil.example":                                "/admin/webhooks",
		"/admin/webhooks/\\evil.example":                 "/admin/webhooks",
		"/admin/webhooksevil":                            "/admin/webhooks",
		"/admin/webhooks/../../api":                      "/admin/webhooks",
		"/admin/webhooks/%2e%2e/api":                     "/admin/webhooks",
		"/admin/webhooks/x\r\nSet-Cookie: a=b":           "/admin/webhooks",
		"/admin/webhooks/%0d%0aSet-Cookie: a=b":          "/admin/webhooks/%0D%0ASet-Cookie:%20a=b",
		"javascript:alert(1)":                            "/admin/webhooks",
		"/admin/webhooks/" + strings.Repeat("x", maxURI): "/admin/webhooks",
	} {
		if got := where(next); got != want {
			t.Errorf("%q leads to %q, not %q", next, got, want)
		}
		b := newBrowser(t, NewAccess(accessOptions(io.Discard)))
		w := b.ask("POST", "/admin/webhooks/login", url.Values{"token": {adminToken}, "next": {next}})
		if len(w.Result().Cookies()) != 1 || !strings.HasPrefix(w.Header().Get("Location"), "/admin/webhooks") {
			t.Errorf("%q: the login answers %v", next, w.Header())
		}
	}
}

func TestPagesRunNoScriptButTheirOwn(t *testing.T) {
	o := accessOptions(io.Discard)
	o.FrameAncestors = []string{"https://app.example", "https://*.app.example"}
	o.Styles = []string{"/admin/webhooks/assets/a.css"}
	a := NewAccess(o)
	b := newBrowser(t, a)
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors "
	inline := regexp.MustCompile(`(?i)<style|<script(?: [^>]*)?>[^<]|\son[a-z]+=|\sstyle=|javascript:`)
	wants := func(name string, w *httptest.ResponseRecorder, ancestors string) {
		t.Helper()
		h := w.Header()
		if h.Get("Content-Security-Policy") != policy+ancestors || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "same-origin" {
			t.Errorf("%s has the headers %v", name, h)
		}
		if inline.MatchString(w.Body.String()) {
			t.Errorf("%s has a script or style inline: %s", name, w.Body)
		}
	}
	wants("the login", b.ask("GET", `/admin/webhooks/login?next=/admin/webhooks/"><script>alert(1)</script>`, nil), "'none'")
	wants("a wrong token", b.login("<script>alert(1)</script>"), "'none'")
	wants("the entrance of the portal", b.ask("GET", "/admin/webhooks/enter", nil), "https://app.example https://*.app.example")
	b.login(adminToken)
	wants("a page", b.ask("GET", "/admin/webhooks/x", nil), "'none'")
	wants("a problem", b.ask("POST", "/admin/webhooks/x", nil), "'none'")
	portal := func(subject string) string {
		return a.sealPortalToken(portalClaims{Tenant: "acme", Subject: subject, Role: "viewer", Expires: time.Now().Add(time.Hour).Unix()})
	}
	wants("whether to go on as somebody else", b.login(portal("<script>alert(1)</script>")), "'none'")
	b.cookies = map[string]string{}
	b.login(portal("jo"))
	wants("a page of the portal", b.ask("GET", "/admin/webhooks/x", nil), "https://app.example https://*.app.example")
}

func TestWhoFollowsALinkFromElsewhereIsKnownAtOnce(t *testing.T) {
	b := newBrowser(t, NewAccess(accessOptions(io.Discard)))
	b.login(adminToken)
	kept := b.cookies
	b.cookies = nil // a browser leaves them out
	b.change = header("Sec-Fetch-Site", "cross-site")
	b.wants(b.ask("GET", "/admin/webhooks/x", nil), 200, `content="0; url=/admin/webhooks/login?next=%2Fadmin%2Fwebhooks%2Fx"`)
	b.cookies, b.change = kept, nil
	b.wants(b.ask("GET", "/admin/webhooks/login?next=%2Fadmin%2Fwebhooks%2Fx", nil), 303, "/admin/webhooks/x")
}

func TestPartsOfAPageLeadTheWholeToTheLogin(t *testing.T) {
	b := newBrowser(t, NewAccess(accessOptions(io.Discard)))
	b.change = func(r *http.Request) {
		r.Header.Set("HX-Request", "true")
		r.Header.Set("HX-Current-URL", "http://localhost:8080/admin/webhooks/deliveries?state=failed")
	}
	w := b.ask("GET", "/admin/webhooks/x", nil)
	if got := w.Header().Get("HX-Redirect"); w.Code != 401 || got != "/admin/webhooks/login?next=%2Fadmin%2Fwebhooks%2Fdeliveries%3Fstate%3Dfailed" {
		t.Errorf("answers %d to %q", w.Code, got)
	}
	w = b.ask("POST", "/admin/webhooks/x", url.Values{"name": {"half-filled"}})
	if w.Code != 401 || w.Header().Get("HX-Redirect") != "" || w.Header().Get("HX-Trigger") != "session-ended" {
		t.Errorf("a form's check is answered %d with %v", w.Code, w.Header())
	}
}

func TestAFrameWhoseSessionEndedSaysSo(t *testing.T) {
	o := accessOptions(io.Discard)
	o.FrameAncestors = []string{"https://app.example"}
	b := newBrowser(t, NewAccess(o))
	for _, site := range []string{"cross-site", "same-origin"} {
		b.change = func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Dest", "iframe")
			r.Header.Set("Sec-Fetch-Site", site)
		}
		for _, path := range []string{"/admin/webhooks/x", "/admin/webhooks/login"} {
			w := b.ask("GET", path, nil)
			b.wants(w, 401, "Your session has ended")
			if policy := w.Header().Get("Content-Security-Policy"); !strings.HasSuffix(policy, "frame-ancestors https://app.example") {
				t.Errorf("%s has the policy %s", path, policy)
			}
		}
	}
}

func TestCookiesBySecureConnectionsAreForThemOnly(t *testing.T) {
	o := accessOptions(io.Discard)
	o.FrameAncestors = []string{"https://app.example"}
	o.Proxy = &Proxy{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")}}
	a := NewAccess(o)
	portal := a.sealPortalToken(portalClaims{Tenant: "acme", Subject: "jo", Role: "viewer", Expires: time.Now().Add(time.Hour).Unix()})
	https := header("Origin", "https://localhost:8080")
	cases := []struct {
		name, token string
		change      func(*http.Request)
		want        string // of the cookie, but for its value
	}{
		{"without TLS", adminToken, nil, "posthorn=; Path=/; HttpOnly; SameSite=Strict"},
		{"with TLS before a proxy", adminToken, https, "__Host-posthorn=; Path=/; HttpOnly; Secure; SameSite=Strict"},
		{"as the proxy says", adminToken, header("X-Forwarded-Proto", "https"), "__Host-posthorn=; Path=/; HttpOnly; Secure; SameSite=Strict"},
		{"as somebody else says", adminToken, func(r *http.Request) {
			r.RemoteAddr = "192.0.2.8:1"
			r.Header.Set("X-Forwarded-Proto", "https")
		}, "posthorn=; Path=/; HttpOnly; SameSite=Strict"},
		{"of the portal in a frame", portal, https, "__Host-posthorn=; Path=/; HttpOnly; Secure; SameSite=None; Partitioned"},
		{"of the portal without TLS", portal, nil, "posthorn=; Path=/; HttpOnly; SameSite=Strict"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBrowser(t, a)
			b.change = c.change
			w := b.login(c.token)
			name, rest, _ := strings.Cut(w.Header().Get("Set-Cookie"), "=")
			_, rest, _ = strings.Cut(rest, ";")
			if got := name + "=;" + rest; got != c.want {
				t.Errorf("%d with %s", w.Code, got)
			}
			b.wants(b.ask("GET", "/admin/webhooks/x", nil), 200, " is ")
		})
	}
}

func TestByHTTPSACookieThatAnotherHostPlantedIsNone(t *testing.T) {
	o := accessOptions(io.Discard)
	o.Proxy = &Proxy{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")}}
	b := newBrowser(t, NewAccess(o))
	b.login(adminToken) // without https, as a page of a sibling host could have planted it
	b.wants(b.ask("GET", "/admin/webhooks/x", nil), 200, "root is")
	for name, change := range map[string]func(*http.Request){
		"as the proxy says": header("X-Forwarded-Proto", "https"),
		"by TLS":            func(r *http.Request) { r.TLS = &tls.ConnectionState{} },
	} {
		b.change = change
		if w := b.ask("GET", "/admin/webhooks/x", nil); w.Code != 303 {
			t.Errorf("%s it answers %d %s", name, w.Code, w.Body)
		}
	}
}

func TestSlowPagesAreBoundedAndLeaveTheOthersAlone(t *testing.T) {
	a := NewAccess(accessOptions(io.Discard))
	started, leave := make(chan struct{}), make(chan struct{})
	slow := a.SlowPage(time.Hour, 2, 1, func(http.ResponseWriter, *http.Request, *Caller, string) {
		started <- struct{}{}
		<-leave
	})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() { answerOf(slow, request("GET", "/admin/webhooks/test", "", nil)) })
		<-started
	}
	if w := answerOf(slow, request("GET", "/admin/webhooks/test", "", nil)); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("one more answers %d", w.Code)
	}
	b := newBrowser(t, a)
	b.login(adminToken)
	b.wants(b.ask("GET", "/admin/webhooks/x", nil), 200, "root")
	close(leave)
	all.Wait()
}

func TestALedgerThatIsAwayIsNoLogin(t *testing.T) {
	var log bytes.Buffer
	o := accessOptions(&log)
	b := newBrowser(t, NewAccess(o))
	b.login(adminToken)
	o.Sessions.(*fakeSessions).err = errors.New("connect to host=db7")
	b.wants(b.ask("GET", "/admin/webhooks/x", nil), 503, "cannot be looked up")
	b.cookies = map[string]string{}
	w := b.login(adminToken)
	b.wants(w, 503, "no session can be opened")
	if len(b.cookies) != 0 || strings.Contains(w.Body.String(), "db7") || !strings.Contains(log.String(), "db7") {
		t.Errorf("cookies %v, log %s", b.cookies, &log)
	}
}
