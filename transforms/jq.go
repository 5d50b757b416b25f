package transforms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

const (
	maxJQ     = 64 << 10 // bytes of an expression's text
	maxJQTime = time.Second
	// maxPayload bounds what a transform makes of a payload, in bytes.
	maxPayload = 64 << 20
)

var (
	errPayloadTooLarge = errors.New("the new payload is larger than 64 MiB")
	errPayloadTooDeep  = errors.New("the new payload is nested deeper than 10000")
)

// NewJQ returns a transform that makes a payload by an expression of jq
// (https://jqlang.org), as https://github.com/itchyny/gojq reads it. text is
// UTF-8 of at most 64 KiB.
//
// The expression's input is {id, type, object, action, tenant, key, created_at,
// headers, payload}: strings, empty if the event has none, created_at as in
// "2026-05-22T09:30:00Z", headers an object of strings, payload any value. Its
// one output is the new payload. Without an output the event is skipped; two
// outputs are an error.
//
// Objects come out with their keys sorted, and without white space. Numbers
// that the expression only passes on keep their digits. It calculates with
// integers of any size, and with doubles where there is a fraction or an
// exponent. Of repeated keys the last holds. <, > and & are not escaped.
//
// There is no environment (env and $ENV are empty), no input, inputs, debug,
// stderr, import and include; halt and halt_error are errors. A regular
// expression and its flags must be literals. Time zones are the relay's.
//
// Errors quote nothing of the event: they name what cannot be done with which
// types. Of error(MESSAGE) the message comes out if it is a literal without
// interpolation in text, and otherwise not.
//
// One evaluation takes at most a second, which is looked at between two steps.
// What a single step takes is bounded for +, -, *, comparisons, .[N],
// interpolation, formats, add, join, flatten, transpose, contains, inside, index,
// rindex, indices, getpath, setpath, tonumber, fromjson, strftime, tojson, tostring
// and regular expressions, where they stand in text; and so are all the paths that
// path, paths, del and tostream yield together. Not bounded, but by the time before them and the size of their
// values, are steps of functions that jq has written in itself, such as add(f),
// and sort, unique, group_by and the like where the expression has put the same
// part into its values many times over, as reduce range(40) as $i (.; [., .])
// does.
func NewJQ(text string) (Transform, error) {
	j, err := newJQ(text)
	if err != nil {
		return nil, fmt.Errorf("parse jq: %w", err)
	}
	return Each(j.transform), nil
}

// jq is a compiled expression.
type jq struct {
	code     *gojq.Code
	messages map[string]bool // literal arguments of error
	guards   []gojq.CompilerOption
	timeout  time.Duration
}

func newJQ(text string) (*jq, error) {
	switch {
	case strings.TrimSpace(text) == "":
		return nil, errors.New("is empty")
	case len(text) > maxJQ:
		return nil, fmt.Errorf("has %d bytes, at most %d are allowed", len(text), maxJQ)
	case !utf8.ValidString(text):
		return nil, errors.New("is not UTF-8")
	}
	query, err := gojq.Parse(text)
	if err != nil {
		return nil, jqParseError(text, err)
	}
	j := &jq{messages: map[string]bool{}, timeout: maxJQTime}
	if err := j.bound(query); err != nil {
		return nil, err
	}
	definitions, err := gojq.Parse(jqDefinitions)
	if err != nil {
		return nil, err
	}
	query.FuncDefs = slices.Concat(definitions.FuncDefs, query.FuncDefs)
	if j.code, err = gojq.Compile(query, slices.Concat(jqGuards, j.guards)...); err != nil {
		return nil, errors.New(oneLine(err.Error()))
	}
	return j, nil
}

