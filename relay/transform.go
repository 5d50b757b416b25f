package relay

import (
	"context"
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
	"github.com/posthorn/posthorn/relay/internal/route"
	"github.com/posthorn/posthorn/relay/internal/tail"
	"github.com/posthorn/posthorn/transforms"
)

// Transformer runs events through a configuration's transforms, by the code
// that does it for every delivery, and shows what comes of them. It sends and
// writes nothing: from the database it reads outbox rows, and only where it is
// asked for them. Use OpenTransformer, and Close at the end; it is for one
// goroutine.
type Transformer struct {
	cfg       *config.Config
	version   string
	databases *databases
	chains    *chains
}

// OpenTransformer starts the plugins that the configuration's transforms name.
// It connects to no database yet.
func OpenTransformer(ctx context.Context, cfg *config.Config, version string, logger *slog.Logger) (*Transformer, error) {
	dbs, err := openDatabases(cfg)
	if err != nil {
		return nil, err
	}
	c, err := newChains(ctx, cfg, logger, nil)
	if err != nil {
		dbs.close()
		return nil, err
	}
	return &Transformer{cfg: cfg, version: version, databases: dbs, chains: c}, nil
}

// Close ends the plugins, which are killed when ctx ends, and the connections.
func (t *Transformer) Close(ctx context.Context) {
	t.chains.close(ctx)
	t.databases.close()
}

// ExampleOf returns an event of the catalogue's example of a type.
func ExampleOf(cfg *config.Config, eventType string) (Event, error) {
	var others []string
	for _, c := range cfg.Events {
		switch {
		case len(c.Example) == 0:
		case c.Type == eventType:
			return Event{Content: Content{Type: eventType, Payload: []byte(c.Example)}}, nil
		default:
			others = append(others, c.Type)
		}
	}
	switch n := len(others); {
	case n == 0:
		others = []string{"none"}
	case n > manyNames:
		others = append(others[:manyNames:manyNames], fmt.Sprintf("%d more", n-manyNames))
	}
	return Event{}, fmt.Errorf("the catalogue has no example of type %s; examples: %s", eventType, strings.Join(others, ", "))
}

// Row returns the event of the outbox row with this id, in whatever type the
// table has it. Its time of commit, which no row says, is taken to be its
// created_at.
func (t *Transformer) Row(ctx context.Context, id string) (Event, error) {
	row, err := t.databases.source.Event(ctx, id)
	if errors.Is(err, tail.ErrRowMissing) {
		return Event{}, fmt.Errorf("event %s: %w", id, err)
	}
	if err != nil {
		return Event{}, hinted(err)
	}
	return eventOf(row), nil
}

// Outcome is what came of an event: one of the first three.
type Outcome struct {
	Content *Content
	Skipped string // why the event is dropped, by which rule
	Err     error  // why it could not be transformed, by which rule
	Retry   bool   // whether transforming it again may mend Err
}

// outcomeOf returns what the transforms made of e, which is nil where none
// are for it.
func outcomeOf(e *event.Event, made *event.Made) Outcome {
	switch {
	case e.Invalid != "": // no delivery of it can succeed
		return Outcome{Err: errors.New(e.Invalid)}
	case made == nil:
		return Outcome{Content: contentOf(e)}
	case made.Err != nil:
		return Outcome{Err: made.Err, Retry: made.Retry}
	case made.Skipped != "":
		return Outcome{Skipped: made.Skipped}
	}
	return Outcome{Content: &Content{Type: made.Type, Headers: made.Headers, Payload: made.Payload}}
}

// RuleState says what a rule did with an event.
type RuleState string

// The states of a rule.
const (
	RuleApplied    RuleState = "applied" // whether or not it changed anything
	RuleSkipped    RuleState = "skipped"
	RuleFailed     RuleState = "failed"
	RuleNotReached RuleState = "not reached" // the event was skipped, or failed, before
)

// AppliedRule is one transform of the configuration and what it did.
type AppliedRule struct {
	Name  string // as errors call it: transforms[0] (jq)
	State RuleState
}

// Transformation is what the transforms do with one event.
type Transformation struct {
	Event Event
	// Rules are those for the event's type, in their order. Without any the
	// event stays as it is.
	Rules []AppliedRule
	Outcome

	committed *event.Event
}

// Transform runs an event through the transforms. What they say of it, an error
// too, is in the result. The error is for an event that the outbox could not
// hold, and for ctx's end.
func (t *Transformer) Transform(ctx context.Context, e Event) (*Transformation, error) {
	committed, err := e.committed()
	if err != nil {
		return nil, err
	}
	made, err := t.transform(ctx, []*event.Event{committed})
	if err != nil {
		return nil, err
	}
	committed.Made.Store(made[0])
	e.ID, e.CreatedAt = committed.ID, committed.CreatedAt
	r := &Transformation{Event: e, Outcome: outcomeOf(committed, made[0]), committed: committed}
	if chain := t.chains.For(committed.Type); chain != nil && committed.Invalid == "" {
		r.Rules = r.applied(chain.Names())
	}
	return r, nil
}

