package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

const prefix = "POSTHORN_"

// variablesType is a plugin's env, whose names have a case.
var variablesType = reflect.TypeFor[map[string]Secret]()

// environMap returns the variables of environ, which is as os.Environ gives it.
func environMap(environ []string) map[string]string {
	vars := make(map[string]string, len(environ))
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok {
			vars[name] = value
		}
	}
	return vars
}

// variables returns a document for each variable that is configuration: one
// whose name begins with POSTHORN_ and a top-level key. A value is taken as
// it is, without references. They come sorted, so that one for a key inside a
// map lies over one for the whole map.
func variables(vars map[string]string, ps *problems) []*node {
	var documents []*node
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		path, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		segments := strings.Split(path, "__")
		if _, ok := fieldOf(configType, strings.ToLower(segments[0])); !ok {
			continue
		}
		b := &builder{file: name}
		if root := b.variable(configType, "", segments, vars[name]); root != nil {
			documents = append(documents, root)
		}
		ps.list = append(ps.list, b.problems.list...)
	}
	return documents
}

// variable returns the document in which value stands at segments below a
// value of type t. A list or a map is one JSON value, all else is text.
// Segments are keys in whatever case, but for a plugin's own variables.
// One that t does not have is left to the check of the document.
func (b *builder) variable(t reflect.Type, key string, segments []string, value string) *node {
	if len(segments) > 0 {
		name := segments[0]
		if t != variablesType {
			name = strings.ToLower(name)
		}
		var child reflect.Type
		switch {
		case t == nil || isScalar(t):
		case t.Kind() == reflect.Slice:
			b.problems.add(place{path: key, node: &node{file: b.file}}, "is a list: give it as one JSON value in %s",
				strings.TrimSuffix(strings.ToUpper(b.file), "__"+strings.ToUpper(strings.Join(segments, "__"))))
			return nil
		case t.Kind() == reflect.Map:
			child = t.Elem()
		default:
			if f, ok := fieldOf(t, name); ok {
				child = f.Type
			}
		}
		next := b.variable(child, fieldKey(key, name), segments[1:], value)
		if next == nil {
			return nil
		}
		parent := b.node(object, "", key, 0, 0)
		b.put(parent, key, name, next)
		return parent
	}
	if t == nil || isScalar(t) {
		leaf := b.node(text, value, key, 0, 0)
		leaf.loose = true
		return leaf
	}
	return b.jsonVariable(key, value)
}

// jsonVariable reads a variable's value as JSON. Positions inside of it would
// only mislead: the whole value is the variable's.
func (b *builder) jsonVariable(key, value string) *node {
	inner := &builder{file: b.file}
	root := inner.parseJSON([]byte(value))
	for _, p := range inner.problems.list {
		p.Line = 0
		p.Key = joinKeys(key, p.Key)
		b.problems.list = append(b.problems.list, p)
	}
	if root != nil {
		root.withoutLines()
	}
	return root
}

func (n *node) withoutLines() {
	n.line = 0
	for _, item := range n.items {
		item.withoutLines()
	}
}

func joinKeys(parent, key string) string {
	if key == "" || strings.HasPrefix(key, "[") {
		return parent + key
	}
	return parent + "." + key
}
