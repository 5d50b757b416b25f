package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// AccessOptions say who may use API and dashboard, and from where.
type AccessOptions struct {
	Listen         string                 // the address that is listened on, as host:port
	Hosts          []string               // further hosts that requests may be for, without port
	Tokens         []Token                // with no proxy's users either: every request is refused
	PortalKeys     [][]byte               // what portal tokens are signed with, the first, and verified with, all; none: there are none
	Proxy          *Proxy                 // nil for none
	FrameAncestors []string               // origins whose pages may show the portal's in a frame
	Styles         []string               // paths of the style sheets of the pages at the entrance
	Sessions       sessionLog             // needed once anybody may do anything
	HasProfile     func(name string) bool // whether the configuration has a profile of that name
	Logger         *slog.Logger
}

// sessionLog is where sessions stand; *ledger.Ledger is one.
type sessionLog interface {
	OpenSession(ctx context.Context, s ledger.Session, actor ledger.Actor) error
	Session(ctx context.Context, hash [sha256.Size]byte) (*ledger.Session, error)
	CloseSession(ctx context.Context, hash [sha256.Size]byte, from string) error
	Note(ctx context.Context, actor ledger.Actor, e ledger.Entry) error
}

// Access knows who makes a request: by a token of the configuration or of the
// portal, sent as a bearer's or turned into a session by the login page, or by
// the word of a proxy. The dashboard's pages go through Page:
//
//	mux.Handle("GET /admin/webhooks/endpoints", access.Page(
//		func(w http.ResponseWriter, r *http.Request, who *admin.Caller, csrf string) {
//			list, err := control.Endpoints(r.Context(), who, false)
//			…
//		}))
//	access.Mount(mux) // /admin/webhooks/login, /logout, /enter
//
// Whoever is not known is sent to the login page and comes back; who.Role and
// who.Tenant say what to show. csrf goes into every form as a hidden field
// named csrf, or into <meta name="csrf-token">, from which the page's script
// puts it into the header X-CSRF-Token: Page refuses a POST without it, and so
// does the API to whom it knows by a session. The headers that Page sets allow
// no inline script or style.
type Access struct {
	AccessOptions
	hosts      hosts
	guesses    *guesses
	portalKeys [][]byte // derived from PortalKeys
	busy       *rooms   // for pages that are made
	logged     *rate.Sometimes
	audited    *rate.Limiter // of failed logins: addresses may be many
	arrived    arrivals
}

// NewAccess returns the access for its options.
func NewAccess(o AccessOptions) *Access {
	a := &Access{
		AccessOptions: o, hosts: newHosts(o.Listen, o.Hosts), guesses: newGuesses(), busy: newRooms(maxBusy, maxOwnBusy),
		logged: &rate.Sometimes{First: 10, Interval: time.Minute}, audited: rate.NewLimiter(rate.Every(failuresEvery), failuresBurst),
		arrived: arrivals{seen: make(map[string]time.Time)},
	}
	for _, key := range o.PortalKeys {
		a.portalKeys = append(a.portalKeys, portalKey(key))
	}
	return a
}

// off reports whether nobody may do anything.
func (a *Access) off() bool { return len(a.Tokens) == 0 && !a.Proxy.names() }

// admit returns why a request is refused, whoever makes it; nil if it is not.
func (a *Access) admit(r *http.Request) *denial {
	switch {
	case !a.hosts.allow(r.Host):
		return &denial{status: http.StatusMisdirectedRequest, detail: "the Host header names none of this relay's hosts: http.hosts in its configuration lists more"}
	case a.off():
		return &denial{status: http.StatusNotFound, detail: "this is off: the relay's configuration has neither http.tokens nor a proxy's users"}
	case len(r.RequestURI) > maxURI:
		return &denial{status: http.StatusRequestURITooLong, detail: fmt.Sprintf("path and query may have %d bytes", maxURI)}
	case changes(r) && !sameOrigin(r):
		return &denial{status: http.StatusForbidden, detail: "the Origin header names another host: pages of other hosts may change nothing"}
	case changes(r) && !sameSite(r):
		return &denial{status: http.StatusForbidden, detail: "the Sec-Fetch-Site header says that another page asks: pages of other hosts may change nothing"}
	}
	return nil
}

// know returns who makes a request, or why nobody says. What a browser adds to
// requests by itself, a cookie or a proxy's word, counts for less than a bearer
// token, and lets nothing be changed without the CSRF token.
func (a *Access) know(r *http.Request) (*Caller, *denial) {
	who, denied := a.identify(r)
	if denied == nil && changes(r) && !who.confirmed(r.Header.Get(csrfHeader)) {
		return nil, errUnconfirmed
	}
	return who, denied
}

