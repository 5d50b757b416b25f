package config

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/posthorn/posthorn/transforms"
)

// exampleTime bounds how long the transforms of all examples may take together.
// What is not known by then is not rendered.
const exampleTime = 10 * time.Second

// errUnknown stands for what a plugin, or a transform that is not known or
// invalid, would make of an example.
var errUnknown = errors.New("not known")

// step is a transform that charges its samples and tells them where they are.
type step struct {
	of      transforms.Transform
	index   int
	samples *sampler
}

func (s step) Transform(ctx context.Context, batch []*transforms.Message) {
	s.samples.at = s.index
	s.samples.left -= pairCost
	s.of.Transform(ctx, batch)
}

// violates is called for a message that violates a schema with schema: warn.
func (r *sampler) violates(_ context.Context, _ *transforms.Message, err error) { r.violation = err }

// examples applies transforms to the catalogue's examples, so that what would
// fail the events of a type is found when the configuration is read. built are
// the built-in ones by their index; a plugin ends what is known of an example.
func (v *validator) examples(root place, built map[int]transforms.Transform) {
	ctx, cancel := context.WithTimeout(context.Background(), exampleTime)
	defer cancel()
	unknown := transforms.Each(func(context.Context, *transforms.Message) error { return errUnknown })
	var rules []transforms.Rule
	var text strings.Builder // all that may name a header
	for i := range v.cfg.Transforms {
		t, transform := &v.cfg.Transforms[i], built[i]
		if transform == nil {
			transform = unknown
		}
		rules = append(rules, transforms.Rule{Match: t.Match, Transform: step{transform, i, &v.samples}})
		fmt.Fprintln(&text, t.JQ, t.Template, t.Filter, t.Type, t.Headers)
	}
	chains := transforms.NewChains(rules)
	for i := range v.cfg.Events {
		event := &v.cfg.Events[i]
		if v.samples.left -= pairCost; v.samples.left <= 0 || ctx.Err() != nil {
			return
		}
		if event.Example == "" || event.Type == "" {
			continue
		}
		v.judge(root, i, v.samples.transform(ctx, chains.For(event.Type), event, text.String()))
	}
}

// transform returns what chain, which may be nil, makes of the example of an
// event type. One that fails is tried with such headers as text may ask for.
func (r *sampler) transform(ctx context.Context, chain *transforms.Chain, event *EventType, text string) *transforms.Message {
	var first *transforms.Message
	var failedAt int
	for _, value := range sampleHeaders {
		m := &transforms.Message{
			Committed: event.Type, Event: newSample(&Endpoint{}, event.Type, "").view.Event, Payload: []byte(event.Example),
		}
		m.Event.Headers = withHeaders(nil, text, value)
		r.violation = nil
		if chain != nil {
			chain.Apply(ctx, []*transforms.Message{m})
		}
		r.left -= int64(len(m.Payload))
		if m.Err == nil || errors.Is(m.Err, errUnknown) || transforms.IsRetryable(m.Err) {
			return m
		}
		if first == nil {
			first, failedAt = m, r.at
		}
	}
	r.at = failedAt
	return first
}

// judge keeps m, which transforms made of the example of catalogue entry i, or
// reports what is wrong with it: with the transform that failed, or with the
// example where it violates its schema.
func (v *validator) judge(root place, i int, m *transforms.Message) {
	event, example := &v.cfg.Events[i], root.field("events").item(i).field("example")
	if v.samples.violation != nil {
		v.warnings.add(example, "violates its schema: %s", ofExample(example, v.samples.violation))
	} else if err := v.ownSchema(i, m); err != nil {
		v.warnings.add(example, "violates its schema: %s", ofExample(example, err))
	}
	switch {
	case m.Err == nil:
		if m.Skipped == "" {
			v.samples.made[i] = m
		}
	case errors.Is(m.Err, errUnknown) || transforms.IsRetryable(m.Err):
	default:
		key, kind := root.field("transforms").item(v.samples.at), v.cfg.Transforms[v.samples.at].Kind()
		message := ofExample(example, errors.Unwrap(m.Err)) // without the rule's name
		if kind == "schema" {
			v.problems.add(example, "violates its schema, by which %s would fail such events: %s", key.key(), message)
			return
		}
		message = quotable(key.field(kind), strings.TrimPrefix(message, "evaluate filter: "), notTransformed)
		v.problems.add(key.field(kind), "fails for %s: %s", exampleName(event.Type), message)
	}
}

const notTransformed = "it cannot be transformed"

// ofExample is what may be said of a transform's error for the example at p.
func ofExample(p place, err error) string {
	if p.node.reference() != "" {
		return notTransformed
	}
	return err.Error()
}

// ownSchema returns how the example of catalogue entry i violates its schema,
// where no transform checks that.
func (v *validator) ownSchema(i int, m *transforms.Message) error {
	if v.samples.schemas[i] == nil {
		return nil
	}
	for _, t := range v.cfg.Transforms {
		if t.Schema != "" && transforms.MatchesType(t.Match, m.Committed) {
			return nil
		}
	}
	event := &v.cfg.Events[i]
	committed := &transforms.Message{Committed: event.Type, Payload: []byte(event.Example)}
	v.samples.schemas[i].Transform(context.Background(), []*transforms.Message{committed})
	return committed.Err
}
