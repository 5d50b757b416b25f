package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// Role is what somebody may do. Each may do what those below it may.
type Role int

// The roles, the least first.
const (
	Viewer   Role = iota + 1 // sees how deliveries and endpoints do
	Operator                 // also pauses, resumes, retries, tests, and sees what was sent
	Admin                    // may all
)

var roleNames = map[Role]string{Viewer: "viewer", Operator: "operator", Admin: "admin"}

func (r Role) String() string { return roleNames[r] }

// ParseRole returns the role of that name.
func ParseRole(name string) (Role, error) {
	for role, known := range roleNames {
		if known == name {
			return role, nil
		}
	}
	return 0, fmt.Errorf("no role %q", name)
}

// Token is what somebody proves who they are by.
type Token struct {
	Name string
	Role Role
	Hash [sha256.Size]byte // of the token: the API keeps nothing else of it
}

// Caller is who makes a request.
type Caller struct {
	Name    string
	Role    Role
	Tenant  string // whose endpoints it may see and change, and no other's; "" for all
	Profile string // of the endpoints that it creates; "" for none in particular
	Via     string // how it came in: api
	From    string // its network address

	conn *http.ResponseController
	done func() // the request no longer counts as being worked on
}

// Actor is how the ledger's audit names the caller.
func (c *Caller) Actor() ledger.Actor {
	return ledger.Actor{Name: c.Via + ":" + c.Name, From: c.From, Tenant: c.Tenant}
}

type callerKey struct{}

// callerOf returns who makes the request of ctx.
func callerOf(ctx context.Context) *Caller {
	who, _ := ctx.Value(callerKey{}).(*Caller) // every operation's request has one
	return who
}

// people are those who may use the API.
type people struct {
	tokens  []Token
	guesses *guesses
	logger  *slog.Logger
	logged  *rate.Sometimes
}

func newPeople(tokens []Token, logger *slog.Logger) people {
	return people{tokens: tokens, guesses: newGuesses(), logger: logger, logged: &rate.Sometimes{First: 10, Interval: time.Minute}}
}

// know returns who makes a request, or why nobody says. An address from which
// too many different tokens were wrong learns nothing of further wrong ones for
// a while; a right one is taken whatever others there did.
func (p *people) know(r *http.Request) (*Caller, *denial) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" || len(r.Header.Values("Authorization")) > 1 {
		return nil, &denial{status: http.StatusUnauthorized, detail: "a token is missing: Authorization: Bearer …", challenge: "Bearer"}
	}
	hash := sha256.Sum256([]byte(token))
	var who *Caller
	for i := range p.tokens { // all of them: how long it takes says nothing
		if t := &p.tokens[i]; subtle.ConstantTimeCompare(t.Hash[:], hash[:]) == 1 {
			who = &Caller{Name: t.Name, Role: t.Role, Via: "api", From: r.RemoteAddr}
		}
	}
	if who != nil {
		return who, nil
	}
	from := guesserOf(r.RemoteAddr)
	if wait := p.guesses.wait(from); wait > 0 {
		return nil, &denial{status: http.StatusTooManyRequests, detail: "too many wrong tokens came from this address", retryAfter: wait}
	}
	p.guesses.wrong(from, hash)
	p.logged.Do(func() {
		p.logger.LogAttrs(r.Context(), slog.LevelWarn, "API request with a wrong token", slog.String("address", r.RemoteAddr))
	})
	return nil, &denial{status: http.StatusUnauthorized, detail: "the token is none of http.tokens", challenge: `Bearer error="invalid_token"`}
}
