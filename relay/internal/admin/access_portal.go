package admin

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// A portal token is portalPrefix, its claims in JSON as base64url, a dot, and an
// HMAC-SHA256 of all that as base64url.
const (
	portalPrefix   = "php_"
	maxPortalToken = 4096 // bytes
	maxPortalFor   = 24 * time.Hour
)

var (
	errNoPortalToken      = errors.New("it is no portal token of ours")
	errPortalTokenExpired = errors.New("the portal token has expired")
)

// portalClaims are what a portal token says.
type portalClaims struct {
	ID      []byte `json:"i"` // random: no two tokens are the same
	Tenant  string `json:"t"`
	Subject string `json:"s"`
	Role    string `json:"r"`
	Profile string `json:"p,omitempty"`
	Expires int64  `json:"e"` // seconds since 1970
}

// portalKey returns what portal tokens are signed with: derived, so that the
// secret's other uses say nothing of it.
func portalKey(secret []byte) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, "posthorn portal token 1", sha256.Size)
	if err != nil { // only for lengths that SHA-256 does not have
		panic(fmt.Errorf("derive the key of portal tokens: %w", err))
	}
	return key
}

// mint makes a portal token, as the audit will say.
func (a *Access) mint(ctx context.Context, who *Caller, c portalClaims, lasts time.Duration) (*PortalToken, error) {
	if len(a.portalKeys) == 0 {
		return nil, ledger.Refused("portal tokens are signed with a key of ledger.encryption_keys: the configuration has none")
	}
	expires := time.Now().Add(lasts).Truncate(time.Second).UTC()
	c.Expires = expires.Unix()
	detail := map[string]any{"role": c.Role, "expires_at": expires}
	if c.Profile != "" {
		detail["profile"] = c.Profile
	}
	if err := a.Sessions.Note(ctx, who.Actor(), ledger.Entry{Action: "portal.token", Subject: c.Subject, Tenant: c.Tenant, Detail: detail}); err != nil {
		return nil, err
	}
	token := a.sealPortalToken(c)
	return &PortalToken{Token: token, ExpiresAt: expires, URL: dashboardPath + "/enter#" + token}, nil
}

// sealPortalToken returns a token that says so. There must be a key.
func (a *Access) sealPortalToken(c portalClaims) string {
	c.ID = make([]byte, 12)
	_, _ = rand.Read(c.ID)     // never fails
	text, _ := json.Marshal(c) // of texts and a number: cannot fail
	signed := portalPrefix + base64.RawURLEncoding.EncodeToString(text)
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac(a.portalKeys[0], signed))
}

// openPortalToken returns whose a portal token is, or errNoPortalToken, or
// errPortalTokenExpired.
func (a *Access) openPortalToken(token string, now time.Time) (*credential, error) {
	signed, code, ok := strings.Cut(token, ".")
	if !ok || len(token) > maxPortalToken || !strings.HasPrefix(signed, portalPrefix) {
		return nil, errNoPortalToken
	}
	sent, err := base64.RawURLEncoding.Strict().DecodeString(code)
	if err != nil {
		return nil, errNoPortalToken
	}
	var key []byte
	for _, k := range a.portalKeys {
		if hmac.Equal(sent, mac(k, signed)) {
			key = k
		}
	}
	if key == nil {
		return nil, errNoPortalToken
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(signed, portalPrefix))
	var c portalClaims
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields() // of a later release: it may narrow what the token is good for
		err = d.Decode(&c)
	}
	role, roleErr := ParseRole(c.Role)
	if err != nil || roleErr != nil || role > Operator || c.Tenant == "" || c.Subject == "" {
		return nil, errNoPortalToken
	}
	left := time.Unix(c.Expires, 0).Sub(now)
	if left <= 0 {
		return nil, errPortalTokenExpired
	}
	return &credential{who: Caller{Name: c.Subject, Role: role, Tenant: c.Tenant, Profile: c.Profile, Via: viaPortal}, key: key, left: left}, nil
}
