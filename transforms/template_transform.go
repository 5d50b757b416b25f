package transforms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/template/parse"
	"unicode"
	"unicode/utf8"
)

// NewTemplate returns a transform that makes a payload by a template; see the
// package's description. It sees .Event and .Payload; .Delivery and .Endpoint,
// which differ between an event's deliveries, are refused here. What it yields
// must be one JSON value of at most 64 MiB. Errors quote nothing of the event.
func NewTemplate(text string) (Transform, error) {
	t, err := parseEventTemplate(text)
	if err != nil {
		return nil, err
	}
	if literal, ok := t.Literal(); ok {
		if err := Valid([]byte(literal)); err != nil {
			return nil, fmt.Errorf("parse template: it yields %w", err)
		}
	}
	return Each(func(_ context.Context, m *Message) error {
		if t.IsPayload() {
			return nil
		}
		payload, err := executeForEvent(t, m.Event, m.Payload, maxPayload)
		if err != nil {
			return err
		}
		if err := Valid(payload); err != nil {
			return fmt.Errorf("the template yields %w", err)
		}
		m.Payload = payload
		return nil
	}), nil
}

// executeForEvent returns what a template yields for an event, at most limit
// bytes of it.
func executeForEvent(t *Template, e Event, payload []byte, limit int64) ([]byte, error) {
	if literal, ok := t.Literal(); ok && int64(len(literal)) <= limit {
		return []byte(literal), nil
	}
	var out bytes.Buffer
	if err := t.Execute(LimitWriter(&out, limit), &View{Event: e, Payload: JSON(payload)}); err != nil {
		if errors.Is(err, ErrTooLarge) {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
		}
		return nil, fmt.Errorf("execute template: %s", strings.TrimPrefix(err.Error(), "template: "))
	}
	return out.Bytes(), nil
}

// parseEventTemplate reads a template that sees an event and nothing that
// differs between its deliveries.
func parseEventTemplate(text string) (*Template, error) {
	t, err := ParseTemplate(text)
	if err != nil {
		return nil, err
	}
	if err := (&eventChecker{tree: t.template.Tree, atTop: true}).list(t.template.Root); err != nil {
		return nil, parseError(err)
	}
	return t, nil
}

// eventChecker refuses .Delivery and .Endpoint, and the view as a whole: where
// no variable, dot or argument can hold the view, those two can be reached only
// by their names behind the dot of the top or behind $.
type eventChecker struct {
	tree  *parse.Tree
	atTop bool // the dot is the view, not what with or range are over
}

func (c *eventChecker) list(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	for _, n := range list.Nodes {
		if err := c.node(n); err != nil {
			return err
		}
	}
	return nil
}

func (c *eventChecker) node(n parse.Node) error {
	switch n := n.(type) {
	case *parse.ActionNode:
		return c.pipe(n.Pipe)
	case *parse.IfNode:
		return c.branch(&n.BranchNode, c.atTop)
	case *parse.WithNode:
		return c.branch(&n.BranchNode, false)
	case *parse.RangeNode:
		return c.branch(&n.BranchNode, false)
	}
	return nil
}

func (c *eventChecker) branch(b *parse.BranchNode, atTop bool) error {
	if err := c.pipe(b.Pipe); err != nil {
		return err
	}
	inside := &eventChecker{tree: c.tree, atTop: atTop}
	if err := inside.list(b.List); err != nil {
		return err
	}
	return c.list(b.ElseList)
}

func (c *eventChecker) pipe(p *parse.PipeNode) error {
	for _, command := range p.Cmds {
		for _, arg := range command.Args {
			if err := c.arg(arg); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *eventChecker) arg(arg parse.Node) error {
	switch arg := arg.(type) {
	case *parse.PipeNode:
		return c.pipe(arg)
	case *parse.ChainNode:
		return c.arg(arg.Node)
	case *parse.FieldNode:
		if c.atTop {
			return c.field(arg, arg.Ident)
		}
	case *parse.VariableNode:
		if arg.Ident[0] == "$" {
			return c.field(arg, arg.Ident[1:])
		}
	case *parse.DotNode:
		if c.atTop {
			return c.field(arg, nil)
		}
	}
	return nil
}

// field judges a path that begins at the view.
func (c *eventChecker) field(n parse.Node, path []string) error {
	var what string
	switch {
	case len(path) == 0:
		what = "the view as a whole is not supported here: name .Event or .Payload"
	case path[0] == "Delivery" || path[0] == "Endpoint":
		what = "." + path[0] + " is not supported here: transforms run once for an event, for all of its deliveries"
	default:
		return nil
	}
	location, _ := c.tree.ErrorContext(n)
	return fmt.Errorf("%s: %s", location, what)
}

// isPrintable reports whether text is UTF-8 that can be shown on one line.
func isPrintable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}
