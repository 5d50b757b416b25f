package admin

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// openAPISchema is the OpenAPI Initiative's schema of documents of OpenAPI 3.1,
// https://spec.openapis.org/oas/3.1/schema/2022-10-07 (Apache-2.0), as it is.
const openAPISchema = "testdata/openapi-3.1-schema.json"

// withSchemas is openAPISchema, by which a schema in the document is any object,
// and has those be schemas of JSON Schema 2020-12, in the way of
// https://spec.openapis.org/oas/3.1/schema-base/2022-10-07.
const withSchemas = `{
  "$id": "https://posthorn.test/openapi",
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "$ref": "https://spec.openapis.org/oas/3.1/schema/2022-10-07",
  "$defs": {"schema": {"$dynamicAnchor": "meta", "$ref": "https://json-schema.org/draft/2020-12/schema"}}
}`

func compileOpenAPI(t *testing.T) *jsonschema.Schema {
	t.Helper()
	official, err := os.ReadFile(openAPISchema)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for url, text := range map[string][]byte{"https://spec.openapis.org/oas/3.1/schema/2022-10-07": official, "https://posthorn.test/openapi": []byte(withSchemas)} {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource(url, v); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := c.Compile("https://posthorn.test/openapi")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// at returns what keys and indexes lead to.
func at(t *testing.T, v any, path ...any) map[string]any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			v = v.(map[string]any)[step]
		case int:
			v = v.([]any)[step]
		}
	}
	m, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("there is no object at %v", path)
	}
	return m
}

func TestDocumentIsValidByTheOfficialSchema(t *testing.T) {
	schema := compileOpenAPI(t)
	var log bytes.Buffer
	document := newTestAPI(t, &fakeControl{}, &log).document
	tests := map[string]func(d any){ // nil, and then what the schema must notice
		"as it is":              nil,
		"another version":       func(d any) { at(t, d)["openapi"] = "3.0.3" },
		"no title":              func(d any) { delete(at(t, d, "info"), "title") },
		"an unknown key":        func(d any) { at(t, d)["pathes"] = map[string]any{} },
		"a path without slash":  func(d any) { at(t, d, "paths")["live"] = map[string]any{} },
		"an unknown method":     func(d any) { at(t, d, "paths", "/live")["watch"] = map[string]any{} },
		"an unknown place":      func(d any) { at(t, d, "paths", "/live", "get", "parameters", 0)["in"] = "body" },
		"an optional path":      func(d any) { at(t, d, "paths", "/deliveries/{id}", "get", "parameters", 0)["required"] = false },
		"no description":        func(d any) { delete(at(t, d, "paths", "/live", "get", "responses", "200"), "description") },
		"no status":             func(d any) { at(t, d, "paths", "/live", "get", "responses")["ok"] = map[string]any{"description": ""} },
		"no way of security":    func(d any) { at(t, d, "components", "securitySchemes", "token")["type"] = "magic" },
		"a type of no schema":   func(d any) { at(t, d, "components", "schemas", "Delivery")["type"] = "text" },
		"a deep type of none":   func(d any) { at(t, d, "components", "schemas", "Delivery", "properties", "id")["type"] = 7 },
		"a parameter's is none": func(d any) { at(t, d, "paths", "/live", "get", "parameters", 0, "schema")["maxLength"] = -1 },
	}
	for name, breakIt := range tests {
		t.Run(name, func(t *testing.T) {
			var d any
			if err := json.Unmarshal(document, &d); err != nil {
				t.Fatal(err)
			}
			if breakIt != nil {
				breakIt(d)
			}
			if err := schema.Validate(d); (err == nil) != (breakIt == nil) {
				t.Errorf("%v", err)
			}
		})
	}
}
