package admin

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// A session's cookie is 32 random bytes and a code that only who has the key
// of the token that opened it can make: forged ones cost the ledger nothing,
// and a session ends with its token.
const (
	cookieRandom = 32
	cookieCode   = 16
	maxCookies   = 4 // of one name that are looked at
	sessionFor   = 12 * time.Hour
)

// The cookies' names. A browser takes those with the prefix __Host- by https and
// from this very host only; they come first, and alone where https is known of.
const (
	sessionCookie = "posthorn"
	proxyCookie   = "posthorn-csrf"
	hostPrefix    = "__Host-"
)

// cookie is what a cookie's value stands for.
type cookie []byte

// newCookie returns a cookie that nobody had before; with a key, one that it proves.
func newCookie(key []byte) cookie {
	c := make(cookie, cookieRandom, cookieRandom+cookieCode)
	_, _ = rand.Read(c) // never fails
	return append(c, c.code(key)...)
}

func (c cookie) code(key []byte) []byte {
	return mac(key, "cookie\x00"+string(c[:cookieRandom]))[:cookieCode]
}

// of reports whether the key made the cookie.
func (c cookie) of(key []byte) bool { return hmac.Equal(c[cookieRandom:], c.code(key)) }

func (c cookie) hash() [sha256.Size]byte { return sha256.Sum256(c) }

func (c cookie) text() string { return base64.RawURLEncoding.EncodeToString(c) }

// csrf returns the token without which nothing is changed for who has the
// cookie: another page can have the cookie sent, but not read it.
func (c cookie) csrf(name string) string {
	return base64.RawURLEncoding.EncodeToString(mac(c, "csrf\x00"+name))
}

// cookies returns a request's cookies of that name that may be ours. By https they
// have the prefix: another host of the domain can plant one without.
func (p *Proxy) cookies(r *http.Request, name string) (list []cookie) {
	names := []string{hostPrefix + name, name}
	if r.TLS != nil || p.secure(r) {
		names = names[:1]
	}
	for _, name := range names {
		for _, sent := range r.CookiesNamed(name) {
			c, err := base64.RawURLEncoding.Strict().DecodeString(sent.Value)
			if err == nil && len(c) == cookieRandom+cookieCode && len(list) < maxCookies {
				list = append(list, c)
			}
		}
	}
	return list
}

// setCookie sends a cookie; nil takes it away. framed says that a page of
// another site may show ours.
func (a *Access) setCookie(w http.ResponseWriter, r *http.Request, name string, c cookie, framed bool) {
	out := &http.Cookie{Name: name, Value: c.text(), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if a.secure(r) {
		out.Name, out.Secure = hostPrefix+name, true
		if framed && len(a.FrameAncestors) > 0 {
			out.SameSite, out.Partitioned = http.SameSiteNoneMode, true
		}
	}
	if c == nil {
		out.MaxAge = -1
	}
	http.SetCookie(w, out)
}

// secure reports whether the browser speaks https, to us or to a proxy.
func (a *Access) secure(r *http.Request) bool {
	return r.TLS != nil || strings.HasPrefix(r.Header.Get("Origin"), "https://") || a.Proxy.secure(r)
}

// confirmed reports whether who makes a request meant it, as the CSRF token
// that it shows says: a browser sends cookies with whatever a page makes it send.
func (c *Caller) confirmed(shown string) bool {
	return !c.ambient || c.csrf != "" && subtle.ConstantTimeCompare([]byte(shown), []byte(c.csrf)) == 1
}

// bySession returns whose the session is that a request's cookie names: nobody's
// when there is none, or it has ended.
func (a *Access) bySession(r *http.Request, from string) (*Caller, *denial) {
	for _, c := range a.Proxy.cookies(r, sessionCookie) {
		who := a.maker(c)
		if who == nil {
			continue
		}
		s, err := a.Sessions.Session(r.Context(), c.hash())
		if errors.Is(err, ledger.ErrUnknownSession) {
			continue
		}
		if err != nil {
			a.Logger.LogAttrs(r.Context(), slog.LevelWarn, "session not read", slog.Any("err", err))
			return nil, &denial{status: http.StatusServiceUnavailable, detail: "who you are cannot be looked up, the relay's log says why; try again later", retryAfter: 5 * time.Second}
		}
		who.From, who.ambient, who.csrf = from, true, c.csrf("")
		who.looked, who.ended = time.Now(), func(ctx context.Context) bool {
			_, err := a.Sessions.Session(ctx, c.hash())
			return errors.Is(err, ledger.ErrUnknownSession)
		}
		if who.Via == viaPortal {
			role, err := ParseRole(s.Role)
			if err != nil || s.Tenant == "" {
				continue // no session of ours
			}
			who.Name, who.Role, who.Tenant, who.Profile = s.Name, role, s.Tenant, s.Profile
		}
		return who, nil
	}
	return nil, nil
}

// maker returns who can have made a cookie, nil if nobody: with role and name
// of the configuration now, or of the portal with neither.
func (a *Access) maker(c cookie) (who *Caller) {
	for i := range a.Tokens {
		if t := &a.Tokens[i]; c.of(t.sessionKey()) {
			who = &Caller{Name: t.Name, Role: t.Role, Via: viaWeb}
		}
	}
	for _, key := range a.portalKeys {
		if c.of(key) {
			who = &Caller{Via: viaPortal}
		}
	}
	return who
}

// enter opens a session for who has a token, and sends its cookie: a new one,
// whatever the browser had before.
func (a *Access) enter(ctx context.Context, w http.ResponseWriter, r *http.Request, c *credential) error {
	lasts := sessionFor
	if c.left > 0 {
		lasts = min(lasts, c.left)
	}
	who := c.who
	if who.Via == viaAPI {
		who.Via = viaWeb
	}
	made := newCookie(c.key)
	err := a.Sessions.OpenSession(ctx, ledger.Session{
		Hash: made.hash(), Name: who.Name, Role: who.Role.String(), Tenant: who.Tenant, Profile: who.Profile, Via: who.Via, Lasts: lasts,
	}, who.Actor())
	if err != nil {
		return err
	}
	a.leave(r)
	a.setCookie(w, r, sessionCookie, made, who.Portal())
	return nil
}

// leave ends the sessions that a request's cookies name.
func (a *Access) leave(r *http.Request) {
	for _, c := range a.Proxy.cookies(r, sessionCookie) {
		if a.maker(c) == nil {
			continue
		}
		if err := a.Sessions.CloseSession(r.Context(), c.hash(), a.Proxy.clientOf(r)); err != nil {
			a.Logger.LogAttrs(r.Context(), slog.LevelWarn, "session not ended", slog.Any("err", err))
		}
	}
}

// where returns the dashboard's path that somebody wanted before the login:
// one of ours, whatever a link says.
func where(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || len(next) > maxURI || strings.ContainsAny(next, "\\\r\n\t") ||
		u.Path != dashboardPath && !strings.HasPrefix(u.Path, dashboardPath+"/") || strings.Contains(u.Path, "..") {
		return dashboardPath
	}
	return u.RequestURI()
}
