package transforms

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

func mustSchema(t testing.TB, text string) Transform {
	t.Helper()
	transform, err := NewSchema(SchemaOptions{Schemas: map[string]string{"order.created": text}})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return transform
}

// orderSchema has one of most keywords.
const orderSchema = `{
	"type": "object",
	"required": ["id", "lines"],
	"additionalProperties": false,
	"propertyNames": {"maxLength": 300},
	"properties": {
		"id": {"type": "string", "pattern": "^[a-z0-9]+$", "maxLength": 8},
		"status": {"enum": ["open", "closed"]},
		"kind": {"const": "order"},
		"gone": false,
		"contact": {"oneOf": [{"type": "string"}, {"type": "object", "required": ["mail"]}]},
		"tags": {"type": "array", "uniqueItems": true, "contains": {"const": "x"}, "maxItems": 4},
		"any": {"type": "object"},
		"mail": {"format": "email"},
		"lines": {"type": "array", "items": {
			"type": "object", "required": ["amount"],
			"properties": {"amount": {"type": "number", "minimum": 0, "multipleOf": 0.01}, "count": {"type": "integer"}},
			"unevaluatedProperties": false,
			"not": {"required": ["forbidden"]},
			"dependentRequired": {"count": ["unit"]},
			"$ref": "#/$defs/line"
		}}
	},
	"$defs": {"line": {"properties": {"unit": {"type": "string"}, "forbidden": true}}}
}`

func TestSchemaNamesPlacesAndKeywords(t *testing.T) {
	const ok = `"id": "a1", "lines": []`
	tests := []struct{ name, payload, want string }{
		{"valid", `{"id": "a1", "lines": [{"amount": 12.34, "unit": "kg", "count": 2}], "tags": ["x"], "mail": "none"}`, ``},
		{"exact multiples", `{"id": "a1", "lines": [{"amount": 12345678901234567890.12}]}`, ``},
		{"exact integers", `{"id": "a1", "lines": [{"amount": 1, "count": 12345678901234567890.0, "unit": ""}]}`, ``},
		{"type of the root", `"hunter2"`, `at the root: type`},
		{"missing", `{}`, `at /id: required; at /lines: required`},
		{"missing in a line", `{"id": "a1", "lines": [{"amount": 1}, {}]}`, `at /lines/1/amount: required`},
		{"pattern and length", `{"id": "HUNTER2hunter2", "lines": []}`, `at /id: maxLength; at /id: pattern`},
		{"minimum", `{"id": "a1", "lines": [{"amount": -0.01}]}`, `at /lines/0/amount: minimum`},
		{"multiple", `{"id": "a1", "lines": [{"amount": 0.001}]}`, `at /lines/0/amount: multipleOf`},
		{"integer", `{"id": "a1", "lines": [{"amount": 1, "unit": "", "count": 1.5}]}`, `at /lines/0/count: type`},
		{"enum", `{` + ok + `, "status": "hunter2"}`, `at /status: enum`},
		{"const", `{` + ok + `, "kind": "hunter2"}`, `at /kind: const`},
		{"false", `{` + ok + `, "gone": "hunter2"}`, `at /gone: properties`},
		{"alternatives", `{` + ok + `, "contact": {"hunter2": 1}}`, `at /contact: oneOf`},
		{"contains", `{` + ok + `, "tags": ["hunter2"]}`, `at /tags: contains`},
		{"unique", `{` + ok + `, "tags": ["x", {"a": [1, null, "b"]}, {"a": [1.0e0, null, "b"]}]}`, `at /tags: uniqueItems`},
		{"not unique by their texts alone", `{` + ok + `, "tags": ["x", "1:a", ["1:a"], "a"]}`, ``},
		{"additional", `{` + ok + `, "b": 1, "a": 2}`, `at /a: additionalProperties; at /b: additionalProperties`},
		{"unevaluated", `{"id": "a1", "lines": [{"amount": 1, "more": "hunter2"}]}`, `at /lines/0/more: unevaluatedProperties`},
		{"not", `{"id": "a1", "lines": [{"amount": 1, "forbidden": 1}]}`, `at /lines/0: not`},
		{"dependent", `{"id": "a1", "lines": [{"amount": 1, "count": 1}]}`, `at /lines/0/unit: dependentRequired`},
		{"by reference", `{"id": "a1", "lines": [{"amount": 1, "unit": 7}]}`, `at /lines/0/unit: type; at /lines/0/unit: unevaluatedProperties`},
		{"more than three, in order", `{"id": "a1", "lines": [{"amount": 1}, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]}`,
			`at /lines/1: type; at /lines/2: type; at /lines/3: type; and more`},
		{"keys of the payload", `{` + ok + `, "a/b~c\n\u0007` + strings.Repeat("é", 100) + `": 1}`,
			`at /a~1b~0c` + strings.Repeat("é", 28) + `…: additionalProperties`},
		{"names of properties", `{` + ok + `, "` + strings.Repeat("n", 301) + `": 1}`,
			`at /` + strings.Repeat("n", 64) + `…: additionalProperties; at /` + strings.Repeat("n", 64) + `…: propertyNames`},
		{"no JSON", `{"id": hunter2}`, `payload: invalid JSON at byte 7: no value begins like this`},
		{"exponent", `{"id": 1e999999999}`, `payload: a number has too many digits`},
	}
	transform := mustSchema(t, orderSchema)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 3 { // the library goes through objects in any order
				m := message(tt.payload)
				transform.Transform(t.Context(), []*Message{m})
				got := ""
				if m.Err != nil {
					got = m.Err.Error()
				}
				if got != tt.want || strings.Contains(got, secret) || IsRetryable(m.Err) || string(m.Payload) != tt.payload {
					t.Fatalf("got  %s\nwant %s", got, tt.want)
				}
			}
		})
	}
}

