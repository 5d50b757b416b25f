package transforms

import (
	"reflect"
	"strings"
)

// jqCauses says what gojq's errors mean, by the names of their types: it exports
// neither the types nor texts without values. {name} stands for a function or
// an operator, {v}, {l} and {r} for the types of values.
var jqCauses = map[string]string{
	"arrayIndexNegativeError":   "an array has no negative index that far from its end",
	"arrayIndexNotNumberError":  "an array's index must be a number, got {v}",
	"arrayIndexTooLargeError":   "an array's index is too large",
	"binopTypeError":            "cannot {name} {l} and {r}",
	"breakError":                "break without its label",
	"expectedArrayError":        "expected an array, got {v}",
	"expectedObjectError":       "expected an object, got {v}",
	"expectedStartEndError":     "a slice needs start and end, got {v}",
	"flattenDepthError":         "flatten needs a depth of 0 or more",
	"formatNotFoundError":       "there is no such format",
	"formatRowError":            "@{typ} cannot take an array with {v} in it",
	"func0TypeError":            "{name} cannot take {v}",
	"func1TypeError":            "{name} cannot take {v}, or not with this argument",
	"func2TypeError":            "{name} cannot take {v}, or not with these arguments",
	"func0WrapError":            "{name} cannot take this {v}",
	"func1WrapError":            "{name} cannot take this {v}, or not with this argument",
	"func2WrapError":            "{name} cannot take this {v}, or not with these arguments",
	"invalidPathError":          "expected a path, got {v}",
	"invalidPathIterError":      "expected a path, got {v}",
	"iteratorError":             "cannot iterate over {v}",
	"objectKeyNotStringError":   "an object's key must be a string, got {v}",
	"repeatStringTooLargeError": "a repeated string is too large",
	"stringIndexNotNumberError": "a string's index must be a number, got {v}",
	"unaryTypeError":            "cannot {name} {v}",
	"zeroDivisionError":         "cannot divide by zero",
	"zeroModuloError":           "cannot divide by zero",
}

// jqCause describes an error of gojq without any value.
func jqCause(err error) string {
	e := reflect.Indirect(reflect.ValueOf(err))
	if text, ok := jqCauses[e.Type().Name()]; ok && e.Kind() == reflect.Struct {
		return strings.NewReplacer(
			"{name}", jqName(e, "name"), "{typ}", jqName(e, "typ"),
			"{v}", jqType(e, "v"), "{l}", jqType(e, "l"), "{r}", jqType(e, "r"),
		).Replace(text)
	}
	return "cannot be evaluated for this event"
}

// jqName returns a field that holds the name of a function or operator.
func jqName(e reflect.Value, field string) string {
	if f := e.FieldByName(field); f.Kind() == reflect.String {
		return f.String()
	}
	return "this"
}

// jqType returns the type of the value in a field, in jq's words.
func jqType(e reflect.Value, field string) string {
	f := e.FieldByName(field)
	if f.Kind() == reflect.Interface {
		f = f.Elem()
	}
	switch f.Kind() {
	case reflect.Invalid:
		return "null"
	case reflect.Bool:
		return "boolean"
	case reflect.Slice:
		return "array"
	case reflect.Map:
		return "object"
	case reflect.String:
		if f.Type().Name() == "string" {
			return "string"
		}
	}
	return "number" // json.Number, int, float64, *big.Int
}
