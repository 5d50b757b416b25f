package transforms

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
)

// Rule is one transform of the configuration and the event types that it is
// for.
type Rule struct {
	Name      string   // what errors call it, e.g. "transforms[0] (jq)"
	Match     []string // exact types, "group.*" (any depth), or "*"
	Transform Transform
	Parallel  int // how many batches it can work on at once; 0 for as many as there are processors
}

// Chains finds the rules for an event type: all that match, in their order.
// Use NewChains; it is safe for concurrent use.
type Chains struct {
	rules []Rule

	mu     sync.Mutex
	byType map[string]*Chain
	same   map[string]*Chain // by which rules it has

	using   sync.WaitGroup // each Apply, while not retired
	retired bool
}

// Types come from outside: so many are remembered, and none that is longer than
// the outbox lets them be.
const maxTypes = 1 << 12

// NewChains returns the chains of rules.
func NewChains(rules []Rule) *Chains {
	return &Chains{rules: rules, byType: map[string]*Chain{}, same: map[string]*Chain{}}
}

// For returns the chain for events that were committed with this type, or nil
// when no rule matches. Types with the same rules share one chain.
func (c *Chains) For(eventType string) *Chain {
	if len(c.rules) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	chain, ok := c.byType[eventType]
	if !ok {
		chain = c.find(eventType)
		if len(c.byType) >= maxTypes {
			clear(c.byType)
		}
		if len(eventType) <= maxType {
			c.byType[strings.Clone(eventType)] = chain
		}
	}
	return chain
}

// find returns the chain for a type. There are few different ones, whatever the
// types: which rules match changes only where one of their patterns begins.
func (c *Chains) find(eventType string) *Chain {
	chain := &Chain{of: c}
	which := make([]byte, len(c.rules)) // a text that stands for the set
	for i, r := range c.rules {
		if !MatchesType(r.Match, eventType) {
			continue
		}
		which[i] = 1
		chain.rules = append(chain.rules, r)
		chain.parallel = max(chain.parallel, r.Parallel)
	}
	if len(chain.rules) == 0 {
		return nil
	}
	if same, ok := c.same[string(which)]; ok {
		return same
	}
	c.same[string(which)] = chain
	return chain
}

// Retire makes every later Apply of the chains return false, and returns when
// those before have ended. What the rules need can be closed then.
func (c *Chains) Retire() {
	c.mu.Lock()
	c.retired = true
	c.mu.Unlock()
	c.using.Wait()
}

// use reports whether an Apply may begin, which calls c.using.Done at its end.
func (c *Chains) use() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.retired {
		c.using.Add(1)
	}
	return !c.retired
}

// Chain is the transforms of one event type, in their order.
type Chain struct {
	of       *Chains
	rules    []Rule
	parallel int
}

// Parallel returns how many batches the chain can work on at once; 0 for as
// many as there are processors.
func (c *Chain) Parallel() int { return c.parallel }

// Apply runs the messages through the chain: each until it has an Err, which
// names the rule, or is skipped. It does nothing and returns false when the
// chain was retired.
func (c *Chain) Apply(ctx context.Context, batch []*Message) bool {
	if !c.of.use() {
		return false
	}
	defer c.of.using.Done()
	left := batch
	for i := range c.rules {
		if left = c.rules[i].apply(ctx, left); len(left) == 0 {
			break
		}
	}
	return true
}

// apply returns the messages that go on to the next rule.
func (r *Rule) apply(ctx context.Context, batch []*Message) []*Message {
	r.guard(ctx, batch)
	stopped := 0
	for _, m := range batch {
		switch {
		case m.Err != nil:
			m.Err = fmt.Errorf("%s: %w", r.Name, m.Err)
			stopped++
		case m.Skipped != "":
			m.Skipped = r.Name + ": " + m.Skipped
			stopped++
		}
	}
	if stopped == 0 {
		return batch
	}
	left := make([]*Message, 0, len(batch)-stopped)
	for _, m := range batch {
		if m.Err == nil && m.Skipped == "" {
			left = append(left, m)
		}
	}
	return left
}

// guard keeps a transform that panics from taking the relay with it. The
// messages without an Err or a reason in Skipped fail: nobody knows whether it
// was done with them.
func (r *Rule) guard(ctx context.Context, batch []*Message) {
	defer func() {
		if value := recover(); value != nil {
			err := &PanicError{Value: value, Stack: debug.Stack()}
			for _, m := range batch {
				if m.Err == nil && m.Skipped == "" {
					m.Err = err
				}
			}
		}
	}()
	r.Transform.Transform(ctx, batch)
}

// PanicError says that a transform panicked.
type PanicError struct {
	Value any    // what it panicked with; may quote the payload
	Stack []byte // where
}

// Error does not quote the value, in which the payload may stand.
func (e *PanicError) Error() string { return "it panicked" }

// MatchesType reports whether one of patterns is for events of a type: the type
// itself, "group.*" for all below it, or "*" for all but "posthorn.*".
func MatchesType(patterns []string, eventType string) bool {
	for _, p := range patterns {
		group, isGroup := strings.CutSuffix(p, "*")
		switch {
		case p == "*":
			if !strings.HasPrefix(eventType, "posthorn.") {
				return true
			}
		case isGroup:
			if strings.HasPrefix(eventType, group) && len(eventType) > len(group) {
				return true
			}
		case p == eventType:
			return true
		}
	}
	return false
}

// Names returns the names of the chain's rules, in their order.
func (c *Chain) Names() []string {
	names := make([]string, len(c.rules))
	for i := range c.rules {
		names[i] = c.rules[i].Name
	}
	return names
}