// jqParseError says where in text the error is, counting lines and characters
// from 1.
func jqParseError(text string, err error) error {
	var parse *gojq.ParseError
	if !errors.As(err, &parse) {
		return errors.New(oneLine(err.Error()))
	}
	// The offset is behind the token.
	before := text[:max(0, min(parse.Offset-len(parse.Token), len(text)))]
	line := strings.Count(before, "\n") + 1
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Errorf("line %d, column %d: %s", line, column, oneLine(err.Error()))
}

func (j *jq) transform(ctx context.Context, m *Message) error {
	input, err := jqInput(m)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, j.timeout)
	defer cancel()
	outputs := j.code.RunWithContext(limited, input)
	value, ok := outputs.Next()
	if !ok {
		m.Skipped = "no output"
		return nil
	}
	if err, failed := value.(error); failed {
		return j.failure(ctx, err)
	}
	another, ok := outputs.Next()
	if err, failed := another.(error); failed {
		return j.failure(ctx, err)
	}
	if ok {
		return errors.New("yields more than one output")
	}
	payload, err := jqEncode(value)
	if err != nil {
		return err
	}
	m.Payload = payload
	return nil
}

func jqInput(m *Message) (map[string]any, error) {
	payload, err := decodeExact(m.Payload)
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	headers := make(map[string]any, len(m.Event.Headers))
	for name, value := range m.Event.Headers {
		headers[name] = value
	}
	return map[string]any{
		"id":         m.Event.ID,
		"type":       m.Event.Type,
		"object":     m.Event.Object,
		"action":     m.Event.Action,
		"tenant":     m.Event.Tenant,
		"key":        m.Event.Key,
		"created_at": rfc3339(m.Event.CreatedAt),
		"headers":    headers,
		"payload":    payload,
	}, nil
}

// jqEncode measures value before it encodes it: a part may stand in it many
// times over.
func jqEncode(value any) ([]byte, error) {
	left := maxPayload
	if err := jqMeasure(value, &left, maxDepth); err != nil {
		return nil, err
	}
	payload, err := gojq.Marshal(value)
	switch {
	case err != nil:
		return nil, errors.New("the output has no JSON form")
	case len(payload) > maxPayload:
		return nil, errPayloadTooLarge
	}
	if err := Valid(payload); err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	return payload, nil
}

// jqMeasure takes from left what the value needs at least, in bytes. It stops
// when nothing is left.
func jqMeasure(value any, left *int, levels int) error {
	*left--
	switch v := value.(type) {
	case string:
		*left -= len(v) + jqEscapes(v)
	case []any:
		if levels == 0 {
			return errPayloadTooDeep
		}
		for i := range v {
			if err := jqMeasure(v[i], left, levels-1); err != nil {
				return err
			}
		}
	case map[string]any:
		if levels == 0 {
			return errPayloadTooDeep
		}
		for k := range v {
			*left -= len(k) + jqEscapes(k)
			if err := jqMeasure(v[k], left, levels-1); err != nil {
				return err
			}
		}
	}
	if *left < 0 {
		return errPayloadTooLarge
	}
	return nil
}

// jqEscapes returns by how many bytes a text grows when it is encoded.
func jqEscapes(text string) int {
	grown := 0
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\' || c >= '\b' && c <= '\r' && c != '\v':
			grown++
		case c < ' ' || c == 0x7f:
			grown += 5
		}
	}
	return grown
}

// failure says why an evaluation failed, by gojq's own text of it only where
// that holds no values.
func (j *jq) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return Retryable(ctx.Err())
	}
	var (
		limit *jqLimitError
		halt  *gojq.HaltError
		value gojq.ValueError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		// Another time the machine may be less busy.
		return Retryable(fmt.Errorf("takes longer than %s", j.timeout))
	case errors.As(err, &limit):
		return limit
	case errors.As(err, &halt):
		return errors.New("halt is not supported")
	case errors.As(err, &value):
		if message, ok := value.Value().(string); ok && j.messages[message] {
			return errors.New("error: " + oneLine(message))
		}
		return errors.New("error was called")
	default:
		return errors.New(jqCause(err))
	}
}
