package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/knadh/koanf/v2"
)

const (
	// delimiter separates the levels of a koanf path. No key holds it: keys are printable.
	delimiter = "\x00"
	// self begins the keys under which a map's own node stands beside its fields.
	self = "\x01"
)

// merge lays documents over one another: maps merge, all else is replaced. None
// is changed. koanf does it, but knows no positions: what it merges are the
// numbers of the nodes.
func merge(documents ...*node) (*node, error) {
	k := koanf.New(delimiter)
	var l layers
	for _, document := range documents {
		l.document = document
		if err := k.Load(&l, nil); err != nil {
			return nil, fmt.Errorf("merge %s: %w", document.file, err)
		}
	}
	merged, _ := l.node(k.Raw())
	return merged, nil
}

// layers is the koanf.Provider of one document after the other.
type layers struct {
	document *node
	nodes    []*node // of all documents
}

// Read returns the document's maps, with the numbers of nodes in them.
func (l *layers) Read() (map[string]any, error) { return l.numbers(l.document), nil }

// ReadBytes is there for koanf.Provider.
func (*layers) ReadBytes() ([]byte, error) { return nil, errors.ErrUnsupported }

func (l *layers) number(n *node) int {
	l.nodes = append(l.nodes, n)
	return len(l.nodes) - 1
}

func (l *layers) numbers(n *node) map[string]any {
	m := make(map[string]any, len(n.names)+1)
	own := l.number(n)
	m[fmt.Sprint(self, own)] = own
	for i, name := range n.names {
		if child := n.items[i]; child.kind == object {
			m[name] = l.numbers(child)
		} else {
			m[name] = l.number(child)
		}
	}
	return m
}

// node returns what was merged, and the number of its own node. A map stands
// where it stood first, and so do its fields.
func (l *layers) node(m map[string]any) (merged *node, own int) {
	type field struct {
		name  string
		node  *node
		first int // number
	}
	own = len(l.nodes)
	fields := make([]field, 0, len(m))
	for name, value := range m {
		number, isLeaf := value.(int)
		switch {
		case strings.HasPrefix(name, self):
			own = min(own, number)
		case isLeaf:
			fields = append(fields, field{name, l.nodes[number], number})
		default:
			inner, _ := value.(map[string]any)
			child, first := l.node(inner)
			fields = append(fields, field{name, child, first})
		}
	}
	slices.SortFunc(fields, func(a, b field) int { return cmp.Compare(a.first, b.first) })
	merged = &node{kind: object, file: l.nodes[own].file, line: l.nodes[own].line}
	for _, f := range fields {
		merged.put(f.name, f.node)
	}
	return merged, own
}