// How many failed logins the audit takes, however many addresses try.
const (
	failuresBurst = 100
	failuresEvery = 10 * time.Second // one more
)

// note writes to the audit what is not to wait for that it can be written.
func (a *Access) note(ctx context.Context, actor ledger.Actor, e ledger.Entry) {
	if err := a.Sessions.Note(ctx, actor, e); err != nil {
		a.logged.Do(func() {
			a.Logger.LogAttrs(ctx, slog.LevelWarn, "audit not written", slog.String("action", e.Action), slog.Any("err", err))
		})
	}
}

const csrfHeader = "X-CSRF-Token"

var errUnconfirmed = &denial{status: http.StatusForbidden, detail: "the CSRF token is missing or old (header X-CSRF-Token, or field csrf of a form): reload the page"}

func (a *Access) identify(r *http.Request) (*Caller, *denial) {
	from := a.Proxy.clientOf(r)
	sent := r.Header.Values("Authorization")
	if len(sent) > 0 {
		scheme, token, _ := strings.Cut(sent[0], " ")
		switch {
		case len(sent) > 1:
			return nil, &denial{status: http.StatusUnauthorized, detail: "there is more than one Authorization header", challenge: "Bearer"}
		case strings.EqualFold(scheme, "Bearer") && token != "":
			c, denied := a.byToken(r.Context(), token, from, false)
			if denied != nil {
				return nil, denied
			}
			return &c.who, nil
		}
	}
	if who, denied := a.bySession(r, from); who != nil || denied != nil {
		return who, denied
	}
	if who, denied := a.Proxy.user(r, from); who != nil || denied != nil {
		if who != nil && a.arrived.again(who.Name) {
			a.note(r.Context(), who.Actor(), ledger.Entry{Action: "login", Subject: who.Name, Detail: map[string]any{"role": who.Role.String()}})
		}
		return who, denied
	}
	return nil, &denial{status: http.StatusUnauthorized, detail: "a token is missing: Authorization: Bearer …", challenge: "Bearer"}
}

// credential is a token that was right.
type credential struct {
	who  Caller
	key  []byte        // makes and proves the cookies of its sessions
	left time.Duration // how long it is still good; 0 for as long as the configuration has it
}

// byToken returns whose a token is. An address from which too many different
// tokens were wrong is not listened to for a while, lest somebody guesses on: but
// for portal tokens, which nobody can guess, and, unless it logs in, for a token
// that was right from there before.
func (a *Access) byToken(ctx context.Context, token, from string, login bool) (*credential, *denial) {
	c, err := a.openPortalToken(token, time.Now())
	switch {
	case err == nil:
		c.who.From, c.who.until = from, time.Now().Add(c.left)
		return c, nil
	case errors.Is(err, errPortalTokenExpired):
		return nil, &denial{status: http.StatusUnauthorized, detail: "the portal token has expired: ask for a new one", challenge: `Bearer error="invalid_token"`}
	}
	hash := sha256.Sum256([]byte(token))
	guesser := guesserOf(from)
	if wait := a.guesses.wait(guesser); wait > 0 && (login || !a.guesses.wasRight(guesser, hash)) {
		return nil, &denial{status: http.StatusTooManyRequests, detail: "too many wrong tokens came from this address", retryAfter: wait}
	}
	if c := a.configured(hash); c != nil {
		a.guesses.right(guesser, hash)
		c.who.From = from
		return c, nil
	}
	if a.guesses.wrong(guesser, hash) && login && a.audited.Allow() {
		a.note(ctx, ledger.Actor{Name: "unknown", From: from}, ledger.Entry{Action: "login.failed"})
	}
	a.logged.Do(func() {
		a.Logger.LogAttrs(ctx, slog.LevelWarn, "request with a wrong token", slog.String("address", from))
	})
	return nil, &denial{status: http.StatusUnauthorized, detail: "the token is none of http.tokens", challenge: `Bearer error="invalid_token"`}
}

// configured returns whose the token of a hash is in the configuration; nil for
// nobody's.
func (a *Access) configured(hash [sha256.Size]byte) (found *credential) {
	for i := range a.Tokens { // all of them: how long it takes says nothing
		if t := &a.Tokens[i]; subtle.ConstantTimeCompare(t.Hash[:], hash[:]) == 1 {
			found = &credential{who: Caller{Name: t.Name, Role: t.Role, Via: viaAPI}, key: t.sessionKey()}
		}
	}
	return found
}
