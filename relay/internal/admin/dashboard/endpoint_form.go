package dashboard

import (
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/posthorn/posthorn/relay/internal/admin"
)

// formBody is the form that makes or changes an endpoint.
type formBody struct {
	Existing *admin.EndpointDetail // nil for a new one
	Groups   []group
	Events   eventChoice
	Secret   secretChoice
	Revision int64
	Key      string // of this form, as Control.Once takes it
	Problem  string // of the whole
	Sent     bool   // all problems are shown, not only those of fields that were touched
}

// eventChoice is how the form chooses events.
type eventChoice struct {
	By       string // events or objects
	Groups   []eventGroup
	All      bool // "*"
	Patterns string
	Objects  string
	Triggers map[string]bool
	Others   string // further triggers
	Problems map[string]string
}

type eventGroup struct {
	Name    string
	Pattern string // chooses all of them; "" where none does
	Chosen  bool   // by the pattern
	Types   []eventType
}

type eventType struct {
	Type, Title string
	Chosen      bool
}

type secretChoice struct{ Kind, Problem string } // generate, own or none

// eventKeys are the keys that choose events.
var eventKeys = []string{"events", "objects", "triggers"}

// usualTriggers are offered as boxes.
var usualTriggers = []string{"create", "update", "delete"}

// Path returns where the form is sent.
func (b *formBody) Path() string {
	if b.Existing == nil {
		return Base + "/endpoints/new"
	}
	return Base + "/endpoints/" + url.PathEscape(b.Existing.ID.String()) + "/edit"
}

// CheckPath returns where the form is checked as it is written.
func (b *formBody) CheckPath() string {
	if b.Existing == nil {
		return Base + "/endpoints/check"
	}
	return Base + "/endpoints/" + url.PathEscape(b.Existing.ID.String()) + "/check"
}

// Triggers returns the usual ones.
func (b *formBody) Triggers() []string { return usualTriggers }

// newForm returns the form for a document.
func (d *Dashboard) newForm(q *request, existing *admin.EndpointDetail, document map[string]any) *formBody {
	b := &formBody{Existing: existing, Groups: formGroups(d.Profiles()), Key: newFormKey(), Secret: secretChoice{Kind: "generate"}}
	if existing != nil {
		b.Revision = existing.Revision
	}
	b.onlyPortal(q)
	rest := maps.Clone(document)
	for i := range b.Groups {
		for j := range b.Groups[i].Fields {
			f := &b.Groups[i].Fields[j]
			if f.Key != "" {
				f.Value = f.normal(take(rest, f.Key))
				f.offer()
			}
		}
	}
	if _, ok := document["enabled"]; !ok {
		b.set("enabled", "true")
	}
	b.Events = d.choiceOf(rest)
	for _, key := range []string{"secret", "previous_secrets", "events", "objects", "triggers"} {
		delete(rest, key)
	}
	if len(rest) > 0 {
		text, _ := json.MarshalIndent(rest, "", "  ")
		b.set("more", string(text))
	}
	for i := range b.Groups { // what is set is seen
		for _, f := range b.Groups[i].Fields {
			b.Groups[i].Open = b.Groups[i].Open || f.Value != ""
		}
	}
	return b
}

// onlyPortal leaves out what a portal's caller may not set.
func (b *formBody) onlyPortal(q *request) {
	if !q.portal() {
		return
	}
	b.Groups = slices.DeleteFunc(b.Groups, func(g group) bool { return g.Name != "basics" && g.Name != "request" })
	for i := range b.Groups {
		b.Groups[i].Fields = slices.DeleteFunc(b.Groups[i].Fields, func(f field) bool { return !f.Portal })
	}
}

// sets reports whether the form has a key.
func (b *formBody) sets(key string) bool {
	if slices.Contains(eventKeys, key) {
		return true
	}
	for _, g := range b.Groups {
		for _, f := range g.Fields {
			if parent, _, _ := strings.Cut(f.Key, "."); parent == key {
				return true
			}
		}
	}
	return false
}

// has reports whether the form has a field for a key such as tls.verify.
func (b *formBody) has(key string) bool {
	for _, g := range b.Groups {
		if slices.ContainsFunc(g.Fields, func(f field) bool { return f.Key == key }) {
			return true
		}
	}
	return false
}

