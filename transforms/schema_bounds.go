package transforms

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

const (
	// maxSchemaSteps bounds one check: one for a value at a schema, one for each
	// of its elements or members, and one for 64 bytes of text that are read.
	maxSchemaSteps = 10_000_000
	// maxViolationBytes bounds what is kept of violations while the first of
	// them are looked for, roughly.
	maxViolationBytes = 128 << 20
	// maxSchemaMatch bounds a text's bytes times a regular expression's
	// instructions.
	maxSchemaMatch = 64 << 20
	stepCheck      = 1 << 10 // steps between two looks at the context
)

var (
	errSchemaSteps = errors.New("the payload takes too many steps to be checked")
	errSchemaMatch = errors.New("a text in the payload is too long for the schema's regular expression")
)

// compiledSchema checks one payload at a time.
type compiledSchema struct {
	whole   *jsonschema.Schema
	negated *jsonschema.Schema // not whole
	steps   int                // that a check may take

	// Of the check that runs, since the library passes nothing on to what it calls:
	ended func() error // whether its context has
	left  int          // steps
	until int          // how many are left when the context is looked at next
}

// check returns nil if value is valid, and else an error that names the first
// violations.
func (s *compiledSchema) check(ctx context.Context, value any) error {
	valid, err := s.run(ctx, s.steps, func() bool { return s.negated.Validate(value) != nil })
	if err != nil || valid {
		return err
	}
	// Each violation has its location, and a value a few violations.
	steps := min(s.steps, maxViolationBytes/(512+16*levels(value)))
	var violations *jsonschema.ValidationError
	_, err = s.run(ctx, steps, func() bool { return errors.As(s.whole.Validate(value), &violations) })
	switch {
	case errors.Is(err, errSchemaSteps), err == nil && violations == nil:
		return errors.New("violates the schema; where takes too many steps to say")
	case err != nil:
		return err
	}
	return violationError(violations)
}

// stopped is what ends a check from inside the library.
type stopped struct{ err error }

// run calls validate, which may take so many steps.
func (s *compiledSchema) run(ctx context.Context, steps int, validate func() bool) (result bool, err error) {
	defer func() {
		s.ended = nil
		switch p := recover().(type) {
		case nil:
		case stopped:
			result, err = false, p.err
		default:
			panic(p)
		}
	}()
	s.ended, s.left, s.until = ctx.Err, steps, steps
	return validate(), nil
}

func (s *compiledSchema) take(steps int) {
	if s.ended == nil {
		return // the schema itself is checked
	}
	if s.left -= steps; s.left < 0 {
		panic(stopped{errSchemaSteps})
	}
	if s.left <= s.until {
		if err := s.ended(); err != nil {
			panic(stopped{Retryable(err)})
		}
		s.until = s.left - stepCheck
	}
}

// bound makes the schemas count their steps, at what the library looks at in a
// value before it looks into it: its format. And it takes uniqueItems over,
// whose hashes in the library collide at will of who writes the payload.
func (s *compiledSchema) bound() {
	visitStructs(reflect.ValueOf(s.whole), map[any]bool{}, func(pointer any) {
		part, ok := pointer.(*jsonschema.Schema)
		if !ok {
			return
		}
		counted := &jsonschema.Format{Validate: func(any) error { return nil }}
		if part.Format != nil {
			*counted = *part.Format
		}
		validate := counted.Validate
		counted.Validate = func(value any) error {
			s.take(1 + size(value))
			return validate(value)
		}
		part.Format = counted
		if part.UniqueItems {
			part.UniqueItems = false
			part.Extensions = append(part.Extensions, uniqueItems{s})
		}
	})
}

// size returns how many elements or members value has, or how many times 64
// bytes.
func size(value any) int {
	switch v := value.(type) {
	case string:
		return len(v) / 64
	case []any:
		return len(v)
	case map[string]any:
		return len(v)
	default:
		return 0
	}
}

// levels returns how deep a value is nested.
func levels(value any) int {
	deepest := 0
	switch v := value.(type) {
	case []any:
		for i := range v {
			deepest = max(deepest, 1+levels(v[i]))
		}
	case map[string]any:
		for k := range v {
			deepest = max(deepest, 1+levels(v[k]))
		}
	}
	return deepest
}

// compileRegexp is the library's engine.
func (s *compiledSchema) compileRegexp(pattern string) (jsonschema.Regexp, error) {
	compiled, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	instructions, err := types.RegexProgramSize(pattern)
	if err != nil {
		return nil, err
	}
	return &boundedRegexp{compiled, instructions, s}, nil
}

// boundedRegexp is a regular expression that counts what it costs.
type boundedRegexp struct {
	*regexp.Regexp
	instructions int
	schema       *compiledSchema
}

// MatchString reports whether text contains a match.
func (r *boundedRegexp) MatchString(text string) bool {
	if len(text) > maxSchemaMatch/max(r.instructions, 1) {
		panic(stopped{errSchemaMatch})
	}
	r.schema.take(len(text) * r.instructions / 64)
	return r.Regexp.MatchString(text)
}

// uniqueItems is the keyword of this name.
type uniqueItems struct{ schema *compiledSchema }

// Validate reports the first element that stands in an array twice.
func (u uniqueItems) Validate(ctx *jsonschema.ValidatorContext, value any) {
	elements, ok := value.([]any)
	if !ok {
		return
	}
	first := make(map[string]int, len(elements))
	for i, element := range elements {
		text := u.canonical(nil, element)
		if j, ok := first[string(text)]; ok {
			ctx.AddError(&kind.UniqueItems{Duplicates: [2]int{j, i}})
			return
		}
		first[string(text)] = i
	}
}

// canonical appends a text to dst that is the same for equal values only.
func (u uniqueItems) canonical(dst []byte, value any) []byte {
	u.schema.take(1 + size(value))
	switch v := value.(type) {
	case nil:
		return append(dst, 'n')
	case bool:
		return strconv.AppendBool(dst, v)
	case string:
		return appendSized(dst, v)
	case json.Number:
		return append(dst, canonicalNumber(string(v))...)
	case []any:
		dst = append(dst, '[')
		for i := range v {
			dst = append(u.canonical(dst, v[i]), ',')
		}
		return append(dst, ']')
	case map[string]any:
		dst = append(dst, '{')
		for _, key := range slices.Sorted(maps.Keys(v)) {
			dst = appendSized(dst, key)
			dst = append(u.canonical(dst, v[key]), ',')
		}
		return append(dst, '}')
	}
	return dst
}

// appendSized appends text behind its length, so that its end is known.
func appendSized(dst []byte, text string) []byte {
	dst = append(strconv.AppendInt(dst, int64(len(text)), 10), ':')
	return append(dst, text...)
}

// canonicalNumber returns a text that is the same for all ways to write a
// number, which decodeExact has let through.
func canonicalNumber(text string) string {
	text, negative := strings.CutPrefix(text, "-")
	exponent := 0
	if at := strings.IndexAny(text, "eE"); at >= 0 {
		exponent, _ = strconv.Atoi(text[at+1:])
		text = text[:at]
	}
	whole, fraction, _ := strings.Cut(text, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return "0"
	}
	short := strings.TrimRight(digits, "0")
	exponent += len(digits) - len(short) - len(fraction)
	sign := ""
	if negative {
		sign = "-"
	}
	return sign + short + "e" + strconv.Itoa(exponent)
}
