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
	"sync"
	"time"
)

var (
	configType    = reflect.TypeFor[Config]()
	durationType  = reflect.TypeFor[time.Duration]()
	timeType      = reflect.TypeFor[time.Time]()
	prefixType    = reflect.TypeFor[netip.Prefix]()
	bytesType     = reflect.TypeFor[Bytes]()
	jsonType      = reflect.TypeFor[JSON]()
	secretType    = reflect.TypeFor[Secret]()
	statusType    = reflect.TypeFor[StatusRange]()
	endpointsType = reflect.TypeFor[[]Endpoint]()
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

// field is a field of a struct that has a key.
type field struct {
	reflect.StructField
	key      string
	required bool
}

// fields are those of the structs that were asked for, []field by their type.
var fields sync.Map

// fieldsOf returns the fields of t that have a key, those of an embedded
// struct included.
func fieldsOf(t reflect.Type) []field {
	if known, ok := fields.Load(t); ok {
		return known.([]field)
	}
	var found []field
	for _, f := range reflect.VisibleFields(t) {
		if key := f.Tag.Get("koanf"); key != "" && !f.Anonymous {
			found = append(found, field{f, key, f.Tag.Get("required") != ""})
		}
	}
	fields.Store(t, found)
	return found
}

func fieldOf(t reflect.Type, key string) (field, bool) {
	for _, f := range fieldsOf(t) {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

// reader checks documents against the types of Config and sets the values that
// they give.
type reader struct {
	problems *problems
	// whole is whether all of an object stands in this document: true in lists,
	// which are not merged.
	whole bool
}

// read sets v to what p gives, of which tag is the field's: maps are merged
// with what is in v, all else is replaced. It reports false, and leaves v
// alone, when nothing is given there, or nothing that can be used.
func (r reader) read(p place, v reflect.Value, tag reflect.StructTag) bool {
	t := v.Type()
	if t == jsonType {
		return r.json(p, v, tag)
	}
	if isScalar(t) {
		return r.scalar(p, v, tag)
	}
	if p.node.kind == null {
		return false // a heading with nothing under it
	}
	want := object
	if t.Kind() == reflect.Slice {
		want = list
	}
	if p.node.kind != want {
		r.problems.add(p, "must be %v, got %v", want, p.node.kind)
		return false
	}
	switch t.Kind() {
	case reflect.Slice:
		r.list(p, v, tag)
	case reflect.Map:
		r.mapping(p, v, tag)
	default:
		r.object(p, v)
	}
	return true
}

func (r reader) object(p place, v reflect.Value) {
	r.fields(p, v)
	r.unknown(p, v.Type())
}

// fields reads the fields of a struct, but for lists of endpoints, which wait
// for the profiles of all documents.
func (r reader) fields(p place, v reflect.Value) {
	for _, f := range fieldsOf(v.Type()) {
		child := p.node.field(f.key)
		switch {
		case child == nil:
			if r.whole && f.required {
				r.problems.add(p.field(f.key), "is required")
			}
		case f.Type != endpointsType:
			r.read(p.field(f.key), v.FieldByIndex(f.Index), f.Tag)
		}
	}
}

// unknown reports the keys at p that the struct type t does not have.
func (r reader) unknown(p place, t reflect.Type) {
	for _, name := range p.node.names {
		if _, ok := fieldOf(t, name); ok {
			continue
		}
		known := fieldsOf(t)
		names := make([]string, len(known))
		for i, f := range known {
			names[i] = f.key
		}
		r.known(p.field(name), name, names)
	}
}

// known reports name at p unless it is one of names.
func (r reader) known(p place, name string, names []string) {
	if slices.Contains(names, name) {
		return
	}
	suggestion := ""
	for _, candidate := range names {
		if closeTo(candidate, name) {
			suggestion = fmt.Sprintf("; did you mean %q?", candidate)
		}
	}
	r.problems.add(p, "unknown key%s", suggestion)
}

// mapping puts what p gives into a map of its own: v's may be another's too.
func (r reader) mapping(p place, v reflect.Value, tag reflect.StructTag) {
	values := reflect.MakeMapWithSize(v.Type(), v.Len()+len(p.node.names))
	for it := v.MapRange(); it.Next(); {
		values.SetMapIndex(it.Key(), it.Value())
	}
	v.Set(values)
	elem := v.Type().Elem()
	for _, name := range p.node.names {
		at := p.field(name)
		if keys := tag.Get("keys"); keys != "" {
			r.known(at, name, strings.Split(keys, ","))
		}
		if tag.Get("paths") != "" && at.node.kind == object {
			r.problems.add(at, "must be %s, got %v: quote a path with dots", wanted(elem), object)
			continue
		}
		key, value := reflect.ValueOf(name), reflect.New(elem).Elem()
		if earlier := values.MapIndex(key); earlier.IsValid() {
			value.Set(earlier)
		} else {
			value.Set(startOf(elem))
		}
		// A name with nothing under it: all defaults.
		if defaults := at.node.kind == null && elem.Kind() == reflect.Struct; defaults || r.read(at, value, tag) {
			values.SetMapIndex(key, value)
		}
	}
}

// list sets v to as many elements as the list has, so that indexes stay true
// where one cannot be used.
func (r reader) list(p place, v reflect.Value, tag reflect.StructTag) {
	if most, err := strconv.Atoi(tag.Get("maxitems")); err == nil && len(p.node.items) > most {
		r.problems.add(p, "must have at most %d entries, got %d", most, len(p.node.items))
	}
	r.whole = true
	v.Set(reflect.MakeSlice(v.Type(), len(p.node.items), len(p.node.items)))
	for i := range p.node.items {
		r.read(r.item(p, i), v.Index(i), tag)
	}
}

// item returns the place of a list's element, and reports one without a value.
func (r reader) item(p place, i int) place {
	at := p.item(i)
	if at.node.kind == null {
		r.problems.add(at, "has no value")
	}
	return at
}

func (r reader) json(p place, v reflect.Value, tag reflect.StructTag) bool {
	if allowed := tag.Get("kinds"); allowed != "" {
		kinds := strings.Split(allowed, ",")
		if got := p.node.kind.String(); !slices.Contains(kinds, got) {
			r.problems.add(p, "must be %s, got %s", oneOf(kinds), got)
			return false
		}
	}
	var b bytes.Buffer
	if !p.node.appendJSON(&b) {
		r.problems.add(p, "holds a number that JSON cannot write")
		return false
	}
	v.SetString(b.String())
	return true
}

func (r reader) scalar(p place, v reflect.Value, tag reflect.StructTag) bool {
	t := v.Type()
	switch p.node.kind {
	case null:
		r.problems.add(p, "has no value")
		return false
	case list, object:
		r.problems.add(p, "must be %s, got %v", wanted(t), p.node.kind)
		return false
	}
	switch {
	case t == durationType:
		return r.duration(p, v, tag)
	case t == bytesType:
		return r.bytes(p, v, tag)
	case t.Kind() == reflect.Struct:
		return r.parsed(p, v)
	case t.Kind() == reflect.String:
		return r.text(p, v, tag)
	case t.Kind() == reflect.Bool:
		return r.boolean(p, v)
	case t.Kind() == reflect.Int:
		return r.integer(p, v, tag)
	default:
		return r.float(p, v, tag)
	}
}

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

func (r reader) reject(p place, t reflect.Type) bool {
	r.problems.add(p, "must be %s, got %s", wanted(t), shown(p.node))
	return false
}

// text reads into a value of a string type.
func (r reader) text(p place, v reflect.Value, tag reflect.StructTag) bool {
	if p.node.kind != text {
		r.problems.add(p, "is %v where text is expected: quote it", p.node.kind)
		return false
	}
	if v.Type() == secretType && p.node.text == "" {
		r.problems.add(p, "is empty; leave the key out for none")
		return false
	}
	if allowed := tag.Get("enum"); allowed != "" {
		if names := strings.Split(allowed, ","); !slices.Contains(names, p.node.text) {
			r.problems.add(p, "must be %s, got %s", oneOf(names), shown(p.node))
			return false
		}
	}
	v.SetString(p.node.text)
	return true
}

// oneOf lists two or more names: a, b or c.
func oneOf(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

func (r reader) boolean(p place, v reflect.Value) bool {
	if p.node.kind == boolean || p.node.loose {
		switch p.node.text {
		case "true", "false":
			v.SetBool(p.node.text == "true")
			return true
		}
	}
	return r.reject(p, v.Type())
}

// parsed reads a text into a value whose type does so itself.
func (r reader) parsed(p place, v reflect.Value) bool {
	value := reflect.New(v.Type())
	parser, ok := value.Interface().(encoding.TextUnmarshaler)
	written := p.node.kind == text || p.node.kind == date || p.node.kind == number && v.Type() == statusType
	if !ok || !written || parser.UnmarshalText([]byte(p.node.text)) != nil {
		return r.reject(p, v.Type())
	}
	v.Set(value.Elem())
	return true
}

func (r reader) duration(p place, v reflect.Value, tag reflect.StructTag) bool {
	d, err := time.ParseDuration(p.node.text)
	if err != nil || p.node.kind != text && p.node.text != "0" {
		return r.reject(p, durationType)
	}
	least, _ := time.ParseDuration(tag.Get("min"))
	most, _ := time.ParseDuration(tag.Get("max"))
	if !inBounds(r, p, tag, d, least, most, shortDuration(d)) {
		return false
	}
	v.SetInt(int64(d))
	return true
}

func (r reader) bytes(p place, v reflect.Value, tag reflect.StructTag) bool {
	size, ok := parseBytes(p.node.text)
	if !ok || p.node.kind != text && p.node.kind != number {
		return r.reject(p, bytesType)
	}
	least, _ := parseBytes(tag.Get("min"))
	most, _ := parseBytes(tag.Get("max"))
	if !inBounds(r, p, tag, size, least, most, size.String()) {
		return false
	}
	v.SetInt(int64(size))
	return true
}

func (r reader) integer(p place, v reflect.Value, tag reflect.StructTag) bool {
	value, _ := parseNumber(p.node.text)
	n, ok := value.(int64)
	if !ok || p.node.kind != number && !p.node.loose {
		return r.reject(p, v.Type())
	}
	least, _ := strconv.ParseInt(tag.Get("min"), 10, 64)
	most, _ := strconv.ParseInt(tag.Get("max"), 10, 64)
	if !inBounds(r, p, tag, n, least, most, strconv.FormatInt(n, 10)) {
		return false
	}
	v.SetInt(n)
	return true
}

func (r reader) float(p place, v reflect.Value, tag reflect.StructTag) bool {
	value, ok := parseNumber(p.node.text)
	if !ok || p.node.kind != number && !p.node.loose {
		return r.reject(p, v.Type())
	}
	f, isFloat := value.(float64)
	if n, isInt := value.(int64); isInt && !isFloat {
		f = float64(n)
	}
	least, _ := strconv.ParseFloat(tag.Get("min"), 64)
	most, _ := strconv.ParseFloat(tag.Get("max"), 64)
	if !inBounds(r, p, tag, f, least, most, strconv.FormatFloat(f, 'g', -1, 64)) {
		return false
	}
	v.SetFloat(f)
	return true
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

// decode reads documents, later ones over earlier ones, over the defaults.
func (r reader) decode(documents []*node) *Config {
	cfg := Default()
	v := reflect.ValueOf(cfg).Elem()
	for _, document := range documents {
		r.fields(top(document), v)
	}
	for name, profile := range cfg.Profiles {
		profile.complete()
		cfg.Profiles[name] = profile
	}
	for _, document := range documents {
		if at := top(document).field("endpoints"); at.given {
			r.endpoints(at, cfg)
		}
		r.unknown(top(document), configType)
	}
	cfg.completeTransforms()
	if cfg.Database.ReplicationURL == "" {
		cfg.Database.ReplicationURL = cfg.Database.URL
	}
	if cfg.Ledger.URL == "" {
		cfg.Ledger.URL = cfg.Database.URL
	}
	return cfg
}
