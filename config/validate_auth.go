package config

import (
	"net/netip"
	"net/url"
	"strings"
)

// authKeys are the keys that each kind of auth must have.
var authKeys = map[string][]string{
	"basic":  {"username"},
	"bearer": {"token"},
	"oauth2": {"token_url", "client_id", "client_secret"},
}

// authKinds returns the kinds that are given at p, in the order in which they
// are written.
func authKinds(p place) []string {
	if !p.given || p.node.kind != object {
		return nil
	}
	var kinds []string
	for _, name := range p.node.names {
		if authKeys[name] != nil && p.field(name).node.kind == object {
			kinds = append(kinds, name)
		}
	}
	return kinds
}

// auth checks the keys of p that are given there.
func (v *validator) auth(p place, a *Auth) {
	if kinds := authKinds(p); len(kinds) > 1 {
		v.problems.add(p.field(kinds[1]), "excludes %s: give one of them", kinds[0])
	}
	basic, bearer, client := p.field("basic"), p.field("bearer"), p.field("oauth2")
	v.credential(basic.field("username"), a.Basic.Username)
	v.credential(basic.field("password"), a.Basic.Password.Reveal())
	if at := basic.field("username"); at.given && strings.Contains(a.Basic.Username, ":") {
		v.problems.add(at, "must not hold a colon, which ends it")
	}
	v.token(bearer.field("token"), a.Bearer.Token.Reveal())
	v.credential(client.field("client_id"), a.OAuth2.ClientID)
	v.credential(client.field("client_secret"), a.OAuth2.ClientSecret.Reveal())
	for i, scope := range a.OAuth2.Scopes {
		at := client.field("scopes").item(i)
		v.token(at, scope)
		if at.given && strings.ContainsAny(scope, `"\`) { // RFC 6749, section 3.3
			v.problems.add(at, `must not hold " and \`)
		}
	}
	at := client.field("token_url")
	parsed := v.url(at, a.OAuth2.TokenURL)
	switch {
	case parsed == nil:
	case parsed.User != nil:
		v.problems.add(at, "must not hold a user: client_id and client_secret authenticate")
	case sentInClear(parsed):
		v.warnings.add(at, clearText)
	}
}

// credential reports a text that is empty or that a header could not carry. It
// quotes nothing of it.
func (v *validator) credential(p place, text string) {
	switch {
	case !p.given:
	case text == "":
		v.problems.add(p, "is empty")
	case !validHeaderValue(text) || strings.Contains(text, "\t"):
		v.problems.add(p, "must not hold control characters, such as line breaks")
	}
}

const clearText = "is not https: whoever is on the way reads the credentials"

// sentInClear reports whether what is sent to u leaves this machine without
// TLS.
func sentInClear(u *url.URL) bool {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return false
	}
	address, err := netip.ParseAddr(host)
	return u.Scheme == "http" && (err != nil || !address.Unmap().IsLoopback())
}

// token reports a text other than visible ASCII, and quotes nothing of it.
func (v *validator) token(p place, text string) {
	switch {
	case !p.given:
	case text == "":
		v.problems.add(p, "is empty")
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		v.problems.add(p, "must be visible ASCII characters, without white space and line breaks")
	}
}

// credentials checks the auth that an endpoint's requests have, its profile's
// or its own: that it is complete, and that the URL does not authenticate too.
func (v *validator) credentials(profile, p place, endpoint *Endpoint) {
	at := p.field("auth")
	if len(authKinds(at)) == 0 {
		at = profile.field("auth")
	}
	kinds := authKinds(at)
	u, err := url.Parse(endpoint.URL.Reveal())
	user := err == nil && u.User != nil
	if err == nil && (user || len(kinds) > 0) && sentInClear(u) {
		v.warnings.add(p.field("url"), clearText)
	}
	if user {
		v.authorizations(p, endpoint)
	}
	if len(kinds) == 0 {
		return
	}
	a := &endpoint.Auth
	values := map[string]bool{
		"username": a.Basic.Username != "", "token": a.Bearer.Token != "",
		"token_url": a.OAuth2.TokenURL != "", "client_id": a.OAuth2.ClientID != "", "client_secret": a.OAuth2.ClientSecret != "",
	}
	for _, key := range authKeys[kinds[0]] {
		if !values[key] {
			v.problems.add(at.field(kinds[0]).field(key), "is required for endpoint %q", endpoint.Name)
		}
	}
	if user {
		v.problems.add(p.field("auth"), "excludes a user in url: give one of them")
	}
}

// authorizations reports the header Authorization of an endpoint whose URL's
// user makes such a header.
func (v *validator) authorizations(p place, endpoint *Endpoint) {
	const problem = "would set the header Authorization, which the user in url sets already"
	for name := range endpoint.Headers {
		if strings.EqualFold(name, "Authorization") {
			v.problems.add(p.field("headers").field(name), problem)
		}
	}
	for i, s := range endpoint.Signatures {
		if strings.EqualFold(s.Header, "Authorization") {
			v.problems.add(p.field("signatures").item(i), problem)
		}
	}
}

// IsCredentialHeader reports whether a header of that name, in any spelling, is
// likely to carry a credential, so that its value must not be shown.
func IsCredentialHeader(name string) bool { return sensitiveHeader.MatchString(name) }

// sent reports whether requests get an Authorization header.
func (a *Auth) sent() bool {
	return a.Basic.Username != "" || a.Bearer.Token != "" || a.OAuth2.TokenURL != ""
}
