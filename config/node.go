package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// kind is what a value is in all three formats.
type kind int

const (
	null kind = iota
	text
	number
	boolean
	date
	list
	object
)

// String names the kind as a message does: must be a list, got a map.
func (k kind) String() string {
	return [...]string{"nothing", "text", "a number", "true or false", "a date", "a list", "a map"}[k]
}

// node is one value of a document, wherever it was written.
type node struct {
	kind kind
	text string // of a scalar, as written, with references expanded

	// source is the text before its references were expanded; empty where
	// it had none.
	source string
	// loose marks a text that stands for any scalar, since neither the
	// environment nor a reference knows numbers.
	loose bool

	file string
	line int

	items []*node        // of a list, or the fields of an object, in order
	names []string       // of an object's fields
	index map[string]int // of an object's fields, where there are many
}

// manyFields is how many fields an object has that are not searched one by one.
const manyFields = 16

// put adds a field, which it does not have yet, to an object.
func (n *node) put(name string, child *node) {
	n.items, n.names = append(n.items, child), append(n.names, name)
	switch {
	case n.index != nil:
		n.index[name] = len(n.names) - 1
	case len(n.names) > manyFields:
		n.index = make(map[string]int, 2*len(n.names))
		for i, name := range n.names {
			n.index[name] = i
		}
	}
}

// field returns a field of an object, or nil when it has none of that name.
func (n *node) field(name string) *node {
	if n.kind != object {
		return nil
	}
	if n.index != nil {
		if i, ok := n.index[name]; ok {
			return n.items[i]
		}
		return nil
	}
	if i := slices.Index(n.names, name); i >= 0 {
		return n.items[i]
	}
	return nil
}

// isEmpty reports whether there is nothing in the value.
func (n *node) isEmpty() bool {
	return n.kind == null || n.text == "" && len(n.items) == 0
}

// appendJSON appends the value as JSON. It reports false for a number that
// JSON cannot write.
func (n *node) appendJSON(b *bytes.Buffer) bool {
	ok := true
	switch n.kind {
	case null:
		b.WriteString("null")
	case boolean:
		b.WriteString(n.text)
	case number:
		ok = n.appendNumber(b)
	case text, date:
		appendString(b, n.text)
	case list:
		b.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			ok = item.appendJSON(b) && ok
		}
		b.WriteByte(']')
	case object:
		b.WriteByte('{')
		for i, name := range n.names {
			if i > 0 {
				b.WriteByte(',')
			}
			appendString(b, name)
			b.WriteByte(':')
			ok = n.items[i].appendJSON(b) && ok
		}
		b.WriteByte('}')
	}
	return ok
}

// appendNumber keeps the text where JSON writes numbers alike, so that no digit is lost.
func (n *node) appendNumber(b *bytes.Buffer) bool {
	if json.Valid([]byte(n.text)) {
		b.WriteString(n.text)
		return true
	}
	value, ok := parseNumber(n.text)
	fmt.Fprint(b, value)
	return ok
}

func appendString(b *bytes.Buffer, s string) {
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // a string always marshals, and a buffer takes all
	b.Truncate(b.Len() - 1)
}

// place is a spot in a document: its key, and the node that stands there or,
// where none does, the nearest one around it.
type place struct {
	path   string // the key, less the name of an absent field: few are asked for theirs
	absent bool
	name   string // of an absent field
	node   *node
	given  bool
}

// key returns the key of the place, such as endpoints[0].timeout.
func (p place) key() string {
	if p.absent {
		return fieldKey(p.path, p.name)
	}
	return p.path
}

// top returns the place of a whole document.
func top(root *node) place { return place{node: root, given: true} }

// field returns the place of a field of the object at p.
func (p place) field(name string) place {
	if p.given {
		if child := p.node.field(name); child != nil {
			return place{path: fieldKey(p.path, name), node: child, given: true}
		}
	}
	return place{path: p.key(), absent: true, name: name, node: p.node}
}

// item returns the place of an element of the list at p.
func (p place) item(i int) place {
	key := itemKey(p.key(), i)
	if p.given && p.node.kind == list && i < len(p.node.items) {
		return place{path: key, node: p.node.items[i], given: true}
	}
	return place{path: key, node: p.node}
}

// isPlain reports whether name is of letters, digits, _ and - only.
func isPlain(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return name != ""
}

// fieldKey returns the key of a field, quoting a name that would read as several.
func fieldKey(parent, name string) string {
	if len(name) > 64 {
		name = strings.ToValidUTF8(name[:64], "") + "…"
	}
	switch {
	case !isPlain(name):
		return parent + "[" + strconv.Quote(name) + "]"
	case parent == "":
		return name
	default:
		return parent + "." + name
	}
}

func itemKey(parent string, i int) string { return parent + "[" + strconv.Itoa(i) + "]" }

// Bounds of a document, against files that are small but make much work, such
// as aliases of aliases in YAML.
const (
	maxNodes = 500_000
	maxDepth = 64
	maxText  = maxFile // bytes over all texts, aliases expanded
)

// builder makes the nodes of one document within the bounds.
type builder struct {
	file     string
	problems problems
	nodes    int
	size     int
	full     bool
}

// node returns a new node. Past the bounds it reports that, once, and returns
// null nodes.
func (b *builder) node(k kind, value, key string, line, depth int) *node {
	b.nodes++
	b.size += len(value)
	n := &node{kind: k, text: value, file: b.file, line: line}
	if b.nodes <= maxNodes && b.size <= maxText && depth <= maxDepth {
		return n
	}
	if !b.full {
		b.full = true
		what := "holds too much once its aliases are followed"
		if depth > maxDepth {
			what = fmt.Sprintf("is nested more than %d levels deep", maxDepth)
		}
		b.problems.add(place{path: key, node: n}, "%s", what)
	}
	n.kind, n.text = null, ""
	return n
}

// put adds a field to parent and reports a name that is repeated or cannot be printed.
func (b *builder) put(parent *node, parentKey, name string, child *node) {
	at := place{path: parentKey, absent: true, name: name, node: child}
	if earlier := parent.field(name); earlier != nil {
		b.problems.add(at, "is repeated: it stands in line %d already", earlier.line)
		return
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		b.problems.add(at, "is no key: keys are printable")
		return
	}
	parent.put(name, child)
}
