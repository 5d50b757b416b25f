package config

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"github.com/google/uuid"
)

// endpoints sets cfg.Endpoints to the list at p: each is its own keys over its
// profile's over the defaults, with its tenant's secrets where it has none.
func (r reader) endpoints(p place, cfg *Config) {
	if p.node.kind != list {
		r.read(p, reflect.ValueOf(&cfg.Endpoints).Elem(), "") // says what is wrong, if anything is
		return
	}
	r.whole = true
	cfg.Endpoints = make([]Endpoint, len(p.node.items))
	for i := range cfg.Endpoints {
		r.endpoint(r.item(p, i), cfg, &cfg.Endpoints[i])
	}
}

// endpoint sets endpoint to what stands at p. The reader must be one of wholes.
func (r reader) endpoint(p place, cfg *Config, endpoint *Endpoint) {
	if profile, ok := cfg.Profiles[profileOf(p)]; ok {
		*endpoint = Endpoint{Enabled: true, Profile: profile.clone()}
	} else {
		*endpoint = defaultEndpoint()
	}
	endpoint.Auth.keep(authKinds(p.field("auth")))
	r.read(p, reflect.ValueOf(endpoint).Elem(), "")
	if id, err := uuid.Parse(endpoint.ID); err == nil {
		endpoint.ID = id.String()
	}
	endpoint.complete()
	if tenant, ok := cfg.Tenants[endpoint.Tenant]; ok && endpoint.Secret == "" {
		endpoint.Secret, endpoint.PreviousSecrets = tenant.Secret, tenant.PreviousSecrets
	}
	if endpoint.Signatures == nil {
		endpoint.Signatures = []Signature{}
		if endpoint.Secret != "" {
			endpoint.Signatures = []Signature{{Scheme: "standard-webhooks"}}
		}
	}
}

// profileOf returns the name of the profile that the endpoint at p gives, "" for
// none.
func profileOf(p place) string {
	if at := p.field("profile"); at.given && at.node.kind == text {
		return at.node.text
	}
	return ""
}

// keep drops the kinds of auth that are not among kinds, unless these are none:
// an endpoint's own kind replaces its profile's.
func (a *Auth) keep(kinds []string) {
	if len(kinds) == 0 {
		return
	}
	all := *a
	*a = Auth{}
	for _, kind := range kinds {
		switch kind {
		case "basic":
			a.Basic = all.Basic
		case "bearer":
			a.Bearer = all.Bearer
		case "oauth2":
			a.OAuth2 = all.OAuth2
		}
	}
}

func defaultEndpoint() Endpoint { return Endpoint{Enabled: true, Profile: DefaultProfile()} }

// clone returns a copy that shares nothing with p.
func (p *Profile) clone() Profile {
	c := *p
	c.Headers, c.Signatures = maps.Clone(p.Headers), slices.Clone(p.Signatures)
	for i := range c.Signatures {
		s := &c.Signatures[i]
		s.Components, s.PreviousSecrets = slices.Clone(s.Components), slices.Clone(s.PreviousSecrets)
	}
	c.Retry.Schedule, c.Retry.StopOn = slices.Clone(p.Retry.Schedule), slices.Clone(p.Retry.StopOn)
	c.Auth.OAuth2.Scopes = slices.Clone(p.Auth.OAuth2.Scopes)
	return c
}

// complete fills in what an hmac signature leaves out.
func (p *Profile) complete() {
	for i := range p.Signatures {
		s := &p.Signatures[i]
		if s.Scheme != "hmac" {
			continue
		}
		s.Algorithm, s.Encoding = cmp.Or(s.Algorithm, "sha256"), cmp.Or(s.Encoding, "hex")
		s.Content, s.Value = cmp.Or(s.Content, "{body}"), cmp.Or(s.Value, "{signature}")
	}
}
