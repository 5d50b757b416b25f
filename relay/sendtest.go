package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/lane"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/route"
	"github.com/posthorn/posthorn/transforms"
)

// TestHeader marks a request as one that SendTest made.
const TestHeader = lane.TestHeader

// Sample says what SendTest sends. Empty fields are chosen: the first type of
// the catalogue that the endpoint wants, and the type's example as payload.
// What the catalogue lacks is type "posthorn.test" and payload {"test":true}.
type Sample struct {
	Endpoint string // name, or the id of one that the API made
	Type     string
	Payload  []byte // JSON
}

// TestResult is what came of a test. Times are of its one attempt.
type TestResult struct {
	Delivery uuid.UUID
	Type     string
	Method   string
	URL      string      // without credentials
	Header   [][2]string // as sent, credentials as ***
	Body     []byte
	Status   int    // 0 without an answer
	Response []byte // the first bytes of the answer's body
	Err      error  // no complete answer, or one that is no success
	// Notes are lines for people about the sample: of a type that the endpoint
	// does not get, or with a payload that is no example.
	Notes []string

	DNS, Connect, TLS, FirstByte, Total time.Duration // 0 for what did not happen
}

// SendTest sends one request to an endpoint by the code that sends every
// delivery, with its transforms, address guard, TLS, authentication and
// signatures, and marked by TestHeader. Ledger and outbox are not touched, and
// the plugins that run for it have ended when it returns. An error means that
// nothing was sent, because a transform skips the event, too; what the receiver
// did is in the result.
func SendTest(ctx context.Context, cfg *config.Config, version string, s Sample) (*TestResult, error) {
	c, err := endpointNamed(cfg, s.Endpoint)
	if err != nil {
		if c, err = madeEndpoint(ctx, cfg, s.Endpoint); err != nil {
			return nil, err
		}
	}
	return sendTest(ctx, cfg, c, version, s)
}

// sendTest is SendTest to an endpoint of the configuration or one that the API
// made.
func sendTest(ctx context.Context, cfg *config.Config, c *config.Endpoint, version string, s Sample) (*TestResult, error) {
	client, err := newClient(cfg, func() bool { return true })
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ep, err := translateLane(c, version, client, tokens{})
	if err != nil {
		return nil, err
	}
	notes := s.complete(cfg, patterns(c))
	if !json.Valid(s.Payload) {
		return nil, errors.New("the payload is not JSON")
	}
	now := time.Now()
	e := &event.Event{ID: uuid.New(), Type: s.Type, Tenant: c.Tenant, Payload: s.Payload, CreatedAt: now, CommittedAt: now}
	if err := transformSample(ctx, cfg, e); err != nil {
		return nil, err
	}
	id := event.DeliveryID(e.ID, ep.ID)
	q, res, err := ep.SendTest(ctx, client, id, e)
	if err != nil {
		return nil, err
	}
	r := &TestResult{
		Delivery: id, Type: s.Type, Method: q.Method, URL: c.URL.String(), Header: fields(q.Header), Body: q.Body,
		Status: res.Status, Response: res.Excerpt, Err: lane.Judge(res),
		Notes: notes,
		DNS:   res.DNS, Connect: res.Connect, TLS: res.TLS, FirstByte: res.FirstByte, Total: res.Total,
	}
	return r, nil
}

// transformSample runs e through the transforms for its type. It returns an
// error when they leave nothing to send.
func transformSample(ctx context.Context, cfg *config.Config, e *event.Event) error {
	wanted := func(t *config.Transform) bool { return transforms.MatchesType(t.Match, e.Type) }
	c, err := newChainsOf(ctx, cfg, slog.New(slog.DiscardHandler), nil, wanted)
	if err != nil {
		return err
	}
	defer c.close(ctx)
	chain := c.For(e.Type)
	if chain == nil {
		return nil
	}
	all, _ := lane.Transform(ctx, chain, []*event.Event{e})
	made := all[0] // nobody retires the chain
	switch {
	case made.Err != nil:
		return fmt.Errorf("transform the event: %w", made.Err)
	case made.Skipped != "":
		return errors.New("the event is not sent to any endpoint: " + made.Skipped)
	}
	e.Made.Store(made)
	return nil
}

func endpointNamed(cfg *config.Config, name string) (*config.Endpoint, error) {
	for i := range cfg.Endpoints {
		if cfg.Endpoints[i].Name == name {
			return &cfg.Endpoints[i], nil
		}
	}
	return nil, fmt.Errorf("no endpoint %q in the configuration", name)
}

// madeEndpoint returns the endpoint of a name or id that the API made.
func madeEndpoint(ctx context.Context, cfg *config.Config, name string) (*config.Endpoint, error) {
	o, err := OpenOperator(cfg)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	if err := o.look(ctx); err != nil {
		return nil, fmt.Errorf("no endpoint %q in the configuration, and the ledger does not say which the API made: %w", name, err)
	}
	e, err := o.directory.find(name, "")
	if errors.Is(err, ErrUnknownEndpoint) {
		return nil, fmt.Errorf("no endpoint %q in the configuration, and the API made none", name)
	}
	if err != nil {
		return nil, err
	}
	return e.usable()
}

// usable returns the endpoint's configuration, or a *ledger.RefusedError where
// it is not valid any more.
func (e *entry) usable() (*config.Endpoint, error) {
	if e.defined != nil && e.defined.broken != "" {
		return nil, ledger.RefusedButTold("endpoint "+e.Name+": "+notUsable, "endpoint %s cannot be used with the relay's configuration: %s", e.Name, e.defined.broken)
	}
	return e.config, nil
}

// complete fills in what s leaves out, and returns TestResult's notes.
func (s *Sample) complete(cfg *config.Config, patterns []string) (notes []string) {
	if s.Type != "" && !route.Wants(patterns, s.Type) {
		notes = append(notes, fmt.Sprintf("endpoint %s does not get events of type %s: sent all the same", s.Endpoint, s.Type))
	}
	for _, t := range catalogueOf(cfg, nil) {
		if s.Type == "" && route.Wants(patterns, t.Type) {
			s.Type = t.Type
		}
		if s.Payload == nil && t.Type == s.Type && len(t.Example) > 0 {
			s.Payload = []byte(t.Example)
		}
	}
	if s.Type == "" {
		s.Type = "posthorn.test"
	}
	if s.Payload == nil {
		s.Payload = []byte(`{"test":true}`)
		notes = append(notes, fmt.Sprintf("the catalogue has no example of type %s: the payload is %s", s.Type, s.Payload))
	}
	return notes
}

// fields returns the header's fields in alphabetical order, with *** in place
// of what may be credentials.
func fields(h egress.Header) [][2]string {
	all := slices.Clone(h)
	slices.SortStableFunc(all, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	for i := range all {
		if config.IsCredentialHeader(all[i][0]) {
			all[i][1] = "***"
		}
	}
	return all
}
