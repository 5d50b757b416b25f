package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// maxReferenced bounds a file that ${file:…} names, in bytes.
const maxReferenced = 64 << 10

// maxExpanded bounds the texts with references in them, in bytes over all.
const maxExpanded = 8 << 20

// reference is $${, which stands for ${, or a reference, or the beginning of
// one that is written wrongly.
var reference = regexp.MustCompile(`\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)\}|file:([^{}\x00-\x1f]+)\})?`)

// expander replaces ${NAME} and ${file:PATH} in the texts of a document.
type expander struct {
	environ  map[string]string
	problems *problems
	size     int // of all that was expanded
}

// expand works on values only and on each once, node by node: what a
// reference yields is never read as YAML, TOML, JSON or a further reference.
func (e *expander) expand(p place) {
	switch p.node.kind {
	case list:
		for i := range p.node.items {
			e.expand(p.item(i))
		}
	case object:
		for _, name := range p.node.names {
			e.expand(p.field(name))
		}
	case text:
		e.expandText(p)
	}
}

func (e *expander) expandText(p place) {
	if !strings.Contains(p.node.text, "${") {
		return
	}
	var b strings.Builder
	rest, referred := p.node.text, false
	for {
		m := reference.FindStringSubmatchIndex(rest)
		if m == nil {
			break
		}
		b.WriteString(rest[:m[0]])
		found := rest[m[0]:m[1]]
		if found == "$${" {
			b.WriteString("${")
		} else {
			value, err := e.resolve(group(rest, m, 1), group(rest, m, 2))
			if err != nil {
				e.problems.add(p, "%v", err)
				return
			}
			b.WriteString(value)
			referred = true
		}
		rest = rest[m[1]:]
		if e.size+b.Len() > maxExpanded {
			e.problems.add(p, "the references of the file expand to more than %v", Bytes(maxExpanded))
			return
		}
	}
	b.WriteString(rest)
	if referred {
		p.node.source = p.node.text
		p.node.loose = true
	}
	p.node.text = b.String()
	e.size += b.Len()
}

func (e *expander) resolve(name, path string) (string, error) {
	switch {
	case name != "":
		value, ok := e.environ[name]
		if !ok {
			return "", fmt.Errorf("${%s} is not set in the environment", name)
		}
		return value, nil
	case path != "":
		data, err := readFile(path, maxReferenced)
		if err != nil {
			return "", fmt.Errorf("${file:%s} cannot be read: %w", path, err)
		}
		value, _ := strings.CutSuffix(string(data), "\n")
		value, _ = strings.CutSuffix(value, "\r")
		return value, nil
	default:
		return "", errors.New("has a ${ that is neither ${NAME} nor ${file:PATH}; write $${ for the text ${")
	}
}

// group returns the text of a submatch, or "" where it took no part.
func group(s string, m []int, i int) string {
	if m[2*i] < 0 {
		return ""
	}
	return s[m[2*i]:m[2*i+1]]
}
