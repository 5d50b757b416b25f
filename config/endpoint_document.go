package config

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// SplitEndpoint parts an endpoint's document from its secrets: masked has ***
// in the place of each, and secrets is a JSON object of the keys that hold one,
// each whole, nil where none does. See [JoinEndpoint].
func SplitEndpoint(document []byte) (masked, secrets []byte, err error) {
	root, err := parseDocument(document)
	if err != nil {
		return nil, nil, err
	}
	shown := maskedDocument(root)
	held := &node{kind: object}
	for i, name := range root.names {
		if !same(root.items[i], shown.items[i]) {
			held.put(name, root.items[i])
		}
	}
	if len(held.names) > 0 {
		secrets = held.json()
	}
	return shown.json(), secrets, nil
}

// JoinEndpoint is the reverse of [SplitEndpoint].
func JoinEndpoint(masked, secrets []byte) ([]byte, error) {
	if secrets == nil {
		return masked, nil
	}
	root, err := parseDocument(masked)
	if err != nil {
		return nil, err
	}
	held, err := parseDocument(secrets)
	if err != nil {
		return nil, err
	}
	for i, name := range root.names {
		if secret := held.field(name); secret != nil {
			root.items[i] = secret
		}
	}
	return root.json(), nil
}

// PatchEndpoint returns document changed by a merge patch (RFC 7396). What the
// patch gives as [SplitEndpoint] shows it, *** and all, stays as it is. An
// [*Error] names what still has *** for a secret, which nothing can be put in
// the place of.
func PatchEndpoint(document, patch []byte) ([]byte, error) {
	root, err := parseDocument(document)
	if err != nil {
		return nil, err
	}
	changes, err := parseDocument(patch)
	if err != nil {
		return nil, err
	}
	shown := maskedDocument(root)
	patched := restored(mergePatch(root, changes), shown, root)
	ps := &problems{}
	findMasks(top(patched), endpointsType.Elem(), ps)
	findHidden(top(patched), endpointsType.Elem(), shown, root, ps)
	return patched.json(), ps.err()
}

// mergePatch returns target changed by patch, and changes neither.
func mergePatch(target, patch *node) *node {
	if patch.kind != object {
		return patch
	}
	result := &node{kind: object}
	if target != nil && target.kind == object {
		for i, name := range target.names {
			switch change := patch.field(name); {
			case change == nil:
				result.put(name, target.items[i])
			case change.kind != null:
				result.put(name, mergePatch(target.items[i], change))
			}
		}
	}
	for i, name := range patch.names {
		if patch.items[i].kind != null && (target == nil || target.field(name) == nil) {
			result.put(name, mergePatch(nil, patch.items[i]))
		}
	}
	return result
}

// restored returns n with the parts of original, which masked is what is shown
// of, in the place of those that are as they are shown.
func restored(n, masked, original *node) *node {
	if masked == nil || same(masked, original) {
		return n
	}
	if same(n, masked) {
		return original
	}
	if n.kind != masked.kind || n.kind != object && n.kind != list {
		return n
	}
	result := &node{kind: n.kind}
	for i, item := range n.items {
		if n.kind == object {
			name := n.names[i]
			result.put(name, restored(item, masked.field(name), original.field(name)))
			continue
		}
		if at := shownAt(masked.items, item, i); at >= 0 {
			item = original.items[at]
		}
		result.items = append(result.items, item)
	}
	return result
}

// shownAt returns the index of item among items: i if it stands there, or else
// the only one; -1 where that is not clear.
func shownAt(items []*node, item *node, i int) int {
	if i < len(items) && same(items[i], item) {
		return i
	}
	found := -1
	for at := range items {
		if same(items[at], item) {
			if found >= 0 {
				return -1
			}
			found = at
		}
	}
	return found
}

// findMasks reports secrets that are ***, and credentials in URLs. No secret
// is so short.
func findMasks(p place, t reflect.Type, ps *problems) {
	switch {
	case t == secretType && p.node.text == mask, t == urlType && strings.Contains(p.node.text, mask):
		ps.add(p, "has %s, which is shown in the place of a secret: give the secret itself, or leave the key out to keep it", mask)
	case p.node.kind == object && t.Kind() == reflect.Struct:
		for _, name := range p.node.names {
			if f, ok := fieldOf(t, name); ok {
				findMasks(p.field(name), f.Type, ps)
			}
		}
	case p.node.kind == object && t.Kind() == reflect.Map:
		for _, name := range p.node.names {
			if at := p.field(name); sensitiveHeader.MatchString(name) && at.node.text == mask {
				ps.add(at, "is %s, which is shown in the place of a secret: give the secret itself, or leave the key out to keep it", mask)
			}
		}
	case p.node.kind == list && t.Kind() == reflect.Slice:
		for i := range p.node.items {
			findMasks(p.item(i), t.Elem(), ps)
		}
	}
}

