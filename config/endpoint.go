package config

import (
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/knadh/koanf/v2"
)

// decodeEndpoints fills cfg.Endpoints: each is its own keys over its
// profile's over the defaults, with its tenant's secrets where it has none.
func decodeEndpoints(k *koanf.Koanf, cfg *Config) error {
	for i, own := range k.Slices("endpoints") {
		merged := k.Cut("profiles" + delimiter + own.String("profile"))
		dropAuth(merged, own)
		if err := merged.Merge(own); err != nil {
			return fmt.Errorf("merge endpoint %d: %w", i, err)
		}
		endpoint := defaultEndpoint()
		if err := merged.Unmarshal("", &endpoint); err != nil {
			return fmt.Errorf("decode endpoint %d: %w", i, err)
		}
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
		cfg.Endpoints[i] = endpoint
	}
	return nil
}

// dropAuth drops from a profile's keys the kinds of auth that an endpoint's own
// keys replace by another.
func dropAuth(profile, own *koanf.Koanf) {
	kinds := own.MapKeys("auth")
	if len(kinds) == 0 {
		return
	}
	for _, kind := range profile.MapKeys("auth") {
		if !slices.Contains(kinds, kind) {
			profile.Delete("auth" + delimiter + kind)
		}
	}
}

func defaultEndpoint() Endpoint { return Endpoint{Enabled: true, Profile: DefaultProfile()} }

// complete fills in what an hmac signature leaves out.
func (p *Profile) complete() {
	for i := range p.Signatures {
		s := &p.Signatures[i]
		if s.Scheme != "hmac" {
			continue
		}
		for field, value := range map[*string]string{
			&s.Algorithm: "sha256", &s.Encoding: "hex", &s.Content: "{body}", &s.Value: "{signature}",
		} {
			if *field == "" {
				*field = value
			}
		}
	}
}
