package transforms

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"text/template"
	"time"
)

const (
	// maxText bounds what one function yields, in bytes, so that a template
	// cannot double a text until memory ends.
	maxText = 64 << 20
	// maxSteps bounds a path of get.
	maxSteps = 100
)

var errTextTooLarge = errors.New("the text is too large")

// functions are what templates may call beside builtins.
var functions = template.FuncMap{
	"json":     toJSON,
	"get":      get,
	"rfc3339":  rfc3339,
	"unix":     func(t time.Time) int64 { return t.Unix() },
	"ulid":     ulid,
	"upper":    upper,
	"lower":    lower,
	"replace":  replace,
	"default":  orDefault,
	"base64":   toBase64,
	"urlquery": urlQuery,
	"print":    printText,
	"printf":   printFormat,
}

// builtins are what templates may call of text/template's own functions. The
// others write HTML and JavaScript, or call methods.
var builtins = map[string]bool{
	"and": true, "or": true, "not": true,
	"eq": true, "ne": true, "lt": true, "le": true, "gt": true, "ge": true,
	"len": true, "index": true, "slice": true,
}

// sampleFunctions differ for the sample view, which lacks payload fields and
// headers: no text is as good as a UUID there.
var sampleFunctions = func() template.FuncMap {
	m := maps.Clone(functions)
	m["ulid"] = func(value any) (string, error) {
		if isEmpty(value) {
			return ulid(sample.Event.ID)
		}
		return ulid(value)
	}
	return m
}()

// toText returns the text that a value stands for in functions that take text.
func toText(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case JSON:
		if text := strings.Trim(string(v), " \t\r\n"); strings.HasPrefix(text, `"`) {
			return unquote(text)
		}
		return string(v)
	case nil:
		return ""
	default:
		return fmt.Sprint(v)
	}
}

// isEmpty reports whether default replaces the value.
func isEmpty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case JSON:
		return v == "" || v == "null" || v == `""`
	default:
		return false
	}
}

// orDefault yields JSON's null for nil, which would print as "<no value>".
func orDefault(other, value any) any {
	switch {
	case !isEmpty(value):
		return value
	case other == nil:
		return JSON("null")
	default:
		return other
	}
}

func toJSON(value any) (JSON, error) {
	if v, ok := value.(JSON); ok {
		return v, nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return "", errors.New("the value has no JSON form")
	}
	if b.Len() > maxText {
		return "", errTextTooLarge
	}
	return JSON(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

func get(document JSON, path string) (JSON, error) {
	steps := strings.SplitN(path, ".", maxSteps+1)
	if len(steps) > maxSteps {
		return "", fmt.Errorf("the path has more than %d steps", maxSteps)
	}
	for _, step := range steps {
		if step == "" {
			return "", errors.New("the path has an empty step")
		}
	}
	s := scanner[string]{src: string(document)}
	var found span
	if err := s.document(steps, &found); err != nil {
		return "", err
	}
	if found == (span{}) {
		return "null", nil
	}
	return document[found.start:found.end], nil
}

func rfc3339(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func upper(value any) string { return strings.ToUpper(toText(value)) }

func lower(value any) string { return strings.ToLower(toText(value)) }

func replace(old, replacement string, value any) (string, error) {
	text := toText(value)
	if old == "" {
		return "", errors.New("there is nothing to replace")
	}
	if grown := len(replacement) - len(old); grown > 0 && len(text)+strings.Count(text, old)*grown > maxText {
		return "", errTextTooLarge
	}
	return strings.ReplaceAll(text, old, replacement), nil
}

func toBase64(value any) (string, error) {
	text := toText(value)
	if len(text) > maxText/2 {
		return "", errTextTooLarge
	}
	return base64.StdEncoding.EncodeToString([]byte(text)), nil
}

func urlQuery(value any) (string, error) {
	text := toText(value)
	if len(text) > maxText/3 {
		return "", errTextTooLarge
	}
	return url.QueryEscape(text), nil
}

func printText(values ...any) (string, error) {
	texts, err := toTexts(values, maxText)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(texts...), nil
}

// printFormat knows no widths, precisions and indexes because a few bytes of
// them yield texts of any size.
func printFormat(format string, values ...any) (string, error) {
	if len(format) > maxTemplate {
		return "", errTextTooLarge
	}
	verb := false
	for _, c := range []byte(format) {
		switch {
		case c == '%':
			verb = !verb
		case verb && strings.IndexByte("0123456789*[.", c) >= 0:
			return "", errors.New("widths, precisions and indexes are not supported")
		case verb && c|0x20 >= 'a' && c|0x20 <= 'z':
			verb = false
		}
	}
	// %q and %x write a byte as ten characters at most.
	texts, err := toTexts(values, maxText/10)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(format, texts...), nil
}

// toTexts replaces JSON by its text, and refuses more than limit bytes of text.
func toTexts(values []any, limit int) ([]any, error) {
	texts := make([]any, len(values))
	size := 0
	for i, v := range values {
		if document, ok := v.(JSON); ok {
			v = toText(document)
		}
		if text, ok := v.(string); ok {
			size += len(text)
		}
		texts[i] = v
	}
	if size > limit {
		return nil, errTextTooLarge
	}
	return texts, nil
}

// crockford is the alphabet of ULIDs, https://github.com/ulid/spec.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// ulid writes the same 128 bits in base 32, the first character holding three.
func ulid(value any) (string, error) {
	text := toText(value)
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return "", errors.New("the text is not a UUID")
	}
	var id [16]byte
	digits := text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil {
		return "", errors.New("the text is not a UUID")
	}
	var out [26]byte
	bits, n, next := 0, 2, 0 // two zero bits before the 128 make 26 groups of five
	for _, b := range id {
		bits, n = bits<<8|int(b), n+8
		for n >= 5 {
			n -= 5
			out[next] = crockford[bits>>n&31]
			next++
		}
		bits &= 1<<n - 1
	}
	return string(out[:]), nil
}
