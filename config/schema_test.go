package config

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// covered walks a document and the schema together. It reports values that the
// schema does not allow, and keeps the properties that the document has.
type covered struct {
	t    *testing.T
	keys map[string]bool
}

func (c covered) walk(key string, value any, s map[string]any) {
	switch v := value.(type) {
	case map[string]any:
		properties, _ := s["properties"].(map[string]any)
		additional, _ := s["additionalProperties"].(map[string]any)
		types, _ := s["type"].([]any)
		for name, child := range v {
			sub, ok := properties[name].(map[string]any)
			switch {
			case ok:
				c.keys[key+"."+name] = true
				c.walk(key+"."+name, child, sub)
			case additional != nil:
				c.walk(key+".*", child, additional)
			case len(s) > 1 && !slices.Contains(types, any("object")): // not JSON as it is
				c.t.Errorf("%s.%s is not in the schema", key, name)
			}
		}
	case []any:
		if items, ok := s["items"].(map[string]any); ok {
			for _, item := range v {
				c.walk(key+"[]", item, items)
			}
		}
	default:
		c.scalar(key, value, s)
	}
}

func (c covered) scalar(key string, value any, s map[string]any) {
	options, ok := s["anyOf"].([]any)
	if !ok {
		options = []any{s}
	}
	for _, option := range options {
		if allows(option.(map[string]any), value) {
			return
		}
	}
	c.t.Errorf("%s: the schema %v does not allow %v", key, s, value)
}

func allows(s map[string]any, value any) bool {
	if enum, ok := s["enum"].([]any); ok {
		return slices.Contains(enum, value)
	}
	types, ok := s["type"].([]any)
	if !ok && s["type"] != nil {
		types = []any{s["type"]}
	}
	switch v := value.(type) {
	case string:
		pattern, _ := s["pattern"].(string)
		return (types == nil || slices.Contains(types, any("string"))) && regexp.MustCompile(pattern).MatchString(v)
	case float64:
		least, hasLeast := s["minimum"].(float64)
		most, hasMost := s["maximum"].(float64)
		numeric := types == nil || slices.Contains(types, any("number")) || slices.Contains(types, any("integer"))
		return numeric && (!hasLeast || v >= least) && (!hasMost || v <= most)
	case bool:
		return types == nil || slices.Contains(types, any("boolean"))
	default:
		return types == nil
	}
}

// properties returns every property of the schema by its key.
func properties(key string, s map[string]any, into map[string]map[string]any) {
	for _, within := range []string{"items", "additionalProperties"} {
		if sub, ok := s[within].(map[string]any); ok {
			properties(key+map[string]string{"items": "[]", "additionalProperties": ".*"}[within], sub, into)
		}
	}
	children, _ := s["properties"].(map[string]any)
	for name, child := range children {
		sub := child.(map[string]any)
		into[key+"."+name] = sub
		properties(key+"."+name, sub, into)
	}
}

func TestTheSchemaIsWhatLoadReads(t *testing.T) {
	var s map[string]any
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/full.json")
	if err != nil {
		t.Fatal(err)
	}
	var full map[string]any
	if err := json.Unmarshal(text, &full); err != nil {
		t.Fatal(err)
	}
	c := covered{t: t, keys: make(map[string]bool)}
	c.walk("", full, s)

	all := make(map[string]map[string]any)
	properties("", s, all)
	for key, property := range all {
		if description, _ := property["description"].(string); description == "" {
			t.Errorf("%s has no description", key)
		}
		// An endpoint's profile keys are those of .profiles.*, which the sample has in full.
		name := strings.TrimPrefix(key, ".endpoints[]")
		if !c.keys[key] && !c.keys[".profiles.*"+name] {
			t.Errorf("%s is in the schema and not in the full sample", key)
		}
	}
	if s["$schema"] != "https://json-schema.org/draft/2020-12/schema" || s["additionalProperties"] != false {
		t.Errorf("got $schema %v, additionalProperties %v", s["$schema"], s["additionalProperties"])
	}
	if got := all[".profiles.*.timeout"]["default"]; got != "15s" {
		t.Errorf("default of a profile's timeout: got %v", got)
	}
	for key, want := range map[string]any{
		".plugins.*.timeout": "1s", ".plugins.*.start_timeout": "10s", ".plugins.*.instances": 1.0, ".plugins.*.batch": 256.0,
		".plugins.*.max_message": "16MiB", ".transforms[].redact.mode": "mask", ".transforms[].redact.mask": "***",
	} {
		if got := all[key]["default"]; got != want {
			t.Errorf("default of %s: got %v, want %v", key, got, want)
		}
	}
	kinds := s["properties"].(map[string]any)["transforms"].(map[string]any)["items"].(map[string]any)["oneOf"].([]any)
	if len(kinds) != 11 {
		t.Errorf("got %d kinds of transforms: %v", len(kinds), kinds)
	}
	if got := all[".endpoints[].enabled"]["default"]; got != true {
		t.Errorf("default of an endpoint's enabled: got %v", got)
	}
}

