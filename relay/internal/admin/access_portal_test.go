package admin

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// newPortalAPI returns an API of o's access.
func newPortalAPI(t *testing.T, o AccessOptions) *API {
	t.Helper()
	o.HasProfile = func(name string) bool { return name == "acme" }
	a, err := NewAPI(APIOptions{Control: &fakeControl{}, Access: NewAccess(o), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// minted returns the portal token that the API makes.
func minted(t *testing.T, a *API, body string) PortalToken {
	t.Helper()
	w := answerOf(a, request("POST", "/api/v1/portal-tokens", body, header("Content-Type", "application/json")))
	var made PortalToken
	if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil || w.Code != http.StatusCreated {
		t.Fatalf("%s answers %d %s, %v", body, w.Code, w.Body, err)
	}
	return made
}

func bearer(token string) func(*http.Request) { return header("Authorization", "Bearer "+token) }

func TestPortalTokensLetATenantInForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := accessOptions(io.Discard)
		sessions := o.Sessions.(*fakeSessions)
		a := newPortalAPI(t, o)
		made := minted(t, a, `{"tenant": "acme", "subject": "jo@acme", "profile": "acme"}`)
		if left := time.Until(made.ExpiresAt); left > time.Hour || left < time.Hour-time.Second || made.URL != "/admin/webhooks/enter#"+made.Token {
			t.Errorf("minted for %s: %s", left, made.URL)
		}
		who, denied := a.Access.know(request("GET", "/api/v1/events", "", bearer(made.Token)))
		if denied != nil || who.Name != "jo@acme" || who.Role != Operator || who.Tenant != "acme" || who.Profile != "acme" || who.Via != "portal" || who.From != "192.0.2.7" {
			t.Errorf("it is known as %+v, %+v", who, denied)
		}
		short := minted(t, a, `{"tenant": "acme", "subject": "jo", "role": "viewer", "expires_in": "5m"}`)
		b := newBrowser(t, a.Access)
		b.wants(b.login(short.Token), 303, "/admin/webhooks/x")
		b.wants(b.ask("GET", "/admin/webhooks/x", nil), 200, "jo is viewer (portal) at acme from 192.0.2.7")
		want := []string{"portal.token api:root jo@acme acme", "portal.token api:root jo acme"}
		if !slices.Equal(sessions.audit[:2], want) || !strings.HasPrefix(sessions.audit[2], "login portal:jo 192.0.2.7 ") {
			t.Errorf("the audit has %q", sessions.audit)
		}
		if opened, _ := time.ParseDuration(strings.TrimPrefix(sessions.audit[2], "login portal:jo 192.0.2.7 ")); opened <= 0 || opened > 5*time.Minute {
			t.Errorf("the session is for %s", opened)
		}
		for _, role := range []string{made.Token, short.Token} {
			if w := answerOf(a, request("GET", "/api/v1/stream", "", bearer(role))); w.Code != 403 || !strings.Contains(w.Body.String(), "portal") {
				t.Errorf("the stream answers a tenant %d %s", w.Code, w.Body)
			}
		}
		if w := answerOf(a, request("POST", "/api/v1/endpoints/e/pause", "", bearer(short.Token))); w.Code != 403 {
			t.Errorf("a viewer pauses: %d", w.Code)
		}
		time.Sleep(2 * time.Hour)
		w := answerOf(a, request("GET", "/api/v1/events", "", bearer(made.Token)))
		if w.Code != 401 || !strings.Contains(w.Body.String(), "has expired") {
			t.Errorf("after two hours it answers %d %s", w.Code, w.Body)
		}
		b.cookies = map[string]string{}
		b.wants(b.login(made.Token), 401, "has expired")
	})
}

