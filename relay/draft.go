package relay

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// draft is an endpoint's document with its secrets, and what it comes to.
type draft struct {
	document []byte
	endpoint config.Endpoint
}

// invalid returns a *config.Error of a document as an *admin.InvalidError.
func invalid(err error) error {
	var all *config.Error
	if !errors.As(err, &all) {
		return err
	}
	e := &admin.InvalidError{}
	for _, p := range all.Problems {
		e.Fields = append(e.Fields, admin.FieldProblem{Field: p.Key, Message: p.Message})
	}
	return e
}

// draftNew returns what somebody wants to create, and the secret that was made
// for it, "" where none was. An error is an *admin.InvalidError.
func draftNew(cfg *config.Config, who *admin.Caller, document []byte) (made *draft, secret string, err error) {
	from, err := readGiven(who, document)
	if err != nil {
		return nil, "", err
	}
	forced := map[string]any{}
	if who.Tenant != "" {
		forced["tenant"] = who.Tenant
		if who.Profile != "" {
			forced["profile"] = who.Profile
		}
	}
	d := &draft{}
	if d.document, err = config.PatchEndpoint([]byte("{}"), from.patch); err != nil {
		return nil, "", invalid(err)
	}
	if d.document, err = patchWith(d.document, forced); err != nil {
		return nil, "", err
	}
	if signatures, has := cfg.SigningSchemes(d.document); !has && !from.noSecret && len(signatures) > 0 {
		secret = newSecret(signatures)
		if d.document, err = patchWith(d.document, map[string]any{"secret": secret}); err != nil {
			return nil, "", err
		}
	}
	if d.endpoint, err = cfg.CheckEndpoint(d.document); err != nil {
		return nil, "", invalid(err)
	}
	return d, secret, mayUse(cfg, who, nil, d)
}

// patchWith returns document with values in it.
func patchWith(document []byte, values map[string]any) ([]byte, error) {
	patch, err := json.Marshal(values)
	if err != nil {
		return nil, err
	}
	patched, err := config.PatchEndpoint(document, patch)
	return patched, invalid(err)
}

// draftOf returns a definition as a draft. What is wrong with it by now is no
// error.
func (d *directory) draftOf(r *ledger.Definition) (*draft, error) {
	document, err := d.keys.document(r)
	if err != nil {
		return nil, ledger.RefusedButTold("its secrets cannot be read, so that it can only be deleted", "the secrets of endpoint %s cannot be decrypted, so that it can only be deleted: %v", r.Name, err)
	}
	endpoints, _ := d.cfg.ParseEndpoints([][]byte{document})
	return &draft{document, endpoints[0]}, nil
}

// patched returns the draft changed by a merge patch. An error is an
// *admin.InvalidError.
func (d *draft) patched(cfg *config.Config, who *admin.Caller, patch []byte) (*draft, error) {
	from, err := readGiven(who, patch)
	if err != nil {
		return nil, err
	}
	next := &draft{}
	if next.document, err = config.PatchEndpoint(d.document, from.patch); err != nil {
		return nil, invalid(err)
	}
	if next.endpoint, err = cfg.CheckEndpoint(next.document); err != nil {
		return nil, invalid(err)
	}
	if next.endpoint.Tenant != d.endpoint.Tenant {
		return nil, problemOf("tenant", "cannot be changed: what was sent stays the tenant's that it was; create another endpoint")
	}
	return next, mayUse(cfg, who, d, next)
}

// maxPrevious bounds how many secrets sign beside the newest.
const maxPrevious = 8

// rotated returns the draft with another secret, and that secret where it was
// made here. The one before signs too until its grace is over.
func (d *draft) rotated(cfg *config.Config, r admin.Rotation, now time.Time) (next *draft, secret string, err error) {
	signatures, _ := cfg.SigningSchemes(d.document)
	if len(signatures) == 0 {
		return nil, "", ledger.Refused("none of the endpoint's signatures uses its secret")
	}
	type previous struct {
		Secret  string    `json:"secret"`
		Expires time.Time `json:"expires"`
		KeyID   string    `json:"key_id,omitempty"`
	}
	old := []previous{}
	for _, p := range d.endpoint.PreviousSecrets {
		if p.Expires.After(now) {
			old = append(old, previous{p.Secret.Reveal(), p.Expires, p.KeyID})
		}
	}
	if current := d.endpoint.Secret.Reveal(); current != "" && r.Grace > 0 {
		old = slices.Insert(old, 0, previous{Secret: current, Expires: now.Add(r.Grace).UTC().Truncate(time.Second)})
	}
	if len(old) > maxPrevious {
		return nil, "", ledger.Refused("%d secrets sign still: wait until one of them expires", maxPrevious)
	}
	values := map[string]any{"secret": r.Secret, "previous_secrets": old}
	if r.Secret == "" {
		secret = newSecret(signatures)
		values["secret"] = secret
	}
	if len(old) == 0 {
		values["previous_secrets"] = nil
	}
	next = &draft{}
	if next.document, err = patchWith(d.document, values); err != nil {
		return nil, "", err
	}
	next.endpoint, err = cfg.CheckEndpoint(next.document)
	return next, secret, invalid(err)
}

// newSecret returns a random secret that all of the signatures can use: 32
// bytes, in the form that the pickiest wants.
func newSecret(signatures []config.Signature) string {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	prefix := ""
	for _, s := range signatures {
		switch {
		case s.Algorithm == "ed25519":
			return "whsk_" + base64.StdEncoding.EncodeToString(key[:]) // a seed
		case s.Scheme == "standard-webhooks", s.Scheme == "http-message":
			prefix = "whsec_"
		}
	}
	if prefix == "" {
		return hex.EncodeToString(key[:])
	}
	return prefix + base64.StdEncoding.EncodeToString(key[:])
}

func problemOf(field, format string, args ...any) error {
	return &admin.InvalidError{Fields: []admin.FieldProblem{{Field: field, Message: fmt.Sprintf(format, args...)}}}
}
