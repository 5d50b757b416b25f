package transforms

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// node is a JSON value with all that stands between its tokens. It is what the
// edits are compared with: read by encoding/json, edited place by place, each
// path by itself.
type node struct {
	open  string // bracket, or a scalar's text
	items []item
	last  string // what stands before the closing bracket
	close string
}

// item is a member or an element.
type item struct {
	before  string // white space and comma
	key     string // as it stands; empty in an array
	name    string // the key's text, or the element's index
	between string // key and value
	value   *node
}

func (n *node) String() string {
	var b strings.Builder
	b.WriteString(n.open)
	for _, it := range n.items {
		b.WriteString(it.before + it.key + it.between + it.value.String())
	}
	b.WriteString(n.last + n.close)
	return b.String()
}

// nodeReader reads nodes by encoding/json's tokens.
type nodeReader struct {
	t       testing.TB
	src     string
	decoder *json.Decoder
}

// readNode returns the valid value that src is, and what stands around it.
func readNode(t testing.TB, src string) (before string, n *node, after string) {
	r := &nodeReader{t: t, src: src, decoder: json.NewDecoder(strings.NewReader(src))}
	r.decoder.UseNumber()
	before, text, token := r.next()
	n = r.value(text, token)
	return before, n, src[r.decoder.InputOffset():]
}

// next returns the next token and its text, and what stands before it.
func (r *nodeReader) next() (before, text string, token json.Token) {
	start := r.decoder.InputOffset()
	token, err := r.decoder.Token()
	if err != nil {
		r.t.Fatal(err)
	}
	all := r.src[start:r.decoder.InputOffset()]
	text = strings.TrimLeft(all, ":, \t\r\n")
	return all[:len(all)-len(text)], text, token
}

func (r *nodeReader) value(text string, token json.Token) *node {
	n := &node{open: text}
	if token != json.Delim('{') && token != json.Delim('[') {
		return n
	}
	for {
		before, text, token := r.next()
		if token == json.Delim('}') || token == json.Delim(']') {
			n.last, n.close = before, text
			return n
		}
		it := item{before: before, name: strconv.Itoa(len(n.items))}
		if n.open == "{" {
			it.key, it.name = text, token.(string)
			it.between, text, token = r.next()
		}
		it.value = r.value(text, token)
		n.items = append(n.items, it)
	}
}

// way is the steps to a value.
type way []struct {
	name string
	made bool // by set
}

func (p way) to(name string, made bool) way {
	return append(slices.Clip(p), struct {
		name string
		made bool
	}{name, made})
}

// modelPath is a path and what belongs to it.
type modelPath struct {
	steps []pathStep
	text  string
}

// meets reports whether steps lead to the place.
func meets(steps []pathStep, at way) bool {
	for i, p := range at {
		if i >= len(steps) || steps[i].every && p.made || !steps[i].every && steps[i].key != p.name {
			return false
		}
	}
	return true
}

// compareSteps orders paths of one length that mean the same place: keys before
// stars.
func compareSteps(a, b []pathStep) int {
	for i := range a {
		if a[i].every != b[i].every {
			if b[i].every {
				return -1
			}
			return 1
		}
	}
	return 0
}

// model is what one transform's paths do to nodes.
type model struct {
	t     testing.TB
	paths []modelPath // in the order of their texts
}

func newModel(t testing.TB, texts map[string]string) *model {
	m := &model{t: t}
	for _, path := range slices.Sorted(maps.Keys(texts)) {
		steps, err := parsePath(path)
		if err != nil {
			t.Fatal(err)
		}
		m.paths = append(m.paths, modelPath{steps: steps, text: texts[path]})
	}
	return m
}

// at returns what belongs to the path that means the place.
func (m *model) at(p way) (text string, ok bool) {
	var best []pathStep
	for _, path := range m.paths {
		if len(path.steps) == len(p) && meets(path.steps, p) && (!ok || compareSteps(path.steps, best) < 0) {
			text, best, ok = path.text, path.steps, true
		}
	}
	return text, ok
}

// drop removes the items that gone reports.
func (n *node) drop(gone func(i int) bool) {
	var left []item
	first := ""
	for i, it := range n.items {
		if i == 0 {
			first = it.before
		}
		if gone(i) {
			continue
		}
		if len(left) == 0 {
			it.before = first
		}
		left = append(left, it)
	}
	if len(n.items) > 0 && len(left) == 0 {
		n.last = first + n.last
	}
	n.items = left
}

func (m *model) remove(n *node, at way) {
	n.drop(func(i int) bool {
		_, ok := m.at(at.to(n.items[i].name, false))
		return ok
	})
	for _, it := range n.items {
		m.remove(it.value, at.to(it.name, false))
	}
}

func (m *model) redact(n *node, at way, hide func(value string) string) {
	for _, it := range n.items {
		here := at.to(it.name, false)
		if _, ok := m.at(here); !ok {
			m.redact(it.value, here, hide)
		} else if text := it.value.String(); text != "null" {
			*it.value = node{open: hide(text)}
		}
	}
}