// find returns a field by its name, nil without one.
func (b *formBody) find(name string) *field {
	for i := range b.Groups {
		for j := range b.Groups[i].Fields {
			if f := &b.Groups[i].Fields[j]; f.Name == name {
				return f
			}
		}
	}
	return nil
}

func (b *formBody) set(name, value string) {
	if f := b.find(name); f != nil {
		f.Value = value
	}
}

// normal returns a value as a browser sends it back, and as it is compared: lines
// end in \n, spaces around are nothing but in code.
func (f *field) normal(value string) string {
	value = lineEnds.Replace(value)
	if f.Kind == "code" {
		return value
	}
	return strings.TrimSpace(value)
}

var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// offer makes a select show its value, though it is none of its options any more:
// a browser would take the first of them.
func (f *field) offer() {
	if f.Kind == "select" && !slices.ContainsFunc(f.Options, func(o option) bool { return o.Value == f.Value }) {
		f.Options = append(f.Options, option{f.Value, f.Value + " (the configuration has it no more)"})
	}
}

// take returns the value of a key such as retry.schedule as its field shows it,
// and takes it out of the document.
func take(document map[string]any, key string) string {
	parent, child, nested := strings.Cut(key, ".")
	if nested {
		inner, ok := document[parent].(map[string]any)
		if !ok {
			return ""
		}
		inner = maps.Clone(inner)
		text := take(inner, child)
		if document[parent] = inner; len(inner) == 0 {
			delete(document, parent)
		}
		return text
	}
	value, ok := document[key]
	delete(document, key)
	if !ok {
		return ""
	}
	switch v := value.(type) {
	case string:
		return v
	case []any:
		if len(v) == 0 {
			return "none"
		}
		return strings.Join(texts(v), ", ")
	case map[string]any:
		var lines []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			text, _ := v[name].(string)
			lines = append(lines, name+": "+text)
		}
		return strings.Join(lines, "\n")
	}
	text, _ := json.Marshal(value)
	return string(text)
}

// texts returns what is in a list as texts.
func texts(list any) []string {
	var out []string
	all, _ := list.([]any)
	for _, v := range all {
		text, ok := v.(string)
		if !ok {
			number, _ := json.Marshal(v)
			text = string(number)
		}
		out = append(out, text)
	}
	return out
}

// choiceOf returns which events a document chooses.
func (d *Dashboard) choiceOf(document map[string]any) eventChoice {
	c := eventChoice{By: "events", Triggers: map[string]bool{}, Problems: map[string]string{}}
	chosen := texts(document["events"])
	take := func(pattern string) bool {
		i := slices.Index(chosen, pattern)
		if i >= 0 {
			chosen = slices.Delete(chosen, i, i+1)
		}
		return i >= 0
	}
	c.All = take("*")
	c.Groups = groupsOf(d.Control.Catalogue())
	for i := range c.Groups {
		g := &c.Groups[i]
		g.Chosen = g.Pattern != "" && take(g.Pattern)
		for j := range g.Types {
			g.Types[j].Chosen = take(g.Types[j].Type)
		}
	}
	c.Patterns = strings.Join(chosen, "\n")
	if _, ok := document["objects"]; ok {
		c.By = "objects"
	}
	c.Objects = strings.Join(texts(document["objects"]), ", ")
	var others []string
	for _, t := range texts(document["triggers"]) {
		if c.Triggers[t] = true; !slices.Contains(usualTriggers, t) {
			others = append(others, t)
		}
	}
	c.Others = strings.Join(others, ", ")
	return c
}

// groupsOf returns the catalogue by its groups, in its order.
func groupsOf(catalogue []admin.EventType) []eventGroup {
	var groups []eventGroup
	for _, t := range catalogue {
		name := t.Group
		if name == "" {
			name, _, _ = strings.Cut(t.Type, ".")
		}
		i := slices.IndexFunc(groups, func(g eventGroup) bool { return g.Name == name })
		if i < 0 {
			i, groups = len(groups), append(groups, eventGroup{Name: name})
		}
		groups[i].Types = append(groups[i].Types, eventType{Type: t.Type, Title: t.Title})
	}
	for i := range groups {
		g := &groups[i]
		prefix, _, dotted := strings.Cut(g.Types[0].Type, ".")
		same := dotted && len(g.Types) > 1
		for _, t := range g.Types {
			same = same && strings.HasPrefix(t.Type, prefix+".")
		}
		if same {
			g.Pattern = prefix + ".*"
		}
	}
	return groups
}

