package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Patterns of the schema. A value of any type may be a text with a reference
// in it, which only reading the file can check.
const (
	referencePattern = `\$\{`
	durationPattern  = `^0$|^([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))*$`
	statusPattern    = `^[3-5](xx|[0-9]{2})$`
	sizePattern      = `^[0-9]{1,18} ?(KiB|MiB|GiB|KB|MB|GB)?$`
)

// schema is one JSON Schema, as far as this package writes them.
type schema map[string]any

// Schema returns the JSON Schema (draft 2020-12) of a configuration file, for
// editors. It comes from the types that Load reads with: the same keys,
// values, bounds and defaults.
func Schema() []byte {
	defaults := reflect.ValueOf(*Default())
	root := structSchema(configType, defaults)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Posthorn configuration"
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("marshal schema: %v", err)) // maps, slices and scalars always marshal
	}
	return append(text, '\n')
}

// structSchema returns the schema of the struct type t, whose values begin as defaults.
func structSchema(t reflect.Type, defaults reflect.Value) schema {
	properties := schema{}
	var required []string
	for _, f := range fieldsOf(t) {
		name := f.key
		property := typeSchema(f.Type, f.Tag, defaults.FieldByIndex(f.Index))
		property["description"] = f.Tag.Get("doc")
		if value, ok := defaultOf(defaults.FieldByIndex(f.Index)); ok {
			property["default"] = value
		}
		properties[name] = property
		if f.required {
			required = append(required, name)
		}
	}
	result := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if required != nil {
		result["required"] = required
	}
	if t == reflect.TypeFor[Transform]() {
		var kinds []schema
		for _, kind := range kindsOfTransform() {
			kinds = append(kinds, schema{"required": []string{kind}})
		}
		result["oneOf"] = kinds
	}
	return result
}

// startOf returns what a value of type t is before its keys are read.
func startOf(t reflect.Type) reflect.Value {
	switch t {
	case reflect.TypeFor[Profile]():
		return reflect.ValueOf(DefaultProfile())
	case reflect.TypeFor[Endpoint]():
		return reflect.ValueOf(defaultEndpoint())
	case reflect.TypeFor[Plugin]():
		return reflect.ValueOf(defaultPlugin())
	case reflect.TypeFor[Transform]():
		return reflect.ValueOf(Transform{Redact: defaultRedact()})
	default:
		return reflect.Zero(t)
	}
}

func typeSchema(t reflect.Type, tag reflect.StructTag, value reflect.Value) schema {
	if t == jsonType {
		return jsonSchema(tag)
	}
	if isScalar(t) {
		return scalarSchema(t, tag)
	}
	switch t.Kind() {
	case reflect.Slice:
		result := schema{"type": "array", "items": typeSchema(t.Elem(), tag, startOf(t.Elem()))}
		if most, err := strconv.Atoi(tag.Get("maxitems")); err == nil {
			result["maxItems"] = most
		}
		return result
	case reflect.Map:
		result := schema{"type": "object", "additionalProperties": typeSchema(t.Elem(), tag, startOf(t.Elem()))}
		if keys := tag.Get("keys"); keys != "" {
			result["propertyNames"] = schema{"enum": strings.Split(keys, ",")}
		}
		return result
	default:
		return structSchema(t, value)
	}
}

// jsonSchema returns the schema of any JSON value, or of what the tag's kinds
// leave of it.
func jsonSchema(tag reflect.StructTag) schema {
	kinds := tag.Get("kinds")
	if kinds == "" {
		return schema{}
	}
	var types []string
	for _, kind := range strings.Split(kinds, ",") {
		types = append(types, map[string]string{text.String(): "string", object.String(): "object"}[kind])
	}
	return schema{"type": types}
}

func scalarSchema(t reflect.Type, tag reflect.StructTag) schema {
	orReference := func(s schema) schema {
		return schema{"anyOf": []schema{s, {"type": "string", "pattern": referencePattern}}}
	}
	enum := cmp.Or(tag.Get("enum"), tag.Get("choices"))
	switch {
	case t == durationType:
		return orReference(schema{"type": []string{"string", "integer"}, "pattern": durationPattern, "maximum": 0, "minimum": 0})
	case t == bytesType:
		return orReference(schema{"type": []string{"string", "integer"}, "pattern": sizePattern, "minimum": 0})
	case t == statusType:
		return orReference(schema{"type": []string{"string", "integer"}, "pattern": statusPattern, "minimum": 300, "maximum": 599})
	case t == timeType:
		return orReference(schema{"type": "string", "format": "date-time"})
	case t.Kind() == reflect.Bool:
		return orReference(schema{"type": "boolean"})
	case t.Kind() == reflect.Int:
		return orReference(bounded("integer", tag))
	case t.Kind() == reflect.Float64:
		return orReference(bounded("number", tag))
	case enum != "":
		return orReference(schema{"enum": strings.Split(enum, ",")})
	default:
		return schema{"type": "string"}
	}
}

func bounded(name string, tag reflect.StructTag) schema {
	result := schema{"type": name}
	for key, keyword := range map[string]string{"min": "minimum", "max": "maximum"} {
		if bound := tag.Get(key); bound != "" {
			result[keyword] = json.Number(bound)
		}
	}
	return result
}

// defaultOf returns a default as a file would give it; none for the zero value.
func defaultOf(v reflect.Value) (any, bool) {
	if v.IsZero() || v.Kind() == reflect.Map || v.Kind() == reflect.Struct {
		return nil, false
	}
	if v.Kind() == reflect.Slice {
		list := make([]any, v.Len())
		for i := range list {
			list[i], _ = defaultOf(v.Index(i))
		}
		return list, true
	}
	return plain(v), true
}
