package relay

import (
	"fmt"
	"maps"
	"net/url"
	"slices"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/lane"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/route"
	"github.com/posthorn/posthorn/relay/signing"
	"github.com/posthorn/posthorn/transforms"
)

// endpoints is the configuration's endpoints in each package's own terms, all
// in the same order.
type endpoints struct {
	lanes    []*lane.Endpoint
	routes   []route.Endpoint
	recorded []ledger.Endpoint // the disabled ones too: what they have pending stays
}

// translate turns the configuration's endpoints into what the packages want.
func translate(cfg *config.Config, version string) (endpoints, error) {
	var all endpoints
	for i := range cfg.Endpoints {
		c := &cfg.Endpoints[i]
		ep, err := translateLane(c, version)
		if err != nil {
			return all, fmt.Errorf("endpoint %s: %w", c.Name, err)
		}
		all.recorded = append(all.recorded, ledger.Endpoint{ID: ep.ID, Name: c.Name, URL: c.URL.String(), Tenant: c.Tenant, Enabled: c.Enabled})
		if !c.Enabled {
			continue
		}
		all.lanes = append(all.lanes, ep)
		all.routes = append(all.routes, route.Endpoint{ID: ep.ID, Tenant: c.Tenant, Patterns: patterns(c)})
	}
	return all, nil
}

// patterns returns what the endpoint wants: its events, or its objects times
// its triggers.
func patterns(c *config.Endpoint) []string {
	if len(c.Objects) == 0 {
		return c.Events
	}
	var all []string
	for _, object := range c.Objects {
		for _, trigger := range c.Triggers {
			all = append(all, object+"."+trigger)
		}
	}
	return all
}

func translateLane(c *config.Endpoint, version string) (*lane.Endpoint, error) {
	id := event.EndpointID(c.Name)
	if c.ID != "" {
		given, err := uuid.Parse(c.ID)
		if err != nil {
			return nil, fmt.Errorf("parse id: %w", err)
		}
		id = given
	}
	u, err := url.Parse(c.URL.Reveal())
	if err != nil {
		return nil, fmt.Errorf("parse url: %w", err)
	}
	ep := &lane.Endpoint{
		ID: id, Name: c.Name, Tenant: c.Tenant, URL: u,
		Method: c.Method, ContentType: c.ContentType, UserAgent: "Posthorn/" + version, Compact: c.JSON == "compact",
		Timeout:     c.Timeout,
		Retry:       lane.Retry{Schedule: c.Retry.Schedule, Jitter: c.Retry.Jitter, MaxAge: c.Retry.MaxAge},
		Ordered:     c.Ordering == "key",
		Concurrency: c.Concurrency,
		RateLimit:   c.RateLimit,
	}
	if ep.Body, err = transforms.ParseTemplate(c.Body); err != nil {
		return nil, fmt.Errorf("parse body: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		value, err := transforms.ParseTemplate(c.Headers[name])
		if err != nil {
			return nil, fmt.Errorf("parse header %s: %w", name, err)
		}
		ep.Headers = append(ep.Headers, lane.Header{Name: name, Value: value})
	}
	for _, s := range c.Signatures {
		signature, err := translateSignature(s, c)
		if err != nil {
			return nil, err
		}
		ep.Signatures = append(ep.Signatures, signature)
	}
	return ep, nil
}

func translateSignature(s config.Signature, c *config.Endpoint) (lane.Signature, error) {
	signer, err := signing.New(signing.Options{
		Scheme: s.Scheme, Header: s.Header, Algorithm: s.Algorithm, Encoding: s.Encoding, Content: s.Content, Value: s.Value,
	})
	if err != nil {
		return lane.Signature{}, err
	}
	signature := lane.Signature{Signer: signer}
	key, err := signing.ParseKey(s.Scheme, c.Secret.Reveal())
	if err != nil {
		return signature, fmt.Errorf("parse secret: %w", err)
	}
	signature.Keys = []lane.Key{{Key: key}}
	for _, p := range c.PreviousSecrets {
		key, err := signing.ParseKey(s.Scheme, p.Secret.Reveal())
		if err != nil {
			return signature, fmt.Errorf("parse previous secret: %w", err)
		}
		signature.Keys = append(signature.Keys, lane.Key{Key: key, Expires: p.Expires})
	}
	return signature, nil
}