func TestTheSchemaRefusesWhatLoadRefuses(t *testing.T) {
	var s map[string]any
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]map[string]any)
	properties("", s, all)
	tests := []struct {
		key   string
		value any
		want  bool
	}{
		{".stop_timeout", "8s", true}, {".stop_timeout", "1h2m3.5s", true}, {".stop_timeout", "${X}", true}, {".stop_timeout", 0.0, true},
		{".stop_timeout", "8", false}, {".stop_timeout", 8.0, false}, {".stop_timeout", "7d", false},
		{".source.buffer", "16MiB", true}, {".source.buffer", 1e6, true}, {".source.buffer", "16mb", false},
		{".profiles.*.concurrency", 0.0, false}, {".profiles.*.concurrency", "16", false}, {".profiles.*.concurrency", "${N}", true},
		{".profiles.*.retry.stop_on[]", 404.0, true}, {".profiles.*.retry.stop_on[]", "4xx", true}, {".profiles.*.retry.stop_on[]", "404", true},
		{".profiles.*.retry.stop_on[]", 204.0, false}, {".profiles.*.retry.stop_on[]", "2xx", false}, {".profiles.*.retry.stop_on[]", 600.0, false},
		{".profiles.*.tls.min_version", "1.3", true}, {".profiles.*.tls.min_version", 1.3, false}, {".profiles.*.json", "stringify", true},
		{".profiles.*.signatures[].scheme", "http-message", true}, {".profiles.*.pause.consecutive_failures", -1.0, false},
		{".plugins.*.max_message", "16MiB", true}, {".plugins.*.instances", 0.0, false}, {".plugins.*.batch", 10001.0, false},
		{".plugins.*.env.*", "a", true}, {".plugins.*.env.*", 1.0, false}, {".transforms[].set.*", 1.0, true}, {".transforms[].set.*", true, true},
		{".transforms[].schema", "reject", true}, {".transforms[].schema", "ignore", false}, {".transforms[].redact.mode", "hash", true},
		{".transforms[].remove[]", "a", true}, {".transforms[].rename.*", 1.0, false},
		{".events[].schema", "a.json", true}, {".events[].schema", 1.0, false}, {".events[].schema", true, false},
		{".profiles.*.method", "GET", false}, {".endpoints[].enabled", "yes", false}, {".endpoints[].name", 5.0, false},
	}
	for _, tt := range tests {
		key, isItem := strings.CutSuffix(tt.key, "[]")
		s := all[key]
		if isItem {
			s = s["items"].(map[string]any)
		}
		if parent, isMap := strings.CutSuffix(tt.key, ".*"); isMap {
			s = all[parent]["additionalProperties"].(map[string]any)
		}
		options, ok := s["anyOf"].([]any)
		if !ok {
			options = []any{s}
		}
		got := slices.ContainsFunc(options, func(o any) bool { return allows(o.(map[string]any), tt.value) })
		if got != tt.want {
			t.Errorf("%s: %v: got %t, want %t", tt.key, tt.value, got, tt.want)
		}
	}
}