func TestSchemaIsOfTheTypeAsCommitted(t *testing.T) {
	transform := mustSchema(t, `false`)
	for committed, want := range map[string]string{"order.created": "at the root: false", "order.deleted": ""} {
		m := message(`1`)
		m.Committed = committed
		m.SetType("order.created")
		transform.Transform(t.Context(), []*Message{m})
		if got := fmt.Sprint(m.Err); want == "" && m.Err != nil || want != "" && got != want {
			t.Errorf("%s: got %s, want %s", committed, got, want)
		}
	}
}

func TestSchemaWarns(t *testing.T) {
	var warnings []string
	transform, err := NewSchema(SchemaOptions{
		Schemas: map[string]string{"order.created": `{"type": "object"}`},
		Warn: func(_ context.Context, m *Message, err error) {
			warnings = append(warnings, m.Event.ID+" "+err.Error())
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := message(`[1]`)
	transform.Transform(t.Context(), []*Message{m, message(`{}`)})
	if want := m.Event.ID + " at the root: type"; len(warnings) != 1 || warnings[0] != want || m.Err != nil || string(m.Payload) != `[1]` {
		t.Errorf("got %q, %v; want %q", warnings, m.Err, want)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m = message(`{}`)
	transform.Transform(ctx, []*Message{m})
	if !IsRetryable(m.Err) || !errors.Is(m.Err, context.Canceled) || len(warnings) != 1 {
		t.Errorf("got %v, %q; want the context's end", m.Err, warnings)
	}
}

func TestSchemaDrafts(t *testing.T) {
	tests := []struct{ name, schema, payload, want string }{
		{"draft 4", `{"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 5, "exclusiveMaximum": true}`, `5`, `at the root: exclusiveMaximum`},
		{"draft 6", `{"$schema": "http://json-schema.org/draft-06/schema#", "exclusiveMaximum": 5}`, `5`, `at the root: exclusiveMaximum`},
		{"draft 7 asserts formats", `{"$schema": "http://json-schema.org/draft-07/schema#", "format": "date"}`, `"hunter2"`, `at the root: format`},
		{"draft 7 dependencies", `{"$schema": "http://json-schema.org/draft-07/schema#", "dependencies": {"a": ["b"]}}`, `{"a": 1}`, `at /b: dependencies`},
		{"2019-09 does not", `{"$schema": "https://json-schema.org/draft/2019-09/schema", "format": "date"}`, `"hunter2"`, ``},
		{"2020-12 does not", `{"$schema": "https://json-schema.org/draft/2020-12/schema", "format": "date"}`, `"hunter2"`, ``},
		{"2020-12 without saying so", `{"prefixItems": [{"type": "string"}, false]}`, `[1, 2]`, `at /0: type; at /1: prefixItems`},
		{"recursive", `{"$id": "https://example.com/tree", "properties": {"next": {"$ref": "tree"}}, "required": ["v"]}`,
			`{"v": 1, "next": {"v": 2, "next": {}}}`, `at /next/next/v: required`},
		{"dynamic", `{"$id": "https://example.com/t", "$dynamicAnchor": "node", "type": "object", "properties": {"a": {"$dynamicRef": "#node"}}}`,
			`{"a": {"a": 1}}`, `at /a/a: type`},
		{"anchors", `{"$ref": "#x", "$defs": {"x": {"$anchor": "x", "type": "null"}}}`, `1`, `at the root: type`},
		{"a draft's own schema", `{"$ref": "https://json-schema.org/draft/2020-12/schema"}`, `{"type": "nope"}`, `at /type: anyOf`},
		{"content is not looked at", `{"contentMediaType": "application/json"}`, `"{"`, ``},
		{"conditions", `{"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {"required": ["c"]}}`, `{"a": 1}`, `at /b: required`},
		{"a reference to itself", `{"$ref": "#"}`, `1`, `at the root: $ref`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := apply(t, mustSchema(t, tt.schema), message(tt.payload))
			got := ""
			if m.Err != nil {
				got = m.Err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestNewSchemaFindsMistakes(t *testing.T) {
	tests := []struct{ schema, want string }{
		{`{`, `schema of order.created: invalid JSON at byte 1`},
		{`7`, `is no JSON Schema: at the root: type`},
		{`{"type": "nope"}`, `is no JSON Schema: at /type: anyOf`},
		{`{"properties": {"a": {"minLength": -1}}}`, `is no JSON Schema: at /properties/a/minLength: minimum`},
		{`{"pattern": "(?=a)"}`, `is no JSON Schema: at /pattern: format`},
		{`{"$ref": "other.json"}`, `reference to "other.json": must lead into the schema itself or to a draft's own schema`},
		{`{"$ref": "/etc/passwd"}`, `reference to "etc/passwd": must lead`},
		{`{"$ref": "file:///etc/passwd"}`, `reference to "file:///etc/passwd": must lead`},
		{`{"items": {"$ref": "https://example.com/a.json#/b"}}`, `reference to "https://example.com/a.json": must lead`},
		{`{"$id": "https://example.com/a", "$ref": "b"}`, `reference to "https://example.com/b": must lead`},
		{`{"$schema": "https://example.com/meta"}`, `reference to "https://example.com/meta": must lead`},
		{`{"$ref": "#/$defs/nope"}`, `#/$defs/nope`},
		{`{"$ref": "#nope"}`, `nope`},
		{`{"minimum": 1e9999}`, `a number has too many digits`},
		{`{"title": "` + strings.Repeat("x", maxSchema) + `"}`, `at most 1048576 are allowed`},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			_, err := NewSchema(SchemaOptions{Schemas: map[string]string{"order.created": tt.schema}})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "schema of order.created: ") {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// nested returns a value inside so many objects or arrays.
func nested(opening, value, closing string, levels int) string {
	return strings.Repeat(opening, levels) + value + strings.Repeat(closing, levels)
}

func TestSchemaChecksOfHostilePayloadsEnd(t *testing.T) {
	const twice = `{"anyOf": [{"properties": {"a": {"$ref": "#"}}, "not": {}}, {"properties": {"a": {"$ref": "#"}}, "not": true}]}`
	// All partitions of a text at its bytes 4 have one hash in the library.
	var collisions []string
	for i := range 1 << 14 {
		parts := `"`
		for bit := range 14 {
			if parts += "x"; i>>bit&1 == 0 {
				parts += `","`
			} else {
				parts += `\u0004`
			}
		}
		collisions = append(collisions, "["+parts+`"]`)
	}
	tests := []struct{ name, schema, payload, want string }{
		{"two ways at each level", twice, nested(`{"a":`, `{}`, `}`, 200), `the payload takes too many steps to be checked`},
		{"the same under if", `{"if": ` + strings.ReplaceAll(twice, `"#"`, `"#/if"`) + `}`, nested(`{"a":`, `{}`, `}`, 200), `the payload takes too many steps to be checked`},
		{"deep", `{"items": {"$ref": "#"}, "type": "array"}`, nested("[", "1", "]", 300), `at ` + strings.Repeat("/0", 150) + `/…: type`},
		{"deep and wide", `{"items": {"$ref": "#"}, "type": "array"}`, nested("[", strings.Repeat("1,", 100_000)+"1", "]", 9000),
			`violates the schema; where takes too many steps to say`},
		{"many violations", `{"items": {"type": "array"}}`, "[" + strings.Repeat("1,", 100_000) + "1]", `at /0: type; at /1: type; at /2: type; and more`},
		{"colliding elements", `{"uniqueItems": true}`, "[" + strings.Join(collisions, ",") + "]", ``},
		{"colliding numbers", `{"uniqueItems": true}`, "[1, -1, 1e400, 10e400, 1e-400, 100.0e398]", `at the root: uniqueItems`},
		{"long text for a regular expression", `{"pattern": "^(a|b|ab){500}$"}`, `"` + strings.Repeat("ab", 1<<16) + `"`,
			`a text in the payload is too long for the schema's regular expression`},
		{"long name for one", `{"patternProperties": {"^(a|b|ab){500}$": true}}`, `{"` + strings.Repeat("ab", 1<<16) + `": 1}`,
			`a text in the payload is too long for the schema's regular expression`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			compiled, err := compileSchema(tt.schema)
			if err != nil {
				t.Fatal(err)
			}
			compiled.steps = 500_000
			value, err := decodeExact([]byte(tt.payload))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			err = compiled.check(t.Context(), value)
			if err != nil {
				got = err.Error()
			}
			if got != tt.want || IsRetryable(err) {
				t.Errorf("got  %.400s\nwant %s", got, tt.want)
			}
		})
	}
}

// endless is a context that ends when it was looked at so many times.
type endless struct {
	context.Context
	left int
}

func (c *endless) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestSchemaCheckEndsWithItsContext(t *testing.T) {
	m := message("[" + strings.Repeat("1,", 100_000) + "1]")
	mustSchema(t, `{"items": {"type": "integer"}}`).Transform(&endless{t.Context(), 3}, []*Message{m})
	if !IsRetryable(m.Err) || !errors.Is(m.Err, context.Canceled) {
		t.Errorf("got %v, want the context's end, retryable", m.Err)
	}
}

func TestSchemaIsSafeForConcurrentUse(t *testing.T) {
	transform := mustSchema(t, orderSchema)
	for i := range 4 * runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			for range 50 {
				good, bad := message(`{"id": "a1", "lines": [{"amount": 1}]}`), message(`{"id": "a1", "lines": [{"amount": -1}]}`)
				transform.Transform(t.Context(), []*Message{good, bad})
				if good.Err != nil || bad.Err == nil || bad.Err.Error() != "at /lines/0/amount: minimum" {
					t.Fatalf("got %v and %v", good.Err, bad.Err)
				}
			}
		})
	}
}

func TestCanonicalNumber(t *testing.T) {
	for _, same := range [][]string{
		{"0", "-0", "0.0", "0e9", "-0.00E-7"},
		{"1", "1.0", "1e0", "10e-1", "0.1e1", "1E+0"},
		{"-120", "-1.2e2", "-12e1", "-0.0120E4"},
		{"0.001", "1e-3", "10e-4"},
	} {
		for _, text := range same {
			if got, want := canonicalNumber(text), canonicalNumber(same[0]); got != want {
				t.Errorf("%s: got %s, want %s as for %s", text, got, want, same[0])
			}
		}
	}
	seen := map[string]string{}
	for _, text := range []string{"0", "1", "-1", "10", "0.1", "11", "1.1", "101", "1e400"} {
		got := canonicalNumber(text)
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s are both %s", text, other, got)
		}
		seen[got] = text
	}
}