func TestPortalTokensAreGoodForWhatTheyWereMadeForOnly(t *testing.T) {
	o := accessOptions(io.Discard)
	a := NewAccess(o)
	later := time.Now().Add(time.Hour).Unix()
	claims := portalClaims{Tenant: "acme", Subject: "jo", Role: "operator", Expires: later}
	good := a.sealPortalToken(claims)
	signed := func(key []byte, claims string) string {
		text := portalPrefix + base64.RawURLEncoding.EncodeToString([]byte(claims))
		return text + "." + base64.RawURLEncoding.EncodeToString(mac(key, text))
	}
	text, code, _ := strings.Cut(good, ".")
	cases := map[string]string{
		"without a code":            text,
		"with an empty code":        text + ".",
		"with half a code":          text + "." + code[:20],
		"with another code":         text + "." + base64.RawURLEncoding.EncodeToString(mac([]byte("key"), text)),
		"with more claims":          text + "A." + code,
		"of other claims":           portalPrefix + base64.RawURLEncoding.EncodeToString([]byte(`{"t":"bravo","s":"jo","r":"operator","e":9999999999}`)) + "." + code,
		"with the secret itself":    signed(o.PortalKeys[0], `{"t":"acme","s":"jo","r":"operator","e":9999999999}`),
		"without a tenant":          signed(a.portalKeys[0], `{"s":"jo","r":"operator","e":9999999999}`),
		"without a subject":         signed(a.portalKeys[0], `{"t":"acme","r":"operator","e":9999999999}`),
		"of an admin":               signed(a.portalKeys[0], `{"t":"acme","s":"jo","r":"admin","e":9999999999}`),
		"of no role":                signed(a.portalKeys[0], `{"t":"acme","s":"jo","r":"","e":9999999999}`),
		"with a claim of later":     signed(a.portalKeys[0], `{"t":"acme","s":"jo","r":"operator","e":9999999999,"only":"x"}`),
		"without an end":            signed(a.portalKeys[0], `{"t":"acme","s":"jo","r":"operator"}`),
		"with an end that is over":  signed(a.portalKeys[0], `{"t":"acme","s":"jo","r":"operator","e":1}`),
		"that is not JSON":          signed(a.portalKeys[0], `x`),
		"that is too long":          signed(a.portalKeys[0], `{"t":"acme","s":"`+strings.Repeat("x", maxPortalToken)+`","r":"operator","e":9999999999}`),
		"with a prefix of no token": strings.TrimPrefix(good, portalPrefix),
	}
	for name, token := range cases {
		if c, err := a.openPortalToken(token, time.Now()); err == nil {
			t.Errorf("a token %s is taken for %+v", name, c.who)
		}
	}
	for name, keys := range map[string][][]byte{"rotated": {{9}, o.PortalKeys[0]}, "as it was": o.PortalKeys} {
		o := o
		o.PortalKeys = keys
		if _, err := NewAccess(o).openPortalToken(good, time.Now()); err != nil {
			t.Errorf("with the keys %s: %v", name, err)
		}
	}
	b := newBrowser(t, a)
	b.login(good)
	without := o
	without.PortalKeys = [][]byte{{9}}
	if _, err := NewAccess(without).openPortalToken(good, time.Now()); err == nil {
		t.Error("it is taken without its key")
	}
	later2 := newBrowser(t, NewAccess(without))
	later2.cookies = b.cookies
	later2.wants(later2.ask("GET", "/admin/webhooks/x", nil), 303, "/login")
}

