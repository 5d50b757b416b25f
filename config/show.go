package config

import (
	"bytes"
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Masked returns the configuration as it is in effect, as YAML: defaults
// filled in, endpoints with the keys of their profile. Secrets, the hashes of
// tokens and the credentials of URLs are "***"; a text that was written with a reference
// such as ${NAME} shows the reference; what is empty is left out. A secret of an
// endpoint that stands once more, such as in its body, is "***" there, too.
func (c *Config) Masked() []byte {
	text, err := yaml.Marshal(c.masked(reflect.ValueOf(*c), c.origin()))
	if err != nil {
		panic(fmt.Sprintf("marshal configuration: %v", err)) // scalars, lists and maps always marshal
	}
	return text
}

// origin returns the place of the document that c came from, an empty one where
// it came from none.
func (c *Config) origin() place {
	if c.root == nil {
		return top(&node{kind: object})
	}
	return top(c.root)
}

// masked returns v, which p is the origin of, as a YAML node.
func (c *Config) masked(v reflect.Value, p place) *yaml.Node {
	if isScalar(v.Type()) {
		return maskedScalar(v, p)
	}
	result := &yaml.Node{Kind: yaml.MappingNode}
	add := func(name string, child *yaml.Node) {
		result.Content = append(result.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}, child)
	}
	switch v.Kind() {
	case reflect.Slice:
		result.Kind = yaml.SequenceNode
		for i := range v.Len() {
			at := p.item(i)
			endpoint, ok := v.Index(i).Interface().(Endpoint)
			if ok {
				at.node = under(c.profileNode(endpoint.ProfileName), at.node)
			}
			shown := c.masked(v.Index(i), at)
			if ok {
				hideIn(shown, hiding(secretsOf(v.Index(i), false)))
			}
			result.Content = append(result.Content, shown)
		}
	case reflect.Map:
		for _, name := range slices.Sorted(maps.Keys(keysOf(v))) {
			add(name, c.masked(v.MapIndex(reflect.ValueOf(name)), p.field(name)))
		}
	default:
		for _, f := range fieldsOf(v.Type()) {
			if value := v.FieldByIndex(f.Index); !isEmpty(value) {
				add(f.key, c.maskedKey(v.Type(), f.key, value, p.field(f.key)))
			}
		}
	}
	return result
}

// maskedKey returns the value of a struct's key. The hash of a token stands for
// what can be guessed from it, where somebody chose a weak one.
func (c *Config) maskedKey(of reflect.Type, key string, v reflect.Value, p place) *yaml.Node {
	if of == reflect.TypeFor[Token]() && key == "sha256" {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: mask}
	}
	return c.masked(v, p)
}

// under returns an endpoint's node with that of its profile under it, which may
// be nil.
func under(profile, endpoint *node) *node {
	if profile == nil || profile.kind != object {
		return endpoint
	}
	merged, err := merge(profile, endpoint)
	if err != nil { // maps always merge
		return endpoint
	}
	return merged
}

// profileNode returns where a profile was written; nil when it was nowhere.
func (c *Config) profileNode(name string) *node {
	if c.root == nil {
		return nil
	}
	if profiles := c.root.field("profiles"); profiles != nil {
		return profiles.field(name)
	}
	return nil
}

func keysOf(v reflect.Value) map[string]bool {
	keys := make(map[string]bool, v.Len())
	for _, key := range v.MapKeys() {
		keys[key.String()] = true
	}
	return keys
}

// isEmpty reports whether v stands for a key that was not given.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String, reflect.Slice, reflect.Map:
		return v.IsZero()
	case reflect.Struct:
		fields := fieldsOf(v.Type())
		return len(fields) > 0 && !slices.ContainsFunc(fields, func(f field) bool {
			return !isEmpty(v.FieldByIndex(f.Index))
		})
	}
	return false
}

// sensitiveHeader is a header whose literal value is likely a credential.
var sensitiveHeader = regexp.MustCompile(`(?i)auth|cookie|token|secret|password|api-?key`)

func maskedScalar(v reflect.Value, p place) *yaml.Node {
	if v.Type() == jsonType {
		return maskedJSON(v.String(), p)
	}
	value := plain(v)
	switch {
	case sensitiveHeader.MatchString(headerIn(p.key())) && (!p.given || p.node.source == ""):
		value = mask
	case v.Type() == reflect.TypeFor[string]() && p.given && p.node.source != "":
		value = p.node.source
	case v.Kind() == reflect.String && (!p.given || p.node.file != ""): // documents have no references
		value = strings.ReplaceAll(fmt.Sprint(value), "${", "$${")
	}
	return scalarNode(value)
}

// certainText is what YAML takes for a text without quotes.
var certainText = regexp.MustCompile(`^(?:[a-zA-Z][\w.:/@-]{4,}[\w/]|(?:\d+(?:ms|s|m|h|d|KiB|MiB|GiB))+)$`)

// scalarNode returns a scalar as the library encodes it. That makes an emitter and
// a parser for each, which is most of the time that a configuration takes: what
// nearly all scalars are is done without them.
func scalarNode(value any) *yaml.Node {
	switch v := value.(type) {
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v)}
	case int:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(v)}
	case string:
		if certainText.MatchString(v) {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v}
		}
	}
	result := &yaml.Node{}
	if err := result.Encode(value); err != nil {
		panic(fmt.Sprintf("encode %T: %v", value, err)) // plain yields scalars
	}
	return result
}

