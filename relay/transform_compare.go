package relay

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// CompareOptions say what Compare looks at.
type CompareOptions struct {
	Since time.Duration // how far back
	Limit int           // at most so many events, the newest; at least 1
	Show  int           // how many examples of each kind are kept for each type
	// Against transforms as it is done today. nil compares with the events as
	// they were committed.
	Against *Transformer
	// Progress, if set, is called after each page of events with how many were
	// looked at, of how many.
	Progress func(done, total int)
}

// Comparison is what Compare found.
type Comparison struct {
	Types []TypeComparison // by type
	// Events were looked at, of Found. They differ where the look was ended
	// early, or rows were deleted meanwhile.
	Events, Found int
	More          bool // there are older events of the time asked for, beyond the limit
	Complete      bool // the look was not ended early
}

// NewlyFailed returns how many events fail that did not fail before.
func (c *Comparison) NewlyFailed() int {
	n := 0
	for i := range c.Types {
		n += c.Types[i].NewlyFailed
	}
	return n
}

// TypeComparison is what came of the events of one type, as committed. Each is
// counted once as Same, Differ, Skipped or Failed; the other two are parts of
// the last.
type TypeComparison struct {
	Type                          string // "" stands for all types beyond the first 1000
	Events                        int
	Same, Differ, Skipped, Failed int
	NewlySkipped, NewlyFailed     int // that were not skipped, or did not fail, before
	Examples                      []Difference
}

// Difference is an event of which something else came than before.
type Difference struct {
	Event         uuid.UUID
	Before, After Outcome
}

// The bounds on what a comparison keeps: types come from outside, and examples
// hold payloads.
const (
	maxComparedTypes = 1000
	maxExampleBytes  = 16 << 20
)

// Compare runs the outbox's recent events through the transforms and says what
// came of them. Differences are of type, headers, and bytes of the payload.
// With an error, as that of ctx's end, it returns what was found so far.
func (t *Transformer) Compare(ctx context.Context, o CompareOptions) (*Comparison, error) {
	c := &comparer{options: o, types: map[string]*TypeComparison{}}
	err := c.run(ctx, t)
	for _, name := range slices.Sorted(maps.Keys(c.types)) {
		c.found.Types = append(c.found.Types, *c.types[name])
	}
	return &c.found, err
}

type comparer struct {
	options CompareOptions
	types   map[string]*TypeComparison
	bytes   int // of the examples
	found   Comparison
}

func (c *comparer) run(ctx context.Context, t *Transformer) error {
	recent, err := t.databases.source.Recent(ctx, c.options.Since, c.options.Limit)
	if err != nil {
		return ended(ctx, hinted(err))
	}
	c.found.Found, c.found.More = recent.Total, recent.More
	for {
		page, err := recent.Next(ctx)
		if err != nil {
			return ended(ctx, hinted(err))
		}
		if len(page) == 0 {
			c.found.Complete = true
			return nil
		}
		after, err := t.transform(ctx, page)
		if err != nil {
			return err
		}
		before := make([]*event.Made, len(page)) // as committed
		if c.options.Against != nil {
			if before, err = c.options.Against.transform(ctx, page); err != nil {
				return err
			}
		}
		for i, e := range page {
			c.count(e, outcomeOf(e, before[i]), outcomeOf(e, after[i]))
		}
		c.found.Events += len(page)
		if c.options.Progress != nil {
			c.options.Progress(c.found.Events, c.found.Found)
		}
	}
}

// ended returns ctx's error where it is the reason for err.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (c *comparer) count(e *event.Event, before, after Outcome) {
	t := c.of(e.Type)
	if n := t.tally(before, after); n > 0 && n <= c.options.Show {
		c.keep(t, Difference{Event: e.ID, Before: before, After: after})
	}
}

// tally counts an event and returns how many there are by now that differ in
// the same way, 0 for one that does not differ.
func (t *TypeComparison) tally(before, after Outcome) int {
	t.Events++
	switch {
	case after.Err != nil:
		t.Failed++
		if before.Err == nil {
			t.NewlyFailed++
			return t.NewlyFailed
		}
	case after.Skipped != "":
		t.Skipped++
		if before.Skipped == "" {
			t.NewlySkipped++
			return t.NewlySkipped
		}
	case before.Content != nil && before.Content.equal(after.Content):
		t.Same++
	default:
		t.Differ++
		return t.Differ
	}
	return 0
}

// of returns the comparison for a type.
func (c *comparer) of(eventType string) *TypeComparison {
	t := c.types[eventType]
	if t == nil && len(c.types) >= maxComparedTypes {
		eventType = ""
		t = c.types[eventType]
	}
	if t == nil {
		t = &TypeComparison{Type: eventType}
		c.types[eventType] = t
	}
	return t
}

// keep keeps an example if there is room for it.
func (c *comparer) keep(t *TypeComparison, d Difference) {
	bytes := 0
	for _, o := range []Outcome{d.Before, d.After} {
		if o.Content != nil {
			bytes += len(o.Content.Payload)
		}
	}
	if c.bytes+bytes <= maxExampleBytes {
		c.bytes += bytes
		t.Examples = append(t.Examples, d)
	}
}
