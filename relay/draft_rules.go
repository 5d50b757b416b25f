package relay

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/admin"
)

// Keys of an endpoint that tenants' callers set, and those that they see beside.
var (
	tenantSets = []string{
		"name", "url", "events", "objects", "triggers", "enabled", "secret", "method", "content_type", "headers", "tls",
	}
	tenantSees = append([]string{
		"tenant", "previous_secrets", "signatures", "timeout", "retry", "pause", "ordering", "concurrency", "rate_limit",
	}, tenantSets...)
)

// given is a document, or a patch of one, that somebody may make.
type given struct {
	patch    []byte
	noSecret bool // it asks for an endpoint without a secret
}

// readGiven returns what somebody gives, or an *admin.InvalidError: of what is
// no JSON object, or of keys that are not theirs to set.
func readGiven(who *admin.Caller, text []byte) (given, error) {
	if len(text) > maxDocument {
		return given{}, problemOf("", "has more than %d bytes", maxDocument)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil || keys == nil {
		_, err := config.PatchEndpoint([]byte("{}"), text) // says what is wrong
		return given{}, cmp.Or(invalid(err), problemOf("", "is no JSON object"))
	}
	e := &admin.InvalidError{}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if message := mayGive(who, key, keys[key]); message != "" {
			e.Fields = append(e.Fields, admin.FieldProblem{Field: key, Message: message})
		}
	}
	if len(e.Fields) > 0 {
		return given{}, e
	}
	c := given{patch: text, noSecret: bytes.Equal(keys["secret"], []byte(`""`))}
	if c.noSecret {
		var err error
		keys["secret"] = json.RawMessage("null")
		if c.patch, err = json.Marshal(keys); err != nil {
			return given{}, err
		}
	}
	return c, nil
}

// mayGive returns why somebody may not give a key this value; "" when they may.
func mayGive(who *admin.Caller, key string, value json.RawMessage) string {
	isText := func(text string) bool {
		var got string
		return text != "" && json.Unmarshal(value, &got) == nil && got == text
	}
	switch {
	case key == "tenant" && who.Tenant != "" && isText(who.Tenant), key == "profile" && who.Tenant != "" && isText(who.Profile):
		return ""
	case who.Tenant != "" && !slices.Contains(tenantSets, key):
		return "cannot be set here"
	case who.Role >= admin.Admin && who.Tenant == "":
		return ""
	case key == "auth":
		return "takes the role admin"
	case key == "tls":
		var parts map[string]json.RawMessage
		if err := json.Unmarshal(value, &parts); err != nil {
			return "" // said by the check of the document
		}
		for _, part := range slices.Sorted(maps.Keys(parts)) {
			if part != "verify" {
				return part + " takes the role admin"
			}
		}
	}
	return ""
}

// mayUse returns an *admin.InvalidError where somebody who is no admin would take
// away what one set of TLS, as tls: null does, or where somebody who may not set
// credentials would choose the server that gets them: those of a profile, or
// those that the endpoint had for another server before.
func mayUse(cfg *config.Config, who *admin.Caller, before, after *draft) error {
	if who.Role >= admin.Admin && who.Tenant == "" {
		return nil
	}
	moved := before == nil || serverOf(&before.endpoint) != serverOf(&after.endpoint)
	profile := cfg.Profiles[after.endpoint.ProfileName]
	if (moved || before.endpoint.ProfileName != after.endpoint.ProfileName) && profile.HasCredentials() {
		return problemOf("profile", "has credentials, and choosing the server that gets them takes the role admin")
	}
	if before == nil {
		return nil
	}
	e := &admin.InvalidError{}
	was, is := ownKeys(before), ownKeys(after)
	for _, part := range slices.Sorted(maps.Keys(was.TLS)) {
		if _, stays := is.TLS[part]; !stays && part != "verify" {
			e.Fields = append(e.Fields, admin.FieldProblem{Field: "tls", Message: "taking away " + part + " takes the role admin"})
		}
	}
	if !moved {
		return orNil(e)
	}
	if len(is.Auth) > 0 {
		e.Fields = append(e.Fields, admin.FieldProblem{Field: "auth", Message: "was set for another server: changing the url takes the role admin"})
	}
	for _, name := range slices.Sorted(maps.Keys(is.Headers)) {
		if config.IsCredentialHeader(name) && is.Headers[name] == was.Headers[name] {
			e.Fields = append(e.Fields, admin.FieldProblem{
				Field: fmt.Sprintf("headers.%s", name), Message: "may hold a credential for another server: with another url give another value, or null",
			})
		}
	}
	return orNil(e)
}

// orNil returns e unless nothing is wrong.
func orNil(e *admin.InvalidError) error {
	if len(e.Fields) == 0 {
		return nil
	}
	return e
}

// own is what mayUse looks at of an endpoint's own keys.
type own struct {
	Auth    map[string]any
	TLS     map[string]any
	Headers map[string]string
}

func ownKeys(d *draft) (o own) {
	_ = json.Unmarshal(d.document, &o) // it was checked
	return o
}

// serverOf returns what identifies the server that an endpoint's requests go to.
func serverOf(c *config.Endpoint) string {
	u, err := url.Parse(c.URL.Reveal())
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// forTenant returns of an endpoint's document, which may be nil, the keys that
// its tenant's callers see.
func forTenant(document []byte) []byte {
	if document == nil {
		return nil
	}
	var keys, seen map[string]json.RawMessage
	if json.Unmarshal(document, &keys) != nil {
		return []byte("{}")
	}
	seen = make(map[string]json.RawMessage)
	for _, key := range tenantSees {
		if value, ok := keys[key]; ok {
			seen[key] = value
		}
	}
	var tls struct {
		Verify *bool `json:"verify,omitempty"`
	}
	if _ = json.Unmarshal(seen["tls"], &tls); tls.Verify != nil { // not the names of files
		seen["tls"], _ = json.Marshal(tls)
	} else {
		delete(seen, "tls")
	}
	shown, err := json.Marshal(seen)
	if err != nil {
		return []byte("{}")
	}
	return shown
}
