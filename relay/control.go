package relay

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// control is what the HTTP API speaks to: an operator of the configuration
// that the relay runs with, beside the relay's own connections, so that no
// question of many can keep the relay from its work.
type control struct {
	version   string
	databases *databases
	running   func() (*config.Config, map[string]string) // and the schemas of its catalogue as they were read
	snapshot  func() admin.Snapshot

	mu  sync.Mutex
	now *Operator // of the configuration that ran when it was last asked for
	cfg *config.Config
}

// controlConnections bounds the connections that the API's requests share.
const controlConnections = 4

// newControl returns what the API of a configuration speaks to. It connects to
// nothing yet.
func newControl(cfg *config.Config, version string, snapshot func() admin.Snapshot, running func() (*config.Config, map[string]string)) (*control, error) {
	d, err := openDatabasesBounded(cfg, controlConnections)
	if err != nil {
		return nil, err
	}
	return &control{version: version, databases: d, running: running, snapshot: snapshot}, nil
}

// operator returns the operator for the endpoints that the relay runs with now,
// and their configuration.
func (c *control) operator() (*Operator, *config.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cfg, _ := c.running()
	if c.now == nil || c.cfg != cfg {
		o, err := newOperator(cfg, c.databases)
		if err != nil {
			return nil, nil, err
		}
		c.now, c.cfg = o, cfg
	}
	return c.now, c.cfg, nil
}

// Endpoints implements admin.Control.
func (c *control) Endpoints(ctx context.Context, who *admin.Caller, removed bool) ([]EndpointStatus, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	return o.endpointsOf(ctx, who.Tenant, removed)
}

// EndpointNames implements admin.Control.
func (c *control) EndpointNames(ctx context.Context, who *admin.Caller) ([]ledger.Endpoint, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	return o.named(ctx, who.Tenant)
}

// Pause implements admin.Control.
func (c *control) Pause(ctx context.Context, who *admin.Caller, endpoint, reason string) (*TurnedEndpoint, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	return o.Pause(ctx, endpoint, reason, who.Actor())
}

// Resume implements admin.Control.
func (c *control) Resume(ctx context.Context, who *admin.Caller, endpoint, reason string) (*TurnedEndpoint, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	return o.Resume(ctx, endpoint, reason, who.Actor())
}

// List implements admin.Control.
func (c *control) List(ctx context.Context, who *admin.Caller, f DeliveryFilter) ([]Delivery, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	f.Scope = who.Tenant
	return o.List(ctx, f)
}

// Show implements admin.Control.
func (c *control) Show(ctx context.Context, who *admin.Caller, id uuid.UUID) (*DeliveryDetail, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	if err := o.reach(ctx, who, id); err != nil {
		return nil, err
	}
	d, err := o.Show(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := o.directory.refresh(ctx); err != nil {
		return nil, err
	}
	mask := strings.NewReplacer() // the endpoint may be gone
	if e := o.directory.get(d.EndpointID); e != nil {
		mask = maskOf(e.config)
	}
	if r := d.Request; r != nil {
		if r.Body != nil {
			r.Body = []byte(mask.Replace(string(r.Body)))
		}
		for i, h := range r.Headers {
			r.Headers[i][1] = mask.Replace(h[1])
			if config.IsCredentialHeader(h[0]) {
				r.Headers[i][1] = masked
			}
		}
	}
	for i := range d.Tries {
		d.Tries[i].Response = []byte(mask.Replace(string(d.Tries[i].Response)))
	}
	return d, nil
}

// Retry implements admin.Control.
func (c *control) Retry(ctx context.Context, who *admin.Caller, id uuid.UUID) (again bool, err error) {
	o, _, err := c.operator()
	if err != nil {
		return false, err
	}
	if err := o.reach(ctx, who, id); err != nil {
		return false, err
	}
	again, err = o.Retry(ctx, id, who.Actor())
	return again, told(who, err)
}

// Test implements admin.Control.
func (c *control) Test(ctx context.Context, who *admin.Caller, endpoint, eventType string, payload []byte) (*admin.TestResult, error) {
	o, cfg, err := c.operator()
	if err != nil {
		return nil, err
	}
	if err := o.look(ctx); err != nil {
		return nil, err
	}
	e, err := o.directory.find(endpoint, who.Tenant)
	if err != nil {
		return nil, fmt.Errorf("send a test: %w", err)
	}
	ep, err := e.usable()
	if err != nil {
		return nil, told(who, err)
	}
	r, err := sendTest(ctx, cfg, ep, c.version, Sample{Endpoint: ep.Name, Type: eventType, Payload: payload})
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, told(who, ledger.RefusedButTold(notSent, "nothing was sent: %v", err))
	}
	if err := o.noteTest(ctx, who, e, r); err != nil {
		return nil, fmt.Errorf("the test was sent: %w", err)
	}
	mask := maskOf(ep)
	out := &admin.TestResult{
		OK: r.Err == nil, Status: r.Status, Delivery: r.Delivery, Type: r.Type, Method: r.Method, URL: r.URL, Headers: r.Header,
		Body: mask.Replace(string(r.Body)), Response: mask.Replace(string(r.Response)),
		DNSus: r.DNS.Microseconds(), ConnectUS: r.Connect.Microseconds(), TLSus: r.TLS.Microseconds(),
		FirstByteUS: r.FirstByte.Microseconds(), TotalUS: r.Total.Microseconds(),
		Notes: append([]string{}, r.Notes...), // an array, not null
	}
	for i, h := range out.Headers {
		out.Headers[i][1] = mask.Replace(h[1])
	}
	if r.Err != nil {
		out.Error = r.Err.Error()
	}
	return out, nil
}

// Catalogue implements admin.Control.
func (c *control) Catalogue() []admin.EventType {
	return catalogueOf(c.running())
}

const masked = "***"

// maskOf returns what puts *** in the place of an endpoint's secrets, which a
// template may have put into a body, and a receiver into its answer.
func maskOf(ep *config.Endpoint) *strings.Replacer {
	var secrets []string
	basic := func(user, password string) {
		secrets = append(secrets, password, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	}
	if ep.Auth.Basic.Username != "" {
		basic(ep.Auth.Basic.Username, ep.Auth.Basic.Password.Reveal())
	}
	if u, err := url.Parse(ep.URL.Reveal()); err == nil {
		if password, ok := u.User.Password(); ok {
			basic(u.User.Username(), password)
		}
		shown, _ := url.Parse(ep.URL.String())
		for name, values := range u.Query() {
			if shown != nil && !slices.Equal(shown.Query()[name], values) { // a token, say
				secrets = append(secrets, values...)
			}
		}
	}
	return ep.Hide(secrets...)
}
