package config

import (
	"bytes"
	"errors"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// tomlDocument builds the tree from the parser's expressions: the decoder
// alone would stop at the first repeated key and drop every position.
type tomlDocument struct {
	*builder
	parser unstable.Parser
	lines  lineIndex

	root *node
	// explicit holds the tables that had a header or were written inline, which none may have twice.
	explicit map[*node]bool
}

// parseTOML reads a TOML document. It returns nil when the text is no TOML,
// which it reports.
func (b *builder) parseTOML(data []byte) *node {
	if line := tooDeepTOML(data); line > 0 {
		b.problems.add(place{node: &node{file: b.file, line: line}}, "is nested more than %d levels deep", maxDepth)
		return nil
	}
	d := &tomlDocument{builder: b, lines: indexLines(data), explicit: make(map[*node]bool)}
	d.root = d.node(object, "", "", 1, 0)
	d.parser.Reset(data)
	table, key := d.root, ""
	for d.parser.NextExpression() && !d.full {
		switch e := d.parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, key = d.header(e)
		case unstable.KeyValue:
			d.keyValue(table, key, e, 0)
		}
	}
	var syntax *unstable.ParserError
	if errors.As(d.parser.Error(), &syntax) {
		line := d.lines.at(int(d.parser.Range(syntax.Highlight).Offset) + 1)
		b.problems.add(place{node: &node{file: b.file, line: line}}, "is not valid TOML: %s", syntax.Message)
		return nil
	}
	if len(b.problems.list) == 0 {
		d.decode(data)
	}
	return d.root
}

// decode lets the decoder judge what the parser takes without a look, such as
// the digits of a number or a table that is defined in two ways.
func (d *tomlDocument) decode(data []byte) {
	err := toml.Unmarshal(data, new(map[string]any))
	if err == nil {
		return
	}
	at := place{node: d.root}
	message := err.Error()
	var rejected *toml.DecodeError
	if errors.As(err, &rejected) {
		line, _ := rejected.Position()
		at = place{path: strings.Join(rejected.Key(), "."), node: &node{file: d.file, line: line}}
	}
	d.problems.add(at, "is not valid TOML: %s", strings.TrimPrefix(message, "toml: "))
}

// header returns the table that a [table] or [[table]] opens, and its key.
func (d *tomlDocument) header(e *unstable.Node) (*node, string) {
	names, line := d.names(e.Key())
	parent, key := d.descend(d.root, "", names[:len(names)-1], line)
	name := names[len(names)-1]
	own := fieldKey(key, name)
	existing := parent.field(name)
	table := d.node(object, "", own, line, len(names))
	if e.Kind == unstable.ArrayTable {
		if existing == nil {
			existing = d.node(list, "", own, line, len(names))
			d.put(parent, key, name, existing)
		}
		if existing.kind != list || d.explicit[existing] {
			d.put(parent, key, name, table) // reports the repetition
			return table, own
		}
		existing.items = append(existing.items, table)
		return table, itemKey(own, len(existing.items)-1)
	}
	if existing != nil && existing.kind == object && !d.explicit[existing] {
		d.explicit[existing] = true
		existing.line = line
		return existing, own
	}
	d.put(parent, key, name, table)
	d.explicit[table] = true
	return table, own
}

// keyValue adds name = value, or a.b.name = value, to table.
func (d *tomlDocument) keyValue(table *node, key string, e *unstable.Node, depth int) {
	names, line := d.names(e.Key())
	table, key = d.descend(table, key, names[:len(names)-1], line)
	name := names[len(names)-1]
	d.put(table, key, name, d.value(e.Value(), fieldKey(key, name), line, depth+len(names)))
}

// descend returns the table at names below table, making those that are
// missing. A list of tables stands for its last.
func (d *tomlDocument) descend(table *node, key string, names []string, line int) (*node, string) {
	for i, name := range names {
		parentKey := key
		key = fieldKey(key, name)
		next := table.field(name)
		if next == nil {
			next = d.node(object, "", key, line, i)
			d.put(table, parentKey, name, next)
		}
		if next.kind == list && !d.explicit[next] && len(next.items) > 0 {
			key = itemKey(key, len(next.items)-1)
			next = next.items[len(next.items)-1]
		}
		if next.kind != object {
			other := d.node(object, "", key, line, i)
			d.put(table, parentKey, name, other) // reports the repetition
			next = other
		}
		table = next
	}
	return table, key
}

// names returns the parts of a key and its line.
func (d *tomlDocument) names(it unstable.Iterator) (names []string, line int) {
	for it.Next() {
		n := it.Node()
		if line == 0 {
			line = d.lines.at(int(n.Raw.Offset) + 1)
		}
		names = append(names, string(n.Data))
	}
	return names, line
}

func (d *tomlDocument) value(n *unstable.Node, key string, line, depth int) *node {
	if n.Raw.Length > 0 {
		line = max(line, d.lines.at(int(n.Raw.Offset)+1))
	}
	switch n.Kind {
	case unstable.Array:
		result := d.node(list, "", key, line, depth)
		d.explicit[result] = true
		it := n.Children()
		for i := 0; it.Next() && !d.full; i++ {
			result.items = append(result.items, d.value(it.Node(), itemKey(key, i), line, depth+1))
		}
		return result
	case unstable.InlineTable:
		result := d.node(object, "", key, line, depth)
		d.explicit[result] = true
		for it := n.Children(); it.Next() && !d.full; {
			d.keyValue(result, key, it.Node(), depth)
		}
		return result
	case unstable.String:
		return d.node(text, string(n.Data), key, line, depth)
	case unstable.Bool:
		return d.node(boolean, string(n.Data), key, line, depth)
	case unstable.Integer, unstable.Float:
		return d.node(number, string(n.Data), key, line, depth)
	default:
		return d.node(date, strings.Replace(string(n.Data), " ", "T", 1), key, line, depth)
	}
}

// tooDeepTOML returns the line at which brackets nest deeper than maxDepth,
// or 0. The parser recurses without a bound, and a stack that overflows
// cannot be recovered from.
func tooDeepTOML(data []byte) int {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '#':
			if end := bytes.IndexByte(data[i:], '\n'); end >= 0 {
				i += end
			} else {
				return 0
			}
		case '"', '\'':
			i = skipTOMLString(data, i)
		case '[', '{':
			if depth++; depth > maxDepth {
				return bytes.Count(data[:i], []byte{'\n'}) + 1
			}
		case ']', '}':
			depth--
		}
	}
	return 0
}

// skipTOMLString returns the index of the last byte of the string that begins at i.
func skipTOMLString(data []byte, i int) int {
	quote := data[i]
	closing := []byte{quote}
	if triple := bytes.Repeat(closing, 3); bytes.HasPrefix(data[i:], triple) {
		closing = triple
	}
	for j := i + len(closing); j < len(data); j++ {
		switch {
		case data[j] == '\\' && quote == '"':
			j++
		case data[j] == '\n' && len(closing) == 1:
			return j
		case bytes.HasPrefix(data[j:], closing):
			return j + len(closing) - 1
		}
	}
	return len(data)
}