// documentOf returns the endpoint that a form describes, and the form as it was
// filled in. What it shows of before, and nobody changed, is as it was there: a
// field may not tell that from something else.
func (d *Dashboard) documentOf(q *request, existing *admin.EndpointDetail, before map[string]any) (map[string]any, *formBody) {
	form := q.PostForm
	b := d.newForm(q, existing, nil)
	document := map[string]any{}
	if f := b.find("more"); f != nil {
		f.Value = form.Get("more")
		if strings.TrimSpace(f.Value) != "" && (json.Unmarshal([]byte(f.Value), &document) != nil || document == nil) {
			f.Problem, document = "is a JSON object, such as "+f.Example, map[string]any{}
		}
	}
	for i := range b.Groups {
		for j := range b.Groups[i].Fields {
			f := &b.Groups[i].Fields[j]
			if f.Name == "more" {
				continue
			}
			f.Value = f.normal(form.Get(f.Name))
			f.offer()
			if was, there := valueAt(before, f.Key); there && f.Value == f.normal(take(maps.Clone(before), f.Key)) {
				putAt(document, f.Key, was)
			} else if f.Kind != "flag" || before == nil || there || f.Value == "" {
				f.put(document)
			}
			b.Groups[i].Open = b.Groups[i].Open || f.Value != ""
		}
	}
	chooseEvents(document, form)
	for _, key := range eventKeys {
		if was, ok := before[key]; ok && sameTexts(was, document[key]) {
			document[key] = was
		}
	}
	b.Events = d.choiceOf(document)
	if existing == nil {
		b.Secret.Kind = form.Get("secret_kind")
		switch b.Secret.Kind {
		case "own":
			if document["secret"] = strings.TrimSpace(form.Get("secret")); document["secret"] == "" {
				b.Secret.Problem = "is missing: this page does not keep what was typed before"
			}
		case "none":
			document["secret"] = ""
		default:
			b.Secret.Kind = "generate"
		}
	}
	b.Revision, _ = strconv.ParseInt(form.Get("revision"), 10, 64)
	return document, b
}

// put sets the field's key in a document; what is empty stays out.
func (f *field) put(document map[string]any) {
	if f.Kind == "flag" {
		document[f.Key] = f.Value != ""
		return
	}
	if f.Value == "" {
		return
	}
	var value any = f.Value
	switch {
	case f.Kind == "number", f.Kind == "select" && (f.Value == "true" || f.Value == "false"):
		var number any
		if json.Unmarshal([]byte(f.Value), &number) == nil {
			value = number // else the check says what it has to be
		}
	case f.Kind == "list":
		list := []any{}
		if f.Value != "none" {
			list = listOf(f.Value)
		}
		value = list
	case f.Key == "headers":
		value = headersOf(f.Value)
	}
	putAt(document, f.Key, value)
}

// valueAt returns what a document has at a key such as retry.schedule.
func valueAt(document map[string]any, key string) (value any, there bool) {
	parent, child, nested := strings.Cut(key, ".")
	if value, there = document[parent]; !nested {
		return value, there
	}
	inner, _ := value.(map[string]any)
	return valueAt(inner, child)
}

// putAt sets what a document has at a key such as retry.schedule.
func putAt(document map[string]any, key string, value any) {
	path := strings.Split(key, ".")
	for _, parent := range path[:len(path)-1] {
		inner, ok := document[parent].(map[string]any)
		if !ok {
			inner = map[string]any{}
			document[parent] = inner
		}
		document = inner
	}
	document[path[len(path)-1]] = value
}

// sameTexts reports whether two lists have the same texts, in whatever order.
func sameTexts(a, b any) bool {
	return slices.Equal(slices.Sorted(slices.Values(texts(a))), slices.Sorted(slices.Values(texts(b))))
}

