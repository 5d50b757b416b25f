package transforms

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
)

const (
	// maxNumber bounds a number's text, in bytes, and maxExponent what stands
	// after its e: to compare or add longer ones takes seconds each.
	maxNumber   = 1000
	maxExponent = 1000
)

var errNumber = errors.New("a number has too many digits")

// decodeExact returns a JSON text's value with its numbers as json.Number. Of
// repeated keys the last holds; invalid UTF-8 and lone surrogates become U+FFFD.
// A number may have at most 1,000 bytes, and an exponent of at most 1,000. Errors
// quote nothing of the text.
func decodeExact(text []byte) (any, error) {
	if err := Valid(text); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, errors.New("invalid JSON")
	}
	return value, checkNumbers(value)
}

// checkNumbers recurses once for each level, which maxDepth bounds.
func checkNumbers(value any) error {
	switch v := value.(type) {
	case json.Number:
		if !isShort(string(v)) {
			return errNumber
		}
	case []any:
		for i := range v {
			if err := checkNumbers(v[i]); err != nil {
				return err
			}
		}
	case map[string]any:
		for k := range v {
			if err := checkNumbers(v[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

func isShort(number string) bool {
	if len(number) > maxNumber {
		return false
	}
	at := strings.IndexAny(number, "eE")
	if at < 0 {
		return true
	}
	exponent, err := strconv.Atoi(number[at+1:])
	return err == nil && exponent >= -maxExponent && exponent <= maxExponent
}

// visitStructs calls f once for each pointer to a struct that is reached from v
// through exported fields, after it was called for those behind that one. f may
// change what the pointer points to.
func visitStructs(v reflect.Value, seen map[any]bool, f func(pointer any)) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() || v.Elem().Kind() != reflect.Struct || seen[v.Interface()] {
			return
		}
		seen[v.Interface()] = true
		visitStructs(v.Elem(), seen, f)
		f(v.Interface())
	case reflect.Interface:
		visitStructs(v.Elem(), seen, f)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				visitStructs(v.Field(i), seen, f)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			visitStructs(v.Index(i), seen, f)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			visitStructs(v.MapIndex(key), seen, f)
		}
	default: // nothing is behind it
	}
}