// applied returns the states of the rules of these names. Where the event ended
// stands in front of why; headers that are no headers end it before the first.
func (r *Transformation) applied(names []string) []AppliedRule {
	why, state := r.Skipped, RuleSkipped
	if r.Err != nil {
		why, state = r.Err.Error(), RuleFailed
	}
	end := len(names)
	if why != "" {
		end = slices.IndexFunc(names, func(name string) bool { return strings.HasPrefix(why, name+": ") })
	}
	rules := make([]AppliedRule, len(names))
	for i, name := range names {
		rules[i] = AppliedRule{Name: name, State: RuleApplied}
		switch {
		case i == end:
			rules[i].State = state
		case i > end:
			rules[i].State = RuleNotReached
		}
	}
	return rules
}

// transform runs events through the chains of their types, those of one chain
// together. It returns nil for an event that no transform is for, or that is
// invalid. The error is ctx's.
func (t *Transformer) transform(ctx context.Context, events []*event.Event) ([]*event.Made, error) {
	all := make([]*event.Made, len(events))
	places := map[*transforms.Chain][]int{}
	for i, e := range events {
		if chain := t.chains.For(e.Type); chain != nil && e.Invalid == "" {
			places[chain] = append(places[chain], i)
		}
	}
	for chain, at := range places {
		batch := make([]*event.Event, len(at))
		for i, place := range at {
			batch[i] = events[place]
		}
		made, ok := lane.Transform(ctx, chain, batch)
		if err := ctx.Err(); err != nil { // what it made of them is of no worth
			return nil, err
		}
		if !ok {
			return nil, errors.New("the transforms are closed")
		}
		for i, place := range at {
			all[place] = made[i]
		}
	}
	return all, ctx.Err()
}

// PreparedRequest is a request that was rendered and signed, and not sent.
type PreparedRequest struct {
	Delivery uuid.UUID
	Method   string
	URL      string      // without credentials
	Header   [][2]string // credentials as ***
	Body     []byte
	SignedAt time.Time
	// Notes are lines for people: why the endpoint would not get the event.
	Notes []string
}

// Request returns the request by which an endpoint, given by name, would get
// what the transforms made of an event. An event that was skipped, or failed,
// has none, which is an error.
func (t *Transformer) Request(endpoint string, r *Transformation) (*PreparedRequest, error) {
	c, err := endpointNamed(t.cfg, endpoint)
	if err != nil {
		return nil, err
	}
	if r.Content == nil {
		return nil, errors.New("nothing is sent of an event that was skipped or failed")
	}
	client, err := newClient(t.cfg, func() bool { return false })
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ep, err := translateLane(c, t.version, client, tokens{})
	if err != nil {
		return nil, err
	}
	now, id := time.Now(), event.DeliveryID(r.committed.ID, ep.ID)
	q, err := ep.Preview(id, r.committed, now)
	if err != nil {
		return nil, err
	}
	if authenticated(c, q) {
		q.Header.Set("Authorization", "") // it is masked, and made when it is sent
	}
	return &PreparedRequest{
		Delivery: id, Method: q.Method, URL: c.URL.String(), Header: fields(q.Header), Body: q.Body, SignedAt: now,
		Notes: obstacles(c, r.committed),
	}, nil
}

// authenticated reports whether q gets an Authorization header when it is sent.
func authenticated(c *config.Endpoint, q *egress.Request) bool {
	if q.Header.Has("Authorization") {
		return false
	}
	return q.URL.User != nil || c.Auth.Basic.Username != "" || c.Auth.Bearer.Token != "" || c.Auth.OAuth2.ClientID != ""
}

// CheckEndpoint returns an error unless the configuration has an endpoint of
// that name.
func CheckEndpoint(cfg *config.Config, name string) error {
	_, err := endpointNamed(cfg, name)
	return err
}

// obstacles says what keeps an event, which is judged as it was committed, from
// an endpoint.
func obstacles(c *config.Endpoint, e *event.Event) (notes []string) {
	note := func(format string, args ...any) {
		notes = append(notes, fmt.Sprintf("endpoint %s would not get it: %s", c.Name, fmt.Sprintf(format, args...)))
	}
	if !c.Enabled {
		note("it is disabled in the configuration")
	}
	if !route.Wants(patterns(c), e.Type) {
		note("it does not get events of type %s", e.Type)
	}
	if c.Tenant != "" && c.Tenant != e.Tenant {
		note("it gets the events of tenant %s only", c.Tenant)
	}
	if c.Filter != "" && e.Invalid == "" {
		wanted, err := judge(c.Filter, e)
		switch {
		case err != nil:
			note("its delivery would fail: %v", err)
		case !wanted:
			note("its filter does not match")
		}
	}
	return notes
}

// judge reports whether a filter matches an event as it was committed.
func judge(text string, e *event.Event) (bool, error) {
	filter, err := transforms.ParseFilter(text)
	if err != nil {
		return false, err
	}
	content := contentOf(e)
	object, action := transforms.SplitType(e.Type)
	return filter.Match(transforms.NewSubject(transforms.Event{
		ID: e.ID.String(), Type: e.Type, Object: object, Action: action,
		Tenant: e.Tenant, Key: e.Key, CreatedAt: e.CreatedAt, Headers: content.Headers,
	}, transforms.JSON(e.Payload)))
}
