package config

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/signing"
	"github.com/posthorn/posthorn/transforms"
)

func (v *validator) endpoints(root place) {
	names, ids := make(map[string]place), make(map[string]place)
	for i := range v.cfg.Endpoints {
		p, endpoint := root.field("endpoints").item(i), &v.cfg.Endpoints[i]
		v.identity(p, endpoint)
		v.unique(p.field("name"), endpoint.Name, names)
		v.unique(p.field("id"), endpoint.ID, ids)
		v.url(p.field("url"), endpoint.URL)
		v.subscription(p, endpoint)
		if at := p.field("profile"); at.given {
			if _, ok := v.cfg.Profiles[endpoint.ProfileName]; !ok {
				v.problems.add(at, "no profile of that name: %s", shown(at.node))
			}
		}
		v.profile(p, &endpoint.Profile)
		inherited := v.cfg.Profiles[endpoint.ProfileName].Signatures != nil
		if p.field("headers").given || p.field("signatures").given || !inherited {
			v.headerConflicts(p, &endpoint.Profile)
		}
		v.secrets(root, p, endpoint)
	}
}

func (v *validator) identity(p place, endpoint *Endpoint) {
	if at := p.field("name"); at.given {
		if n := utf8.RuneCountInString(endpoint.Name); n < 1 || n > 128 || !isPrintable(endpoint.Name) {
			v.problems.add(at, "must be 1 to 128 printable characters")
		}
	}
	if at := p.field("tenant"); at.given && (endpoint.Tenant == "" || !isPrintable(endpoint.Tenant)) {
		v.problems.add(at, "must be printable text; leave the key out for every tenant's events")
	}
	if at := p.field("id"); at.given && uuid.Validate(endpoint.ID) != nil {
		v.problems.add(at, "must be a UUID, got %s", shown(at.node))
	}
}

// unique reports value at p when it is in seen, and puts it there when not.
func (v *validator) unique(p place, value string, seen map[string]place) {
	if !p.given || value == "" {
		return
	}
	other, repeated := seen[value]
	if !repeated {
		seen[value] = p
		return
	}
	where := "line " + strconv.Itoa(other.node.line)
	if other.node.line == 0 {
		where = other.node.file
	}
	v.problems.add(p, "is repeated: %s is %s in %s already", shown(p.node), other.key, where)
}

// url checks where an endpoint's requests go. Its messages quote nothing of
// the URL, whose every part may be a credential.
func (v *validator) url(p place, u URL) {
	if !p.given {
		return // reported as required
	}
	parsed, err := url.Parse(u.Reveal())
	if err != nil {
		v.problems.add(p, "is no valid URL")
		return
	}
	scheme := strings.ToLower(parsed.Scheme)
	port, portErr := strconv.ParseUint(parsed.Port(), 10, 16)
	switch {
	case scheme != "http" && scheme != "https":
		v.problems.add(p, "must begin with http:// or https://")
	case parsed.Hostname() == "":
		v.problems.add(p, "has no host")
	case parsed.Port() != "" && (portErr != nil || port == 0):
		v.problems.add(p, "has a port that is not 1 to 65535")
	case strings.Contains(u.Reveal(), "#"):
		v.problems.add(p, "has a fragment (#…), which is never sent")
	case scheme != "https" && v.cfg.Egress.RequireHTTPS:
		v.problems.add(p, "must begin with https://, since egress.require_https is set")
	}
}

func (v *validator) subscription(p place, endpoint *Endpoint) {
	events, objects, triggers := p.field("events"), p.field("objects"), p.field("triggers")
	for i, pattern := range endpoint.Events {
		if at := events.item(i); pattern != "*" && !isEventType(strings.TrimSuffix(pattern, ".*")) {
			v.problems.add(at, `must be an exact type, "group.*" or "*", got %s`, shown(at.node))
		}
	}
	for i, name := range endpoint.Objects {
		if at := objects.item(i); !isEventType(name) && (name != "*" || len(endpoint.Objects) > 1) {
			v.problems.add(at, `must be an object type without white space and *, or "*" alone, got %s`, shown(at.node))
		}
	}
	for i, name := range endpoint.Triggers {
		if at := triggers.item(i); !isEventType(name) || strings.Contains(name, ".") {
			v.problems.add(at, "must be an action without white space, * and dot, got %s", shown(at.node))
		}
	}
	switch hasEvents, hasObjects := len(endpoint.Events) > 0, len(endpoint.Objects) > 0; {
	case hasEvents && hasObjects:
		v.problems.add(objects, "excludes events: give one of them")
	case hasEvents && len(endpoint.Triggers) > 0:
		v.problems.add(triggers, "goes with objects, not with events")
	case hasObjects && len(endpoint.Triggers) == 0:
		v.problems.add(triggers, "is required with objects")
	case !hasEvents && !hasObjects:
		if v.problems.keys[objects.key] {
			return
		}
		v.problems.add(events, "is required, or objects and triggers")
	}
}