// maskedJSON returns the JSON text, which p is the origin of, with the texts
// that were written with a reference as they were written.
func maskedJSON(text string, p place) *yaml.Node {
	var b bytes.Buffer
	if p.given && p.node.written().appendJSON(&b) {
		text = b.String()
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err == nil && len(document.Content) > 0 {
		return document.Content[0]
	}
	// Nearly all JSON is YAML: a text may hold a character that YAML does not.
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

// written returns the value as a file has it, before references were expanded.
func (n *node) written() *node {
	result := *n
	switch {
	case n.source != "":
		result.text = n.source
	case n.kind == text:
		result.text = strings.ReplaceAll(n.text, "${", "$${")
	}
	result.items = nil
	for _, item := range n.items {
		result.items = append(result.items, item.written())
	}
	return &result
}

var headerKey = regexp.MustCompile(`\.headers(?:\.|\[)(.*)$`)

// headerIn returns the name of the header whose value key is; empty for another key.
func headerIn(key string) string {
	if m := headerKey.FindStringSubmatch(key); m != nil {
		return m[1]
	}
	return ""
}

// plain returns the scalar v as a file would give it, with credentials masked.
func plain(v reflect.Value) any {
	switch value := v.Interface().(type) {
	case time.Duration:
		return shortDuration(value)
	case Bytes:
		return value.String()
	case StatusRange:
		if value.First == value.Last {
			return value.First
		}
		return value.String()
	case encoding.TextMarshaler:
		text, err := value.MarshalText()
		if err != nil {
			return mask // a time beyond the year 9999
		}
		return string(text)
	default:
		return value
	}
}

// ShowEndpoint returns the configuration's endpoint i as JSON: the keys that were
// given to it, and all that it sends with, its profile's keys and defaults
// included. What [Config.Masked] does not show they do not.
func (c *Config) ShowEndpoint(i int) (own, effective []byte) {
	at := c.origin().field("endpoints").item(i)
	if !at.given {
		at.node = &node{kind: object}
	}
	written := at.node.written()
	own = maskedDocument(written).hidden(hiding(secretsOf(reflect.ValueOf(c.Endpoints[i]), false))).json()
	return own, c.effective(&c.Endpoints[i], at.node)
}

// ShowDocument returns, for an endpoint that [Config.ParseEndpoints] made of a
// document, all that it sends with, as ShowEndpoint does.
func (c *Config) ShowDocument(endpoint *Endpoint, document []byte) []byte {
	root, err := parseDocument(document)
	if err != nil {
		root = &node{kind: object}
	}
	return c.effective(endpoint, root)
}

// effective returns an endpoint that came from a node, and from its profile's,
// as JSON.
func (c *Config) effective(endpoint *Endpoint, n *node) []byte {
	at := place{path: "endpoint", node: under(c.profileNode(endpoint.ProfileName), n), given: true}
	var b bytes.Buffer
	appendYAML(&b, c.masked(reflect.ValueOf(*endpoint), at), hiding(secretsOf(reflect.ValueOf(*endpoint), false)))
	return b.Bytes()
}

// Hide returns what puts *** in the place of the endpoint's secrets, and of more
// of them, wherever a text has them. What is very short is left as it is.
func (e *Endpoint) Hide(more ...string) *strings.Replacer {
	return hiding(append(secretsOf(reflect.ValueOf(*e), false), more...))
}

// secretsOf returns what stands in v where a key says that it is secret. headers
// is whether v is a map of headers.
func secretsOf(v reflect.Value, headers bool) (all []string) {
	switch {
	case v.Type() == secretType:
		return []string{v.String()}
	case isScalar(v.Type()):
		return nil
	}
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			all = append(all, secretsOf(v.Index(i), false)...)
		}
	case reflect.Map:
		for it := v.MapRange(); headers && it.Next(); {
			if sensitiveHeader.MatchString(it.Key().String()) {
				all = append(all, it.Value().String())
			}
		}
	default:
		for _, f := range fieldsOf(v.Type()) {
			all = append(all, secretsOf(v.FieldByIndex(f.Index), f.key == "headers")...)
		}
	}
	return all
}

// hideIn makes the texts under n as hide makes them.
func hideIn(n *yaml.Node, hide *strings.Replacer) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			hideIn(n.Content[i], hide)
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			hideIn(item, hide)
		}
	default:
		n.Value = hide.Replace(n.Value)
	}
}

// appendYAML appends what masked yields as JSON, its texts as hide makes them.
func appendYAML(b *bytes.Buffer, n *yaml.Node, hide *strings.Replacer) {
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i < len(n.Content); i += 2 {
			if i > 0 {
				b.WriteByte(',')
			}
			appendString(b, n.Content[i].Value)
			b.WriteByte(':')
			appendYAML(b, n.Content[i+1], hide)
		}
		b.WriteByte('}')
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			appendYAML(b, item, hide)
		}
		b.WriteByte(']')
	default:
		switch n.Tag {
		case "!!int", "!!float", "!!bool", "!!null":
			b.WriteString(n.Value)
		default:
			appendString(b, hide.Replace(n.Value))
		}
	}
}

// HasCredentials reports whether requests to whatever URL carry credentials that
// stand in the profile: its auth's, or in a header.
func (p *Profile) HasCredentials() bool {
	if p.Auth.sent() {
		return true
	}
	for name, value := range p.Headers {
		if sensitiveHeader.MatchString(name) && !strings.Contains(value, "{{") {
			return true
		}
	}
	return false
}
