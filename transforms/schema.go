package transforms

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const maxSchema = 1 << 20 // bytes of a schema's text

// SchemaOptions are what NewSchema needs.
type SchemaOptions struct {
	Schemas map[string]string // event type as committed → text of a JSON Schema, at most 1 MiB
	// Warn gets what a payload violates, which goes on then; nil rejects it. It
	// is called by several goroutines.
	Warn func(ctx context.Context, m *Message, err error)
}

// NewSchema returns a transform that checks payloads by the JSON Schema
// (https://json-schema.org) of their type as committed. Types without one pass.
//
// $schema says which draft a schema is of: 4, 6, 7, 2019-09 or 2020-12, which is
// meant without it. References lead into the schema itself or to the drafts' own
// schemas; others are an error here. format counts where the draft or its
// vocabulary has it so: up to draft 7. Regular expressions are RE2's. Numbers
// are compared exactly.
//
// The error of a payload says where at most three violations are, as JSON
// Pointers, and of which keywords. It quotes nothing of the payload but keys,
// each cut after 64 bytes and without control characters.
//
// What a check may take is bounded: a payload that needs too many steps, as one
// that is nested deeply can where a schema refers to itself twice, fails.
func NewSchema(o SchemaOptions) (Transform, error) {
	s := &schemas{byType: make(map[string]*schema, len(o.Schemas)), warn: o.Warn}
	for _, eventType := range slices.Sorted(maps.Keys(o.Schemas)) {
		parsed, err := newSchema(o.Schemas[eventType])
		if err != nil {
			return nil, fmt.Errorf("schema of %s: %w", eventType, err)
		}
		s.byType[eventType] = parsed
	}
	return Each(s.transform), nil
}

type schemas struct {
	byType map[string]*schema
	warn   func(ctx context.Context, m *Message, err error)
}

func (s *schemas) transform(ctx context.Context, m *Message) error {
	schema := s.byType[m.Committed]
	if schema == nil {
		return nil
	}
	err := schema.check(ctx, m.Payload)
	if err == nil || IsRetryable(err) || s.warn == nil {
		return err
	}
	s.warn(ctx, m, err)
	return nil
}

// schema is one schema. A compiled schema counts the steps of the one check that
// it is used for, so there are as many as there are checks at the same time.
type schema struct {
	text string
	idle chan *compiledSchema
}

func newSchema(text string) (*schema, error) {
	first, err := compileSchema(text)
	if err != nil {
		return nil, err
	}
	s := &schema{text: text, idle: make(chan *compiledSchema, runtime.GOMAXPROCS(0))}
	s.idle <- first
	return s, nil
}

func (s *schema) check(ctx context.Context, payload []byte) error {
	value, err := decodeExact(payload)
	if err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	var compiled *compiledSchema
	select {
	case compiled = <-s.idle:
	default:
		if compiled, err = compileSchema(s.text); err != nil {
			return err
		}
	}
	defer func() {
		select {
		case s.idle <- compiled:
		default:
		}
	}()
	return compiled.check(ctx, value)
}

// schemaURL is the schema's own place, which references are relative to.
const schemaURL = "posthorn:///"

// negation is for finding out whether a payload is valid without keeping its
// violations: what is under not is only judged.
const (
	negation    = schemaURL + "negation"
	negationDoc = `{"$schema": "https://json-schema.org/draft/2020-12/schema", "not": {"$ref": "` + schemaURL + `"}}`
)

// compileSchema compiles the schema in text.
func compileSchema(text string) (compiled *compiledSchema, err error) {
	if len(text) > maxSchema {
		return nil, fmt.Errorf("has %d bytes, at most %d are allowed", len(text), maxSchema)
	}
	defer func() {
		if recover() != nil { // the library panics for some that contradict themselves
			compiled, err = nil, errors.New("cannot be compiled")
		}
	}()
	document, err := decodeExact([]byte(text))
	if err != nil {
		return nil, err
	}
	negated, err := decodeExact([]byte(negationDoc))
	if err != nil {
		return nil, err
	}
	s := &compiledSchema{steps: maxSchemaSteps}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(noLoader{})
	compiler.UseRegexpEngine(s.compileRegexp)
	if err := errors.Join(compiler.AddResource(schemaURL, document), compiler.AddResource(negation, negated)); err != nil {
		return nil, err
	}
	if s.whole, err = compiler.Compile(schemaURL); err != nil {
		return nil, schemaError(err)
	}
	if s.negated, err = compiler.Compile(negation); err != nil {
		return nil, schemaError(err)
	}
	s.bound()
	return s, nil
}

// noLoader loads nothing from anywhere.
type noLoader struct{}

// Load returns an error.
func (noLoader) Load(string) (any, error) {
	return nil, errors.New("nothing is loaded")
}

// schemaError says in one line why a schema cannot be compiled.
func schemaError(err error) error {
	var (
		load       *jsonschema.LoadURLError
		invalid    *jsonschema.SchemaValidationError
		violations *jsonschema.ValidationError
	)
	switch {
	case errors.As(err, &load):
		return fmt.Errorf("reference to %q: must lead into the schema itself or to a draft's own schema", strings.TrimPrefix(load.URL, schemaURL))
	case errors.As(err, &invalid) && errors.As(invalid.Err, &violations):
		return fmt.Errorf("is no JSON Schema: %w", violationError(violations))
	default:
		return errors.New(strings.ReplaceAll(oneLine(err.Error()), schemaURL, ""))
	}
}