func TestPortalTokensAreMintedWithinBounds(t *testing.T) {
	a := newPortalAPI(t, accessOptions(io.Discard))
	for body, field := range map[string]string{
		`{"subject": "jo"}`:                                               "body",
		`{"tenant": "acme"}`:                                              "body",
		`{"tenant": "", "subject": "jo"}`:                                 "body.tenant",
		`{"tenant": "acme", "subject": ""}`:                               "body.subject",
		`{"tenant": "a\u0000", "subject": "jo"}`:                          "body.tenant",
		`{"tenant": "acme", "subject": "jo\r\nx"}`:                        "body.subject",
		`{"tenant": "acme", "subject": "jo", "role": "admin"}`:            "body.role",
		`{"tenant": "acme", "subject": "jo", "expires_in": "25h"}`:        "body.expires_in",
		`{"tenant": "acme", "subject": "jo", "expires_in": "-1h"}`:        "body.expires_in",
		`{"tenant": "acme", "subject": "jo", "expires_in": "1s"}`:         "body.expires_in",
		`{"tenant": "acme", "subject": "jo", "expires_in": "never"}`:      "body.expires_in",
		`{"tenant": "acme", "subject": "jo", "profile": "bravo"}`:         "body.profile",
		`{"tenant": "acme", "subject": "jo", "admin": true}`:              "body.admin",
		`{"tenant": "` + strings.Repeat("x", 257) + `", "subject": "jo"}`: "body.tenant",
	} {
		w := answerOf(a, request("POST", "/api/v1/portal-tokens", body, header("Content-Type", "application/json")))
		if w.Code != 422 || !strings.Contains(w.Body.String(), `"location":"`+field+`"`) {
			t.Errorf("%s answers %d %s", body, w.Code, w.Body)
		}
	}
	longest := minted(t, a, `{"tenant": "`+strings.Repeat("<", 256)+`", "subject": "`+strings.Repeat("&", 128)+`"}`)
	if who, denied := a.Access.know(request("GET", "/", "", bearer(longest.Token))); denied != nil || len(who.Tenant) != 256 {
		t.Errorf("the longest, of %d bytes, is denied: %+v", len(longest.Token), denied)
	}
	o := accessOptions(io.Discard)
	o.PortalKeys = nil
	a = newPortalAPI(t, o)
	w := answerOf(a, request("POST", "/api/v1/portal-tokens", `{"tenant": "acme", "subject": "jo"}`, header("Content-Type", "application/json")))
	if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "ledger.encryption_keys") {
		t.Errorf("without a key it answers %d %s", w.Code, w.Body)
	}
}

func TestWrongPortalTokensAreGuesses(t *testing.T) {
	a := NewAccess(accessOptions(io.Discard))
	ask := func(token string) *denial {
		_, denied := a.know(request("GET", "/", "", bearer(token)))
		return denied
	}
	for i := range guessBurst {
		if d := ask(portalPrefix + strings.Repeat("x", i+1) + ".x"); d.status != 401 {
			t.Fatalf("guess %d is answered %+v", i, d)
		}
	}
	if d := ask(portalPrefix + "y.x"); d.status != 429 {
		t.Errorf("one more is answered %+v", d)
	}
	if d := ask(a.sealPortalToken(portalClaims{Tenant: "t", Subject: "s", Role: "viewer", Expires: 1})); d.status != 401 || !strings.Contains(d.detail, "expired") {
		t.Errorf("an old one is answered %+v", d)
	}
}

func FuzzPortalToken(f *testing.F) {
	a := NewAccess(AccessOptions{PortalKeys: [][]byte{{1}}})
	f.Add(a.sealPortalToken(portalClaims{Tenant: "t", Subject: "s", Role: "viewer", Expires: 9999999999}))
	f.Add(portalPrefix + "e30.e30")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := a.openPortalToken(token, time.Unix(0, 0))
		if err == nil && (c.who.Tenant == "" || c.who.Role > Operator || otherKeyTakes(token)) {
			t.Errorf("%q is taken for %+v", token, c.who)
		}
	})
}

// otherKeyTakes reports whether a token is good by another key, too.
func otherKeyTakes(token string) bool {
	_, err := NewAccess(AccessOptions{PortalKeys: [][]byte{{2}}}).openPortalToken(token, time.Unix(0, 0))
	return err == nil
}

func TestAuditCursorsAreOfTheAudit(t *testing.T) {
	for _, id := range []int64{1, 1 << 40, 1<<63 - 1} {
		if got, err := readAuditCursor(writeAuditCursor(id)); err != nil || got != id {
			t.Errorf("%d is read as %d, %v", id, got, err)
		}
	}
	for _, cursor := range []string{writeAuditCursor(0), writeAuditCursor(-1), writeCursor(auditList, "1"), writePlaceCursor(deliveryList, ledger.Cursor{})} {
		if _, err := readAuditCursor(cursor); err == nil {
			t.Errorf("%s is taken", cursor)
		}
	}
}
