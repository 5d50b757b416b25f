package relay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/httpsig"
	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/lane"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/route"
	"github.com/posthorn/posthorn/relay/internal/trace"
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

// setup is a configuration and what the stages of a session need of it, but for
// the transforms.
type setup struct {
	cfg       *config.Config
	endpoints endpoints
	client    *egress.Client
	caFiles   map[string]string // what the files that endpoints' tls.ca_file names held
}

// newSetup returns what cfg comes to. Requests are sent while permit allows it.
func newSetup(cfg *config.Config, version string, permit func() bool) (setup, error) {
	s := setup{cfg: cfg, caFiles: map[string]string{}}
	for i := range cfg.Endpoints {
		path := cfg.Endpoints[i].TLS.CAFile
		if _, read := s.caFiles[path]; path != "" && !read {
			text, err := os.ReadFile(path)
			if err != nil {
				return s, fmt.Errorf("endpoint %s: tls.ca_file: %w", cfg.Endpoints[i].Name, err)
			}
			s.caFiles[path] = string(text)
		}
	}
	var err error
	if s.client, err = newClient(cfg, permit); err != nil {
		return s, err
	}
	s.endpoints, err = translate(cfg, version, s.client)
	return s, err
}

// newClient returns the HTTP client of the configuration, which sends while
// permit allows it.
func newClient(cfg *config.Config, permit func() bool) (*egress.Client, error) {
	o := egress.Options{Allow: cfg.Egress.Allow, Deny: cfg.Egress.Deny, Permit: permit}
	if cfg.Egress.Proxy != "" {
		var err error
		if o.Proxy, err = url.Parse(cfg.Egress.Proxy.Reveal()); err != nil {
			return nil, errors.New("egress.proxy is not a valid URL")
		}
	}
	return egress.New(o)
}

// startTracer returns what the configuration's traces come to: nil for none.
func startTracer(cfg *config.Config, version string, logger *slog.Logger) (*trace.Tracer, error) {
	t := &cfg.Traces
	if t.URL == "" {
		return nil, nil
	}
	u, err := url.Parse(t.URL.Reveal())
	if err != nil {
		return nil, errors.New("traces.url is not a valid URL")
	}
	o := trace.Options{URL: u, Headers: make(map[string]string, len(t.Headers)), Service: t.Service, Version: version, Sample: t.Sample, Logger: logger}
	for name, value := range t.Headers {
		o.Headers[name] = value.Reveal()
	}
	return trace.Start(o), nil
}

// translate turns the configuration's endpoints into what the packages want.
// It reads the files that tls names.
func translate(cfg *config.Config, version string, client *egress.Client) (endpoints, error) {
	all := endpoints{recorded: make([]ledger.Endpoint, 0, len(cfg.Endpoints))}
	t := translator{version: version, client: client, tokens: tokens{}, traced: cfg.Traces.URL != ""}
	for i := range cfg.Endpoints {
		c := &cfg.Endpoints[i]
		if err := t.add(&all, c); err != nil {
			return all, fmt.Errorf("endpoint %s: %w", c.Name, err)
		}
	}
	return all, nil
}

// translateLane is translate for one endpoint, enabled or not.
func translateLane(c *config.Endpoint, version string, client *egress.Client, shared tokens) (*lane.Endpoint, error) {
	who, err := identify(c)
	if err != nil {
		return nil, err
	}
	t := translator{version: version, client: client, tokens: shared}
	return t.lane(c, who.ID)
}

// translator translates endpoints, of which there may be thousands that differ
// in little: what several have in common it makes once, and they share it.
type translator struct {
	version string
	client  *egress.Client
	tokens  tokens
	traced  bool

	templates map[string]*transforms.Template
	filters   map[string]*transforms.Filter
	signers   map[signing.Options]*signing.Signer
	keys      map[secretOf]signing.Key
}

// secretOf is a secret as a scheme uses it.
type secretOf struct{ scheme, secret string }

