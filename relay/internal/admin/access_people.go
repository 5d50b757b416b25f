package admin

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net/http"
	"time"

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
	Hash [sha256.Size]byte // of the token: nothing else of it is kept
}

// sessionKey returns what the cookies of the token's sessions are proved by:
// no longer valid once the configuration has another token.
func (t *Token) sessionKey() []byte { return mac(t.Hash[:], "posthorn session") }

// mac returns the HMAC-SHA256 of text.
func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// How a caller came in.
const (
	viaAPI    = "api"    // by a token of the configuration, as a bearer
	viaWeb    = "web"    // by a session that such a token opened
	viaPortal = "portal" // by a portal token, or a session that it opened
	viaProxy  = "proxy"  // by the word of a trusted proxy
)

// Caller is who makes a request.
type Caller struct {
	Name    string
	Role    Role
	Tenant  string // whose endpoints it may see and change, and no other's; "" for all
	Profile string // of the endpoints that it creates; "" for none in particular
	Via     string // how it came in: api, web, portal or proxy
	From    string // its network address, without port

	ambient bool   // the browser adds by itself who it is: changes must show csrf
	csrf    string // "" where nothing was sent that it could belong to: nothing may be changed
	conn    *http.ResponseController

	until  time.Time                  // when what it came in by ends; zero where that is not known ahead
	ended  func(context.Context) bool // whether it has ended since; nil where it does not
	looked time.Time                  // when that was asked last
}

// Portal reports whether the caller is a tenant's, by a portal token.
func (c *Caller) Portal() bool { return c.Via == viaPortal }

// lookEvery is how often it is looked whether somebody who listens may still.
const lookEvery = time.Minute

// Stays reports, to what goes on for long, whether the caller would still be let
// in: its portal token is good, and its session was not ended, nor its token. The
// ledger is asked at most once a minute. It is not safe for concurrent use.
func (c *Caller) Stays(ctx context.Context) bool {
	now := time.Now()
	if !c.until.IsZero() && !now.Before(c.until) {
		return false
	}
	if c.ended == nil || now.Sub(c.looked) < lookEvery {
		return true
	}
	c.looked = now
	return !c.ended(ctx)
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