func (m *model) rename(n *node, at way) {
	newKeys := make([]string, len(n.items))
	renamed := make(map[string]string) // new key to the old one
	for i, it := range n.items {
		m.rename(it.value, at.to(it.name, false))
		if text, ok := m.at(at.to(it.name, false)); ok && n.open == "{" {
			newKeys[i] = text
			renamed[text] = it.name
		}
	}
	old := slices.Clone(n.items)
	for i := range n.items {
		if newKeys[i] != "" {
			n.items[i].key = mustQuote(m.t, newKeys[i])
		}
	}
	n.drop(func(i int) bool {
		if newKeys[i] != "" {
			return renamed[newKeys[i]] != old[i].name
		}
		_, taken := renamed[old[i].name]
		return taken && n.open == "{"
	})
}

func mustQuote(t testing.TB, text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(quoted))
}

// set sets what stands in a value; made says that it was made.
func (m *model) set(n *node, at way, made bool) {
	for i := range n.items {
		it := &n.items[i]
		here := at.to(it.name, false)
		if text, ok := m.at(here); ok {
			it.value = m.configured(text)
		}
		m.set(it.value, here, false)
	}
	if n.open != "{" {
		return
	}
	before := ","
	if len(n.items) == 0 {
		before = ""
	}
	for _, name := range m.missing(n, at, made) {
		here := at.to(name, true)
		it := item{before: before, key: mustQuote(m.t, name), name: name, between: ":"}
		before = ","
		if text, ok := m.at(here); ok {
			it.value = m.configured(text)
			m.set(it.value, here, false)
		} else {
			it.value = &node{open: "{", close: "}"}
			m.set(it.value, here, true)
		}
		n.items = append(n.items, it)
	}
}

func (m *model) configured(text string) *node {
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(text)); err != nil {
		m.t.Fatal(err)
	}
	_, n, _ := readNode(m.t, compact.String())
	return n
}

// missing returns the keys of the members that an object lacks.
func (m *model) missing(n *node, at way, made bool) []string {
	paths := slices.DeleteFunc(slices.Clone(m.paths), func(p modelPath) bool {
		return len(p.steps) <= len(at) || !meets(p.steps, at) || p.steps[len(at)].every
	})
	slices.SortStableFunc(paths, func(a, b modelPath) int { return compareSteps(a.steps[:len(at)], b.steps[:len(at)]) })
	makes := func(prefix []pathStep) bool {
		return slices.ContainsFunc(paths, func(p modelPath) bool {
			return len(p.steps) >= len(prefix) && slices.Equal(p.steps[:len(prefix)], prefix) &&
				!slices.ContainsFunc(p.steps[len(prefix):], func(s pathStep) bool { return s.every || index(s.key) >= 0 })
		})
	}
	var names []string
	for _, p := range paths {
		name := p.steps[len(at)].key
		has := slices.ContainsFunc(n.items, func(it item) bool { return it.name == name })
		if has || slices.Contains(names, name) || made && index(name) >= 0 || !makes(p.steps[:len(at)+1]) {
			continue
		}
		names = append(names, name)
	}
	return names
}

// editCase is a payload, paths and a text for each path, of few different keys.
type editCase struct{ payload, paths, texts string }

// randomEdit returns a case in which paths often lead somewhere. isKeys: the
// texts are keys, else values.
func randomEdit(r *rand.Rand, isKeys bool) editCase {
	keys := []string{"a", "b", "c", "0", "1", `x\.y`, "é", "<"}
	var paths, texts []string
	for range 1 + r.IntN(6) {
		var steps []string
		for range 1 + r.IntN(4) {
			if r.IntN(4) == 0 {
				steps = append(steps, "*")
			} else {
				steps = append(steps, keys[min(r.IntN(len(keys)), r.IntN(len(keys)))])
			}
		}
		paths = append(paths, strings.Join(steps, "."))
		if isKeys {
			texts = append(texts, keys[r.IntN(len(keys))])
		} else {
			texts = append(texts, randomValue(r, 2, func() string { return "" }))
		}
	}
	space := func() string { return strings.Repeat(" ", r.IntN(2)) + strings.Repeat("\n", r.IntN(5)/4) }
	return editCase{
		payload: space() + randomValue(r, 5, space) + space(),
		paths:   strings.Join(paths, "\n"),
		texts:   strings.Join(texts, "\n"),
	}
}

func randomValue(r *rand.Rand, depth int, space func() string) string {
	keys := []string{"a", "b", `\u0061`, "c", "0", "1", "x.y", `\u00e9`, "<"}
	scalars := []string{"null", "true", "1", "-0.50e1", `"a"`, `"\u00e9\n"`, `"***"`, "[]", "{}", `[ ]`, `""`}
	if depth == 0 || r.IntN(5) == 0 {
		return strings.ReplaceAll(scalars[r.IntN(len(scalars))], " ", space())
	}
	var b strings.Builder
	isObject := r.IntN(3) > 0
	for i := range r.IntN(5) {
		if i > 0 {
			b.WriteString(space() + ",")
		}
		b.WriteString(space())
		if isObject {
			b.WriteString(`"` + keys[min(r.IntN(len(keys)), r.IntN(len(keys)))] + `"` + space() + ":" + space())
		}
		b.WriteString(randomValue(r, depth-1, space))
	}
	if isObject {
		return "{" + b.String() + space() + "}"
	}
	return "[" + b.String() + space() + "]"
}