// once returns what make makes of key, which it does the first time.
func once[K comparable, V any](made *map[K]V, key K, make func(K) (V, error)) (V, error) {
	if v, ok := (*made)[key]; ok {
		return v, nil
	}
	v, err := make(key)
	if err == nil {
		if *made == nil {
			*made = map[K]V{}
		}
		(*made)[key] = v
	}
	return v, err
}

// add adds what c comes to.
func (t *translator) add(all *endpoints, c *config.Endpoint) error {
	who, err := identify(c)
	if err != nil {
		return err
	}
	ep, err := t.lane(c, who.ID)
	if err != nil {
		return err
	}
	all.recorded = append(all.recorded, who)
	if !c.Enabled {
		return nil
	}
	r := route.Endpoint{ID: ep.ID, Tenant: c.Tenant, Patterns: patterns(c)}
	if c.Filter != "" {
		if r.Filter, err = once(&t.filters, c.Filter, transforms.ParseFilter); err != nil {
			return fmt.Errorf("parse filter: %w", err)
		}
	}
	all.lanes, all.routes = append(all.lanes, ep), append(all.routes, r)
	return nil
}

// identify returns what the ledger knows of an endpoint of the configuration.
func identify(c *config.Endpoint) (ledger.Endpoint, error) {
	ep := ledger.Endpoint{ID: event.EndpointID(c.Name), Name: c.Name, URL: c.URL.String(), Tenant: c.Tenant, Enabled: c.Enabled}
	if c.ID == "" {
		return ep, nil
	}
	var err error
	if ep.ID, err = uuid.Parse(c.ID); err != nil {
		return ep, fmt.Errorf("parse id: %w", err)
	}
	return ep, nil
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

// forms are the values of json but "preserve".
var forms = map[string]lane.Form{"compact": lane.Compact, "stringify": lane.Stringify}

func (t *translator) lane(c *config.Endpoint, id uuid.UUID) (*lane.Endpoint, error) {
	u, err := url.Parse(c.URL.Reveal())
	if err != nil {
		return nil, errors.New("url is not valid") // what is wrong may be a credential
	}
	ep := &lane.Endpoint{
		ID: id, Name: c.Name, Tenant: c.Tenant, URL: u,
		Method: c.Method, ContentType: c.ContentType, UserAgent: "Posthorn/" + t.version,
		Form:    forms[c.JSON],
		Timeout: c.Timeout,
		Retry:   lane.Retry{Schedule: c.Retry.Schedule, Jitter: c.Retry.Jitter, MaxAge: c.Retry.MaxAge},
		Pause: lane.Pause{
			OnExhausted: c.Pause.OnExhausted, ConsecutiveFailures: c.Pause.ConsecutiveFailures, FailingFor: c.Pause.FailingFor,
		},
		Traced:      t.traced,
		Ordered:     c.Ordering == "key",
		Concurrency: c.Concurrency,
		RateLimit:   c.RateLimit,
	}
	for _, r := range c.Retry.StopOn {
		ep.Retry.StopOn = append(ep.Retry.StopOn, lane.StatusRange(r))
	}
	if ep.Body, err = once(&t.templates, c.Body, transforms.ParseTemplate); err != nil {
		return nil, fmt.Errorf("parse body: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		value, err := once(&t.templates, c.Headers[name], transforms.ParseTemplate)
		if err != nil {
			return nil, fmt.Errorf("parse header %s: %w", name, err)
		}
		ep.Headers = append(ep.Headers, lane.Header{Name: name, Value: value})
	}
	if ep.Signatures, err = t.signatures(c); err != nil {
		return nil, err
	}
	if ep.Target, err = t.target(c); err != nil {
		return nil, err
	}
	return ep, nil
}

// target says how the endpoint's server is reached.
func (t *translator) target(c *config.Endpoint) (*egress.Target, error) {
	o := egress.TLS{Insecure: !c.TLS.Verify, CAFile: c.TLS.CAFile, CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile, ServerName: c.TLS.ServerName, MinVersion: tls.VersionTLS12}
	if c.TLS.MinVersion == "1.3" {
		o.MinVersion = tls.VersionTLS13
	}
	var auth egress.Auth
	switch a := c.Auth; {
	case a.Basic.Username != "":
		auth = egress.BasicAuth(a.Basic.Username, a.Basic.Password.Reveal())
	case a.Bearer.Token != "":
		auth = egress.BearerAuth(a.Bearer.Token.Reveal())
	case a.OAuth2.ClientID != "":
		var err error
		if auth, err = t.tokens.get(&a.OAuth2, t.client); err != nil {
			return nil, err
		}
	}
	return t.client.Target(o, auth)
}

// grant is how tokens are fetched. The scopes are as they are asked for.
type grant struct {
	tokenURL         config.URL
	clientID, scopes string
	clientSecret     config.Secret
}

// tokens are the OAuth2 tokens that endpoints share: one for each grant.
type tokens map[grant]egress.Auth

func (t tokens) get(o *config.OAuth2, client *egress.Client) (egress.Auth, error) {
	g := grant{tokenURL: o.TokenURL, clientID: o.ClientID, scopes: strings.Join(o.Scopes, " "), clientSecret: o.ClientSecret}
	if auth, ok := t[g]; ok {
		return auth, nil
	}
	u, err := url.Parse(o.TokenURL.Reveal())
	if err != nil {
		return nil, errors.New("auth.oauth2.token_url is not valid")
	}
	t[g] = client.OAuth2(egress.OAuth2{TokenURL: u, ClientID: o.ClientID, ClientSecret: o.ClientSecret.Reveal(), Scopes: o.Scopes})
	return t[g], nil
}

// signatures returns the endpoint's signatures, those that cover headers last:
// the others' headers are there by then.
func (t *translator) signatures(c *config.Endpoint) ([]lane.Signature, error) {
	var body, message []lane.Signature
	for _, s := range c.Signatures {
		secret, previous := c.Secret, c.PreviousSecrets
		if s.Secret != "" {
			secret, previous = s.Secret, s.PreviousSecrets
		}
		if s.Scheme == "http-message" {
			signer, err := httpsig.New(httpsig.Options{Algorithm: s.Algorithm, KeyID: s.KeyID, Label: s.Label, Components: s.Components})
			if err != nil {
				return nil, err
			}
			keys, err := parseKeys(secret, previous, func(text, keyID string) (httpsig.Key, error) {
				key, err := httpsig.ParseKey(s.Algorithm, text)
				if err != nil {
					return key, err
				}
				return key.WithID(keyID)
			})
			if err != nil {
				return nil, err
			}
			message = append(message, &lane.MessageSignature{Signer: signer, Keys: keys})
			continue
		}
		signer, err := once(&t.signers, signing.Options{
			Scheme: s.Scheme, Header: s.Header, Prefix: s.Prefix, Algorithm: s.Algorithm, Encoding: s.Encoding, Content: s.Content, Value: s.Value,
		}, signing.New)
		if err != nil {
			return nil, err
		}
		keys, err := parseKeys(secret, previous, func(text, _ string) (signing.Key, error) {
			return once(&t.keys, secretOf{s.Scheme, text}, func(k secretOf) (signing.Key, error) { return signing.ParseKey(k.scheme, k.secret) })
		})
		if err != nil {
			return nil, err
		}
		body = append(body, &lane.BodySignature{Signer: signer, Keys: keys})
	}
	return append(body, message...), nil
}

// parseKeys returns the secrets as a signature's keys. keyID is what a previous
// secret has of its own.
func parseKeys[K any](secret config.Secret, previous []config.PreviousSecret, parse func(text, keyID string) (K, error)) ([]lane.Key[K], error) {
	key, err := parse(secret.Reveal(), "")
	if err != nil {
		return nil, err
	}
	keys := []lane.Key[K]{{Key: key}}
	for _, p := range previous {
		key, err := parse(p.Secret.Reveal(), p.KeyID)
		if err != nil {
			return nil, fmt.Errorf("previous %w", err)
		}
		keys = append(keys, lane.Key[K]{Key: key, Expires: p.Expires})
	}
	return keys, nil
}