// listOf returns the texts between commas, spaces and line ends.
func listOf(text string) []any {
	list := []any{}
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == '\n' || r == '\r' || r == ' ' || r == '\t' }) {
		list = append(list, part)
	}
	return list
}

// headersOf returns the headers of lines as Name: value. A line without a colon
// is a name that the check refuses.
func headersOf(text string) map[string]any {
	headers := map[string]any{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return headers
}

// chooseEvents sets which events the document chooses.
func chooseEvents(document map[string]any, form url.Values) {
	if form.Get("by") == "objects" {
		document["objects"] = listOf(form.Get("objects"))
		triggers := []any{}
		for _, t := range form["trigger"] {
			triggers = append(triggers, t)
		}
		document["triggers"] = append(triggers, listOf(form.Get("triggers"))...)
		return
	}
	events := []any{}
	for _, t := range form["event"] {
		events = append(events, t)
	}
	document["events"] = append(events, listOf(form.Get("patterns"))...)
}

// show puts the problems of a check next to their fields.
func (b *formBody) show(err *admin.InvalidError) {
	for _, p := range err.Fields {
		if !b.place(p) {
			b.Problem = strings.TrimSpace(b.Problem + " " + p.Field + " " + p.Message + ".")
		}
	}
}

// Wrong returns the fields with a problem, for those who do not see them.
func (b *formBody) Wrong() (list []field) {
	for _, g := range b.Groups {
		for _, f := range g.Fields {
			if f.Problem != "" {
				list = append(list, f)
			}
		}
	}
	for _, name := range eventKeys {
		if b.Events.Problems[name] != "" {
			list = append(list, field{Name: "problem-" + name, Label: name})
		}
	}
	if b.Secret.Problem != "" {
		list = append(list, field{Name: "secret", Label: "My own secret"})
	}
	return list
}

func (b *formBody) place(p admin.FieldProblem) bool {
	key, _, _ := strings.Cut(p.Field, "[")
	if slices.Contains(eventKeys, key) {
		b.Events.Problems[key] = p.Message
		return true
	}
	if key == "secret" && b.Existing == nil {
		b.Secret.Problem = p.Message
		return true
	}
	for i := range b.Groups {
		for j := range b.Groups[i].Fields {
			f := &b.Groups[i].Fields[j]
			if f.Key != "" && (key == f.Key || strings.HasPrefix(key, f.Key+".")) {
				f.Problem = p.Message
				if inner := strings.TrimPrefix(p.Field, f.Key); strings.HasPrefix(inner, ".") {
					f.Problem = inner[1:] + " " + p.Message
				}
				b.Groups[i].Open = true
				return true
			}
		}
	}
	if f := b.find("more"); f != nil {
		f.Problem = strings.TrimSpace(f.Problem + " " + p.Field + " " + p.Message)
		b.Groups[len(b.Groups)-1].Open = true // which has it
		return true
	}
	return false
}

// difference returns the merge patch (RFC 7396) that makes after of before. What
// is masked in both is not in it. tls is taken away by its parts: some of them
// are an admin's only, and null would be about all of them.
func difference(before, after map[string]any) map[string]any {
	patch := map[string]any{}
	for key := range before {
		if _, ok := after[key]; ok || key == "secret" || key == "previous_secrets" || key == "id" {
			continue
		}
		patch[key] = nil
		if parts, ok := before[key].(map[string]any); ok && key == "tls" {
			patch[key] = difference(parts, nil)
		}
	}
	for key, value := range after {
		old, had := before[key]
		oldMap, isMap := old.(map[string]any)
		newMap, toMap := value.(map[string]any)
		switch {
		case had && reflect.DeepEqual(old, value):
		case isMap && toMap:
			patch[key] = difference(oldMap, newMap)
		default:
			patch[key] = value
		}
	}
	return patch
}

// invalidOf returns err as a form shows it, nil when it is something else.
func invalidOf(err error) *admin.InvalidError {
	var invalid *admin.InvalidError
	if errors.As(err, &invalid) {
		return invalid
	}
	return nil
}