// secrets checks that an endpoint's signatures have a secret that they can use.
func (v *validator) secrets(root, p place, endpoint *Endpoint) {
	holder := p
	if !p.field("secret").given {
		holder = root.field("tenants").field(endpoint.Tenant)
	}
	secret := holder.field("secret")
	if previous := p.field("previous_secrets"); previous.given && !p.field("secret").given && len(previous.node.items) > 0 {
		v.problems.add(p.field("secret"), "is required with previous_secrets")
		return
	}
	if len(endpoint.Signatures) == 0 {
		return
	}
	if endpoint.Secret == "" {
		v.problems.add(p.field("secret"), "is required to sign; give one here or to the tenant, or set signatures to []")
		return
	}
	for _, signature := range endpoint.Signatures {
		if signature.Scheme == "" {
			continue // reported where it stands
		}
		v.key(secret, signature.Scheme, endpoint.Secret)
		for i, previous := range endpoint.PreviousSecrets {
			v.key(holder.field("previous_secrets").item(i).field("secret"), signature.Scheme, previous.Secret)
		}
	}
}

func (v *validator) key(p place, scheme string, secret Secret) {
	if secret == "" {
		return // reported where it stands
	}
	if _, err := signing.ParseKey(scheme, secret.Reveal()); err != nil {
		v.problems.add(p, "%s", strings.TrimPrefix(err.Error(), "secret: "))
	}
}

func (v *validator) template(p place, text string) {
	if _, err := transforms.ParseTemplate(text); err != nil {
		v.problems.add(p, "%s", quotable(p, err.Error()))
	}
}

// quotable is message, which may quote the value at p, or where that came
// through a reference a message that does not.
func quotable(p place, message string) string {
	if p.node.source != "" {
		return "is not valid with " + strconv.Quote(p.node.source) + " expanded"
	}
	return message
}

var (
	headerToken = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	// reservedHeaders are the HTTP client's own.
	reservedHeaders = []string{
		"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade",
	}
)

// headerProblem says why a request may not set the header name; empty when it may.
func headerProblem(name string) string {
	lower := strings.ToLower(name)
	switch {
	case !headerToken.MatchString(name) || len(name) > 256:
		return "is no header's name"
	case lower == "content-type":
		return "must not be set here: use content_type"
	case slices.Contains(reservedHeaders, lower) || strings.HasPrefix(lower, "proxy-"):
		return "must not be set: the HTTP client sets it"
	}
	return ""
}

func (v *validator) headers(p place, headers map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		at := p.field(name)
		if !at.given {
			continue
		}
		if problem := headerProblem(name); problem != "" {
			v.problems.add(at, "%s", problem)
		}
		if strings.ContainsAny(headers[name], "\r\n\x00") {
			v.problems.add(at, "must be one line")
		}
		v.template(at, headers[name])
	}
}

func (v *validator) signature(p place, s Signature) {
	if s.Scheme == "" {
		return // reported as required
	}
	if _, err := newSigner(s); err != nil {
		// signing's errors begin with the key they are about.
		key, message, _ := strings.Cut(err.Error(), ": ")
		at := p.field(key)
		v.problems.add(at, "%s", quotable(at, message))
	}
	if at := p.field("header"); at.given {
		if problem := headerProblem(s.Header); problem != "" {
			v.problems.add(at, "%s", problem)
		}
	}
}

func newSigner(s Signature) (*signing.Signer, error) {
	return signing.New(signing.Options{
		Scheme: s.Scheme, Header: s.Header, Algorithm: s.Algorithm, Encoding: s.Encoding, Content: s.Content, Value: s.Value,
	})
}

// headerConflicts reports headers that two parts of a profile would set.
func (v *validator) headerConflicts(p place, profile *Profile) {
	setBy := make(map[string]string) // by the header's name in lower case
	claim := func(at place, header, by string) {
		lower := strings.ToLower(header)
		if other, taken := setBy[lower]; taken {
			v.problems.add(at, "would set the header %s, which %s sets already", header, other)
			return
		}
		setBy[lower] = by
	}
	for i, s := range profile.Signatures {
		signer, err := newSigner(s)
		if err != nil {
			continue // reported where it stands
		}
		at := p.field("signatures").item(i)
		for _, header := range signer.HeaderNames() {
			claim(at, header, fmt.Sprintf("signatures[%d]", i))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(profile.Headers)) {
		claim(p.field("headers").field(name), name, fieldKey("headers", name))
	}
}
