package transforms

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"time"
	"unicode/utf8"
)

const (
	maxTemplate = 64 << 10 // bytes of a template's text
	maxSample   = 1 << 20  // bytes that a template may yield for the sample view
)

// ErrTooLarge reports that a template yielded more than it may.
var ErrTooLarge = errors.New("template's output is too large")

// Template is a checked body or header template, safe for concurrent use.
type Template struct {
	template *template.Template
	payload  bool
	literal  bool
	text     string // if literal
}

// ParseTemplate reads a template and executes it once for a sample event, so
// that a wrong field, function or argument is found when the configuration is
// read. Branches that the sample does not take are checked for syntax and
// functions only. Errors name line and column of text.
//
// text is UTF-8 of at most 64 KiB. define, template and block are refused, as
// is a range inside a range or over anything but a field, so that the work is
// bounded by the view's size.
func ParseTemplate(text string) (*Template, error) {
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("parse template: has %d bytes, at most %d are allowed", len(text), maxTemplate)
	}
	if !utf8.ValidString(text) {
		return nil, errors.New("parse template: is not UTF-8")
	}
	// Only headers have keys, and a header that an event lacks is empty text.
	parsed, err := template.New("template").Option("missingkey=zero").Funcs(sampleFunctions).Parse(text)
	if err != nil {
		return nil, parseError(err)
	}
	if err := (&checker{tree: parsed.Tree}).nodes(parsed.Root); err != nil {
		return nil, parseError(err)
	}
	if len(parsed.Templates()) > 1 {
		return nil, errors.New("parse template: define and block are not supported")
	}
	if err := parsed.Execute(LimitWriter(io.Discard, maxSample), sample); err != nil {
		return nil, parseError(err)
	}
	parsed.Funcs(functions)
	t := &Template{template: parsed, payload: isPayload(parsed.Root)}
	t.text, t.literal = literal(parsed.Root)
	return t, nil
}

// parseError drops the word that text/template puts before its errors.
func parseError(err error) error {
	return fmt.Errorf("parse template: %s", strings.TrimPrefix(err.Error(), "template: "))
}

// Execute writes what the template yields for v. w bounds the output: see
// [LimitWriter]. An error of w comes back as it is; by any other error the
// template cannot be rendered for this view, now or later, and part of it may
// have been written. Errors quote the template and nothing of the view.
func (t *Template) Execute(w io.Writer, v *View) error {
	// By value: the fields of what a pointer points to are addressable, and
	// templates could call the methods that change them.
	return t.template.Execute(w, *v)
}

// IsPayload reports whether the template is {{ .Payload }} and nothing else, so
// that the payload can be sent without executing it.
func (t *Template) IsPayload() bool { return t.payload }

// Literal returns what the template yields and true if it holds no action, so
// that it yields the same for any view.
func (t *Template) Literal() (string, bool) { return t.text, t.literal }

func isPayload(root *parse.ListNode) bool {
	if len(root.Nodes) != 1 {
		return false
	}
	action, ok := root.Nodes[0].(*parse.ActionNode)
	if !ok || len(action.Pipe.Decl) != 0 || len(action.Pipe.Cmds) != 1 || len(action.Pipe.Cmds[0].Args) != 1 {
		return false
	}
	field, ok := action.Pipe.Cmds[0].Args[0].(*parse.FieldNode)
	return ok && len(field.Ident) == 1 && field.Ident[0] == "Payload"
}

func literal(root *parse.ListNode) (string, bool) {
	var text strings.Builder
	for _, n := range root.Nodes {
		node, ok := n.(*parse.TextNode)
		if !ok {
			return "", false
		}
		text.Write(node.Text)
	}
	return text.String(), true
}

// checker refuses what text/template has and this language does not.
type checker struct {
	tree    *parse.Tree
	inRange bool
}

func (c *checker) fail(n parse.Node, what string) error {
	location, _ := c.tree.ErrorContext(n)
	return fmt.Errorf("%s: %s", location, what)
}

func (c *checker) nodes(list *parse.ListNode) error {
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

func (c *checker) node(n parse.Node) error {
	switch n := n.(type) {
	case *parse.ActionNode:
		return c.pipe(n.Pipe)
	case *parse.IfNode:
		return c.branch(&n.BranchNode)
	case *parse.WithNode:
		return c.branch(&n.BranchNode)
	case *parse.RangeNode:
		if c.inRange {
			return c.fail(n, "a range inside a range is not supported")
		}
		if !isField(n.Pipe) {
			return c.fail(n, "range is supported over a field such as .Event.Headers only")
		}
		c.inRange = true
		err := c.branch(&n.BranchNode)
		c.inRange = false
		return err
	case *parse.TemplateNode:
		return c.fail(n, "template and block are not supported")
	}
	return nil
}

func (c *checker) branch(b *parse.BranchNode) error {
	if err := c.pipe(b.Pipe); err != nil {
		return err
	}
	if err := c.nodes(b.List); err != nil {
		return err
	}
	return c.nodes(b.ElseList)
}

// pipe refuses functions that are text/template's own and not in builtins, and
// nil where and or or would yield it: it prints as "<no value>".
func (c *checker) pipe(p *parse.PipeNode) error {
	for _, command := range p.Cmds {
		for _, arg := range command.Args {
			if chain, ok := arg.(*parse.ChainNode); ok {
				arg = chain.Node
			}
			switch arg := arg.(type) {
			case *parse.PipeNode:
				if err := c.pipe(arg); err != nil {
					return err
				}
			case *parse.IdentifierNode:
				if functions[arg.Ident] == nil && !builtins[arg.Ident] {
					return c.fail(arg, fmt.Sprintf("function %q is not supported", arg.Ident))
				}
				if (arg.Ident == "and" || arg.Ident == "or") && slices.ContainsFunc(command.Args, isNil) {
					return c.fail(arg, fmt.Sprintf("nil is not supported as an argument of %s: see default", arg.Ident))
				}
			}
		}
	}
	return nil
}

func isNil(n parse.Node) bool { return n.Type() == parse.NodeNil }

// isField reports whether p is a field like .Event.Headers and nothing else.
func isField(p *parse.PipeNode) bool {
	if len(p.Cmds) != 1 || len(p.Cmds[0].Args) != 1 {
		return false
	}
	_, ok := p.Cmds[0].Args[0].(*parse.FieldNode)
	return ok
}

// LimitWriter returns a writer that passes on to w and fails with ErrTooLarge
// instead of writing more than n bytes altogether.
func LimitWriter(w io.Writer, n int64) io.Writer { return &limitWriter{w, n} }

type limitWriter struct {
	w    io.Writer
	left int64
}

func (l *limitWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, ErrTooLarge
	}
	n, err := l.w.Write(p)
	l.left -= int64(n)
	return n, err
}

// sample is the view that templates are checked with.
var sample = View{
	Event: Event{
		ID:        "01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8d9e",
		Type:      "order.created",
		Object:    "order",
		Action:    "created",
		Tenant:    "01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8d9f",
		Key:       "01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8da0",
		CreatedAt: time.Date(2026, 5, 22, 9, 30, 0, 0, time.UTC),
		Headers:   map[string]string{},
	},
	Payload:  "{}",
	Delivery: Delivery{ID: "01907f3e-5b1c-5a2d-9c4e-3f5a6b7c8d9e", CreatedAt: time.Date(2026, 5, 22, 9, 30, 0, 0, time.UTC)},
	Endpoint: Endpoint{ID: "01907f3e-5b1c-5a2d-9c4e-3f5a6b7c8d9f", Name: "sample", URL: "https://sample.example/hooks", Tenant: "sample"},
}
