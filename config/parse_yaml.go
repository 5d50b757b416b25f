package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// yamlDocument turns the parser's nodes into ours.
type yamlDocument struct{ *builder }

// parseYAML reads one YAML document. It returns nil for an empty one and when
// the text is no YAML, which it reports.
func (b *builder) parseYAML(data []byte) *node {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		err = decoder.Decode(&next)
		if err == nil {
			b.problems.add(place{node: &node{file: b.file, line: max(next.Line, 1)}}, "holds a second document")
			return nil
		}
	}
	if !errors.Is(err, io.EOF) {
		line, message := yamlProblem(err)
		b.problems.add(place{node: &node{file: b.file, line: line}}, "is not valid YAML: %s", message)
		return nil
	}
	return yamlDocument{b}.value(doc.Content[0], "", 1, 0)
}

var (
	yamlError     = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?((?s:.*))$`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor `)
)

// yamlProblem takes the parser's error apart, which is text only. The name of
// an unknown anchor is kept back: it may be a secret that begins with "*".
func yamlProblem(err error) (line int, message string) {
	m := yamlError.FindStringSubmatch(err.Error())
	if m == nil {
		return 1, "it cannot be read"
	}
	line, _ = strconv.Atoi(m[1]) // absent for line 1
	if unknownAnchor.MatchString(m[2]) {
		return max(line, 1), "unknown anchor; quote a text that begins with *"
	}
	return max(line, 1), m[2]
}

// value converts n. line is where its key stands, or the line of n itself in a list.
func (d yamlDocument) value(n *yaml.Node, key string, line, depth int) *node {
	switch n.Kind {
	case yaml.AliasNode:
		// An anchor that holds its own alias ends at the depth bound.
		return d.value(n.Alias, key, line, depth+1)
	case yaml.SequenceNode:
		d.tag(n, "!!seq", key, line)
		result := d.node(list, "", key, line, depth)
		for i := 0; i < len(n.Content) && !d.full; i++ {
			item := n.Content[i]
			result.items = append(result.items, d.value(item, itemKey(key, i), item.Line, depth+1))
		}
		return result
	case yaml.MappingNode:
		d.tag(n, "!!map", key, line)
		return d.mapping(n, key, line, depth)
	default:
		return d.scalar(n, key, line, depth)
	}
}

// tag reports a tag other than the one that n has without any.
func (d yamlDocument) tag(n *yaml.Node, want, key string, line int) {
	if n.ShortTag() != want {
		d.problems.add(place{path: key, node: &node{file: d.file, line: line}}, "has a tag that is not supported")
	}
}

func (d yamlDocument) mapping(n *yaml.Node, key string, line, depth int) *node {
	result := d.node(object, "", key, line, depth)
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content) && !d.full; i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		switch name.ShortTag() {
		case "!!merge":
			if len(merged) > 0 {
				d.problems.add(place{path: fieldKey(key, "<<"), node: &node{file: d.file, line: name.Line}}, "is repeated")
			}
			merged = append(merged, value)
		case "!!str":
			child := d.value(value, fieldKey(key, name.Value), name.Line, depth+1)
			d.put(result, key, name.Value, child)
		default:
			at := place{path: fieldKey(key, name.Value), node: &node{file: d.file, line: name.Line}}
			d.problems.add(at, "is no text: quote the key")
		}
	}
	for _, value := range merged {
		d.merge(result, d.value(value, fieldKey(key, "<<"), value.Line, depth+1))
	}
	return result
}

// merge adds the fields of from, a map or a list of maps, that result lacks.
func (d yamlDocument) merge(result, from *node) {
	switch from.kind {
	case object:
		for i, name := range from.names {
			if result.field(name) == nil {
				result.put(name, from.items[i])
			}
		}
	case list:
		for _, item := range from.items {
			d.merge(result, item)
		}
	default:
		d.problems.add(place{path: "<<", node: from}, "must be a map")
	}
}

var yamlKinds = map[string]kind{
	"!!null": null, "!!str": text, "!!int": number, "!!float": number, "!!bool": boolean, "!!timestamp": date,
}

func (d yamlDocument) scalar(n *yaml.Node, key string, line, depth int) *node {
	k, ok := yamlKinds[n.ShortTag()]
	result := d.node(k, n.Value, key, line, depth)
	if !ok {
		d.problems.add(place{path: key, node: result}, "has a tag that is not supported")
	}
	if result.kind == boolean {
		var value bool
		if err := n.Decode(&value); err != nil {
			d.problems.add(place{path: key, node: result}, "must be true or false")
		}
		result.text = strconv.FormatBool(value)
	}
	return result
}