// findHidden reports texts that were changed and still have the *** in the place of
// a secret that stands in them beside others, such as in a body. masked is what is
// shown of original. The rest is findMasks'.
func findHidden(p place, t reflect.Type, masked, original *node, ps *problems) {
	if masked == nil || original == nil || p.node.kind != masked.kind || t == secretType || t == urlType {
		return
	}
	switch n := p.node; {
	case n.kind == text:
		hides := masked.text != mask && strings.Count(masked.text, mask) > strings.Count(original.text, mask)
		if hides && n.text != original.text && strings.Contains(n.text, mask) {
			ps.add(p, "has %s, which is shown in the place of a secret: write the secret itself where you change the text around it", mask)
		}
	case n.kind == object:
		for _, name := range n.names {
			if f, ok := fieldOfStruct(t, name); ok {
				findHidden(p.field(name), f.Type, masked.field(name), original.field(name), ps)
			} else if t.Kind() == reflect.Map {
				findHidden(p.field(name), t.Elem(), masked.field(name), original.field(name), ps)
			}
		}
	case n.kind == list && t.Kind() == reflect.Slice:
		for i := range min(len(n.items), len(masked.items)) {
			findHidden(p.item(i), t.Elem(), masked.items[i], original.items[i], ps)
		}
	}
}

// unsought is the length of the longest text that is not looked for elsewhere: it would be
// found where it is none.
const unsought = 5

// hiding returns what puts *** in the place of secrets wherever they are.
func hiding(secrets []string) *strings.Replacer {
	// The replacer takes the first that fits: a secret that begins with another one goes first.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, secret := range secrets {
		if len(secret) > unsought {
			pairs = append(pairs, secret, mask)
		}
	}
	return strings.NewReplacer(pairs...)
}

// maskedDocument returns an endpoint's document with *** in the place of what is
// secret in it, also where a secret stands once more, such as in the body.
func maskedDocument(root *node) *node {
	var secrets []string
	shown := maskedNode(root, endpointsType.Elem(), false, &secrets)
	if len(secrets) == 0 {
		return shown
	}
	return shown.hidden(hiding(secrets))
}

// hidden returns n with all its texts as hide makes them.
func (n *node) hidden(hide *strings.Replacer) *node {
	result := *n
	if n.kind == text {
		result.text = hide.Replace(n.text)
	}
	result.items = make([]*node, len(n.items))
	for i, item := range n.items {
		result.items[i] = item.hidden(hide)
	}
	return &result
}

var urlType = reflect.TypeFor[URL]()

// maskedNode returns n, a value for type t, with *** in the place of what is
// secret in it by its key, and adds that to secrets. headers is whether it is a
// map of headers.
func maskedNode(n *node, t reflect.Type, headers bool, secrets *[]string) *node {
	result := *n
	switch {
	case n.kind == text && (t == secretType || t == urlType):
		if t == secretType {
			*secrets = append(*secrets, n.text)
		}
		value := reflect.New(t).Elem()
		value.SetString(n.text)
		result.text = fmt.Sprint(value.Interface())
	case n.kind == object && t.Kind() == reflect.Struct, n.kind == object && t.Kind() == reflect.Map:
		result.items = make([]*node, len(n.items))
		for i, name := range n.names {
			result.items[i] = n.items[i]
			if f, ok := fieldOfStruct(t, name); ok {
				result.items[i] = maskedNode(n.items[i], f.Type, f.key == "headers", secrets)
			} else if headers && sensitiveHeader.MatchString(name) && n.items[i].kind == text {
				*secrets = append(*secrets, n.items[i].text)
				result.items[i] = &node{kind: text, text: mask}
			}
		}
	case n.kind == list && t.Kind() == reflect.Slice:
		result.items = make([]*node, len(n.items))
		for i, item := range n.items {
			result.items[i] = maskedNode(item, t.Elem(), false, secrets)
		}
	}
	return &result
}

// fieldOfStruct is fieldOf, for types that need not be structs.
func fieldOfStruct(t reflect.Type, key string) (field, bool) {
	if t.Kind() != reflect.Struct {
		return field{}, false
	}
	return fieldOf(t, key)
}

// same reports whether a and b are the same JSON, but for the order of keys and
// the way of writing numbers.
func same(a, b *node) bool {
	if a.kind != b.kind || a.text != b.text || len(a.items) != len(b.items) {
		return false
	}
	for i, item := range a.items {
		other := b.items[i]
		if a.kind == object {
			if other = b.field(a.names[i]); other == nil {
				return false
			}
		}
		if !same(item, other) {
			return false
		}
	}
	return true
}

// json returns the value as JSON, which it came from.
func (n *node) json() []byte {
	var b bytes.Buffer
	n.appendJSON(&b)
	return b.Bytes()
}
