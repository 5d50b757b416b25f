package config

import (
	"bytes"
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// delimiter separates the levels of a koanf path. No key holds it: keys are printable.
const delimiter = "\x00"

var (
	configType   = reflect.TypeFor[Config]()
	durationType = reflect.TypeFor[time.Duration]()
	timeType     = reflect.TypeFor[time.Time]()
	prefixType   = reflect.TypeFor[netip.Prefix]()
	bytesType    = reflect.TypeFor[Bytes]()
	jsonType     = reflect.TypeFor[JSON]()
	secretType   = reflect.TypeFor[Secret]()
	statusType   = reflect.TypeFor[StatusRange]()
)

// isScalar reports whether a value of type t is written as one text, number or boolean.
func isScalar(t reflect.Type) bool {
	switch t {
	case timeType, prefixType, statusType:
		return true
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice:
		return false
	}
	return true
}

// fieldsOf returns the fields of t that have a key, those of an embedded
// struct included.
func fieldsOf(t reflect.Type) []reflect.StructField {
	var fields []reflect.StructField
	for _, f := range reflect.VisibleFields(t) {
		if key := f.Tag.Get("koanf"); key != "" && !f.Anonymous {
			fields = append(fields, f)
		}
	}
	return fields
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for _, f := range fieldsOf(t) {
		if f.Tag.Get("koanf") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// reader checks documents against the types of Config and turns them into
// the nested maps that koanf merges. Values already have the type of their
// field, but for those that read themselves from text.
type reader struct {
	problems *problems
	// whole is whether all of an object stands in this document: true in lists,
	// which are not merged.
	whole bool
}

// read returns the value at p for a field of type t with the given tag. It
// reports false when nothing is given there, or nothing that can be used.
func (r reader) read(p place, t reflect.Type, tag reflect.StructTag) (any, bool) {
	if t == jsonType {
		return r.json(p, tag)
	}
	if isScalar(t) {
		return r.scalar(p, t, tag)
	}
	if p.node.kind == null {
		return nil, false // a heading with nothing under it
	}
	want := object
	if t.Kind() == reflect.Slice {
		want = list
	}
	if p.node.kind != want {
		r.problems.add(p, "must be %v, got %v", want, p.node.kind)
		return nil, false
	}
	switch t.Kind() {
	case reflect.Slice:
		return r.list(p, t, tag), true
	case reflect.Map:
		return r.mapping(p, t, tag), true
	default:
		return r.object(p, t), true
	}
}

func (r reader) object(p place, t reflect.Type) map[string]any {
	values := make(map[string]any)
	fields := fieldsOf(t)
	known := make([]string, len(fields))
	for i, f := range fields {
		name := f.Tag.Get("koanf")
		known[i] = name
		at := p.field(name)
		if !at.given {
			if r.whole && f.Tag.Get("required") != "" {
				r.problems.add(at, "is required")
			}
			continue
		}
		if value, ok := r.read(at, f.Type, f.Tag); ok {
			values[name] = value
		}
	}
	for _, name := range p.node.names {
		r.known(p.field(name), name, known)
	}
	return values
}

// known reports name at p unless it is one of names.
func (r reader) known(p place, name string, names []string) {
	suggestion := ""
	for _, candidate := range names {
		if candidate == name {
			return
		}
		if closeTo(candidate, name) {
			suggestion = fmt.Sprintf("; did you mean %q?", candidate)
		}
	}
	r.problems.add(p, "unknown key%s", suggestion)
}

func (r reader) mapping(p place, t reflect.Type, tag reflect.StructTag) map[string]any {
	values := make(map[string]any)
	for _, name := range p.node.names {
		at := p.field(name)
		if keys := tag.Get("keys"); keys != "" {
			r.known(at, name, strings.Split(keys, ","))
		}
		if at.node.kind == null && t.Elem().Kind() == reflect.Struct {
			values[name] = map[string]any{} // a name with nothing under it: all defaults
			continue
		}
		if tag.Get("paths") != "" && at.node.kind == object {
			r.problems.add(at, "must be %s, got %v: quote a path with dots", wanted(t.Elem()), object)
			continue
		}
		if value, ok := r.read(at, t.Elem(), tag); ok {
			values[name] = value
		}
	}
	return values
}

// list returns as many elements as the list has, so that indexes stay true
// where one cannot be used.
func (r reader) list(p place, t reflect.Type, tag reflect.StructTag) []any {
	if most, err := strconv.Atoi(tag.Get("maxitems")); err == nil && len(p.node.items) > most {
		r.problems.add(p, "must have at most %d entries, got %d", most, len(p.node.items))
	}
	r.whole = true
	values := make([]any, len(p.node.items))
	for i, item := range p.node.items {
		at := p.item(i)
		if item.kind == null {
			r.problems.add(at, "has no value")
		}
		value, ok := r.read(at, t.Elem(), tag)
		if !ok && isScalar(t.Elem()) {
			value = reflect.Zero(t.Elem()).Interface()
		} else if !ok {
			value = map[string]any{}
		}
		values[i] = value
	}
	return values
}

func (r reader) json(p place, tag reflect.StructTag) (any, bool) {
	if allowed := tag.Get("kinds"); allowed != "" {
		kinds := strings.Split(allowed, ",")
		if got := p.node.kind.String(); !slices.Contains(kinds, got) {
			r.problems.add(p, "must be %s, got %s", oneOf(kinds), got)
			return nil, false
		}
	}
	var b bytes.Buffer
	if !p.node.appendJSON(&b) {
		r.problems.add(p, "holds a number that JSON cannot write")
		return nil, false
	}
	return JSON(b.String()), true
}

func (r reader) scalar(p place, t reflect.Type, tag reflect.StructTag) (any, bool) {
	switch p.node.kind {
	case null:
		r.problems.add(p, "has no value")
		return nil, false
	case list, object:
		r.problems.add(p, "must be %s, got %v", wanted(t), p.node.kind)
		return nil, false
	}
	switch {
	case t == durationType:
		return r.duration(p, tag)
	case t == bytesType:
		return r.bytes(p, tag)
	case reflect.PointerTo(t).Implements(textUnmarshaler):
		return r.parsed(p, t)
	case t.Kind() == reflect.String:
		return r.text(p, t, tag)
	case t.Kind() == reflect.Bool:
		return r.boolean(p)
	case t.Kind() == reflect.Int:
		return r.integer(p, tag)
	default:
		return r.float(p, tag)
	}
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// wanted says what a value of type t is written as.
func wanted(t reflect.Type) string {
	switch {
	case t == durationType:
		return "a duration such as 30s or 168h"
	case t == bytesType:
		return "a size such as 16MiB"
	case t == prefixType:
		return "a CIDR such as 10.0.0.0/8"
	case t == timeType:
		return "a time such as 2026-12-01T00:00:00Z"
	case t == statusType:
		return "a status code of 300 to 599, 3xx, 4xx or 5xx"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int:
		return "a whole number"
	case t.Kind() == reflect.Float64:
		return "a number"
	default:
		return "text"
	}
}

// shown is the value at n as a message may print it: one that came through a
// reference only by its name.
func shown(n *node) string {
	switch {
	case n.source != "":
		return "the value of " + strconv.Quote(n.source)
	case n.kind == text && len(n.text) > 64:
		return strconv.Quote(strings.ToValidUTF8(n.text[:64], "")) + "…"
	case n.kind == text:
		return strconv.Quote(n.text)
	default:
		return n.text
	}
}

func (r reader) reject(p place, t reflect.Type) (any, bool) {
	r.problems.add(p, "must be %s, got %s", wanted(t), shown(p.node))
	return nil, false
}

// text reads into the string type t.
func (r reader) text(p place, t reflect.Type, tag reflect.StructTag) (any, bool) {
	if p.node.kind != text {
		r.problems.add(p, "is %v where text is expected: quote it", p.node.kind)
		return nil, false
	}
	value := p.node.text
	if t == secretType && value == "" {
		r.problems.add(p, "is empty; leave the key out for none")
		return nil, false
	}
	if allowed := tag.Get("enum"); allowed != "" {
		if names := strings.Split(allowed, ","); !slices.Contains(names, value) {
			r.problems.add(p, "must be %s, got %s", oneOf(names), shown(p.node))
			return nil, false
		}
	}
	return reflect.ValueOf(value).Convert(t).Interface(), true
}

// oneOf lists two or more names: a, b or c.
func oneOf(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

func (r reader) boolean(p place) (any, bool) {
	if p.node.kind == boolean || p.node.loose {
		switch p.node.text {
		case "true":
			return true, true
		case "false":
			return false, true
		}
	}
	return r.reject(p, reflect.TypeFor[bool]())
}

// parsed checks a text that its type reads itself, and leaves reading it to koanf.
func (r reader) parsed(p place, t reflect.Type) (any, bool) {
	value, _ := reflect.New(t).Interface().(encoding.TextUnmarshaler)
	written := p.node.kind == text || p.node.kind == date || p.node.kind == number && t == statusType
	if !written || value.UnmarshalText([]byte(p.node.text)) != nil {
		return r.reject(p, t)
	}
	return p.node.text, true
}

func (r reader) duration(p place, tag reflect.StructTag) (any, bool) {
	d, err := time.ParseDuration(p.node.text)
	if err != nil || p.node.kind != text && p.node.text != "0" {
		return r.reject(p, durationType)
	}
	least, _ := time.ParseDuration(tag.Get("min"))
	most, _ := time.ParseDuration(tag.Get("max"))
	return d, inBounds(r, p, tag, d, least, most, shortDuration(d))
}

func (r reader) bytes(p place, tag reflect.StructTag) (any, bool) {
	size, ok := parseBytes(p.node.text)
	if !ok || p.node.kind != text && p.node.kind != number {
		return r.reject(p, bytesType)
	}
	least, _ := parseBytes(tag.Get("min"))
	most, _ := parseBytes(tag.Get("max"))
	return size, inBounds(r, p, tag, size, least, most, size.String())
}

func (r reader) integer(p place, tag reflect.StructTag) (any, bool) {
	value, _ := parseNumber(p.node.text)
	n, ok := value.(int64)
	if !ok || p.node.kind != number && !p.node.loose {
		return r.reject(p, reflect.TypeFor[int]())
	}
	least, _ := strconv.ParseInt(tag.Get("min"), 10, 64)
	most, _ := strconv.ParseInt(tag.Get("max"), 10, 64)
	return int(n), inBounds(r, p, tag, n, least, most, strconv.FormatInt(n, 10))
}

func (r reader) float(p place, tag reflect.StructTag) (any, bool) {
	value, ok := parseNumber(p.node.text)
	if !ok || p.node.kind != number && !p.node.loose {
		return r.reject(p, reflect.TypeFor[float64]())
	}
	f, isFloat := value.(float64)
	if n, isInt := value.(int64); isInt && !isFloat {
		f = float64(n)
	}
	least, _ := strconv.ParseFloat(tag.Get("min"), 64)
	most, _ := strconv.ParseFloat(tag.Get("max"), 64)
	return f, inBounds(r, p, tag, f, least, most, strconv.FormatFloat(f, 'g', -1, 64))
}

// inBounds reports whether value is within the min and max of tag, of which
// least and most are the parsed values, and adds a problem when it is not.
func inBounds[T time.Duration | Bytes | int64 | float64](r reader, p place, tag reflect.StructTag, value, least, most T, got string) bool {
	lower, upper := tag.Get("min"), tag.Get("max")
	if (lower == "" || value >= least) && (upper == "" || value <= most) {
		return true
	}
	if p.node.source != "" {
		got = shown(p.node)
	}
	want := lower + " to " + upper
	if upper == "" {
		want = "at least " + lower
	}
	r.problems.add(p, "must be %s, got %s", want, got)
	return false
}

// closeTo reports whether typed is probably a misspelling of name: one edit
// away, or two in a long one, where swapping two neighbours is one edit.
func closeTo(name, typed string) bool {
	limit := 1
	if len(name) > 5 {
		limit = 2
	}
	if len(typed) > len(name)+limit {
		return false
	}
	rows := make([][]int, len(typed)+1)
	for i := range rows {
		rows[i] = make([]int, len(name)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(typed); i++ {
		for j := 1; j <= len(name); j++ {
			cost := 1
			if typed[i-1] == name[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && typed[i-1] == name[j-2] && typed[i-2] == name[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(typed)][len(name)] <= limit
}

// decode merges the layers, later ones over earlier ones, over the defaults.
func decode(layers []map[string]any) (*Config, error) {
	k := koanf.New(delimiter)
	for _, layer := range layers {
		if err := k.Load(confmap.Provider(layer, ""), nil); err != nil {
			return nil, fmt.Errorf("merge configuration: %w", err)
		}
	}
	cfg := Default()
	if err := k.Unmarshal("", cfg); err != nil {
		return nil, fmt.Errorf("decode configuration: %w", err)
	}
	for name := range cfg.Profiles {
		profile := DefaultProfile()
		if err := k.Unmarshal("profiles"+delimiter+name, &profile); err != nil {
			return nil, fmt.Errorf("decode profile: %w", err)
		}
		profile.complete()
		cfg.Profiles[name] = profile
	}
	if err := decodeEndpoints(k, cfg); err != nil {
		return nil, err
	}
	if err := decodeTransforms(k, cfg); err != nil {
		return nil, err
	}
	if cfg.Database.ReplicationURL == "" {
		cfg.Database.ReplicationURL = cfg.Database.URL
	}
	if cfg.Ledger.URL == "" {
		cfg.Ledger.URL = cfg.Database.URL
	}
	return cfg, nil
}
