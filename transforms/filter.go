package transforms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

const (
	maxFilter = 4 << 10 // bytes of a filter's text
	// maxFilterCost bounds one evaluation: one for a step, one for ten bytes of
	// text that are read. As many take much less than maxFilterTime, which ends
	// the loops that it takes longer to go through all the same.
	maxFilterCost = 1_000_000
	maxFilterTime = time.Second
	// filterTimeCheck is how many rounds of loops there are between two looks
	// at the time.
	filterTimeCheck = 100
	// maxFilterDepth bounds how deep brackets and calls may be nested, and
	// maxFilterLoops all, exists, filter and map inside each other.
	maxFilterDepth = 50
	maxFilterLoops = 3
	// maxFilterRegexp bounds a regular expression, in instructions.
	maxFilterRegexp = 1_000
)

// Filter is a compiled CEL expression (https://cel.dev) over an event that
// yields a boolean. It is safe for concurrent use.
//
// The expression sees id, type, object, action, tenant and key (strings, empty
// if the event has none), headers (a map of strings), created_at (a timestamp)
// and payload (any JSON value). Functions are those of CEL's standard library,
// which has none with side effects and no clock; the pattern of matches must be
// a literal.
//
// Integers of the payload are exact as far as 64 bits hold them, signed or not;
// all other numbers are doubles, infinite where they are too large for one.
// Numbers of different types compare by value: payload.amount > 1000 holds for
// 4500, 4500.5 and 1e4.
type Filter struct {
	program cel.Program
	ast     *ast.AST
	loops   bool // whether it has any; all else ends soon
}

// filterEnv is what all filters are compiled in.
var filterEnv = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("id", cel.StringType),
		cel.Variable("type", cel.StringType),
		cel.Variable("object", cel.StringType),
		cel.Variable("action", cel.StringType),
		cel.Variable("tenant", cel.StringType),
		cel.Variable("key", cel.StringType),
		cel.Variable("headers", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("created_at", cel.TimestampType),
		cel.Variable("payload", cel.DynType),
		cel.CrossTypeNumericComparisons(true),
		cel.ParserRecursionLimit(maxFilterDepth),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals(),
			cel.ValidateRegexLiterals(),
			cel.ValidateRegexProgramSizeLimit(maxFilterRegexp),
			cel.ValidateComprehensionNestingLimit(maxFilterLoops),
		),
	)
})

// ParseFilter compiles a filter. text is UTF-8 of at most 4 KiB and must yield
// a boolean; where that depends on the payload, as in payload.flag, Match finds
// out. The error is one line that says what is wrong at which line and column
// of text, counting characters from 1.
func ParseFilter(text string) (*Filter, error) {
	switch {
	case strings.TrimSpace(text) == "":
		return nil, errors.New("parse filter: is empty")
	case len(text) > maxFilter:
		return nil, fmt.Errorf("parse filter: has %d bytes, at most %d are allowed", len(text), maxFilter)
	case !utf8.ValidString(text):
		return nil, errors.New("parse filter: is not UTF-8")
	}
	env, err := filterEnv()
	if err != nil {
		return nil, fmt.Errorf("prepare filters: %w", err)
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, filterIssue(issues.Errors())
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("parse filter: yields %s, must yield bool", t)
	}
	patterns, err := patternSizes(checked.NativeRep())
	if err != nil {
		return nil, err
	}
	program, err := env.Program(checked, cel.CostLimit(maxFilterCost), cel.CostTracking(filterCosts{patterns}), cel.OptimizeRegex(boundedMatches),
		cel.CustomDecoratorV2(boundComparisons), cel.InterruptCheckFrequency(filterTimeCheck))
	if err != nil {
		return nil, fmt.Errorf("parse filter: %s", oneLine(err.Error()))
	}
	loops := ast.MatchDescendants(ast.NavigateAST(checked.NativeRep()), ast.KindMatcher(ast.ComprehensionKind))
	return &Filter{program: program, ast: checked.NativeRep(), loops: len(loops) > 0}, nil
}

// filterIssue describes the first thing that is wrong with a filter's text.
func filterIssue(issues []*cel.Error) error {
	first := issues[0]
	message := strings.TrimPrefix(oneLine(first.Message), "Syntax error: ")
	if at := place(first.Location); at != "" {
		return fmt.Errorf("parse filter: %s: %s", at, message)
	}
	return fmt.Errorf("parse filter: %s", message)
}

// patternSizes returns how many instructions each regular expression of the
// filter has. It refuses those that are not literals: they would be compiled for
// each event, which takes long for hostile ones.
func patternSizes(a *ast.AST) (map[string]int, error) {
	sizes := map[string]int{}
	for _, e := range ast.MatchDescendants(ast.NavigateAST(a), ast.FunctionMatcher(overloads.Matches)) {
		args := e.AsCall().Args()
		literal := args[len(args)-1]
		at := place(a.SourceInfo().GetStartLocation(literal.ID()))
		if literal.Kind() != ast.LiteralKind {
			return nil, fmt.Errorf("parse filter: %s: the pattern of matches must be a literal", at)
		}
		pattern := string(literal.AsLiteral().(types.String))
		size, err := types.RegexProgramSize(pattern)
		if err != nil {
			return nil, fmt.Errorf("parse filter: %s: %s", at, oneLine(err.Error()))
		}
		sizes[pattern] = size
	}
	return sizes, nil
}

// place says where location is, and nothing if it is nowhere.
func place(location common.Location) string {
	if location.Line() < 1 || location.Column() < 0 {
		return ""
	}
	return fmt.Sprintf("line %d, column %d", location.Line(), location.Column()+1)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// Match reports whether the filter matches the event. A part of the payload or
// a header that the filter reads and that is not there, a field of an array
// too, means that it does not, unless CEL decides without it: missing || true is true, and has(payload.x)
// asks whether payload.x is there; where payload is an array, a filter that
// rests on has(payload.x) does not match, negated or not.
//
// It is an error if the filter yields no boolean, applies an operator or a
// function to values that it cannot take, costs too much, or if the payload is
// not JSON. Errors name the place in the filter and quote nothing of the event.
func (f *Filter) Match(s *Subject) (bool, error) {
	result, err := f.eval(s)
	switch {
	case err == nil:
	case s.err != nil: // whatever else has failed, it did without the payload
		return false, fmt.Errorf("evaluate filter: payload: %w", s.err)
	case isAbsent(err):
		return false, nil
	default:
		return false, fmt.Errorf("evaluate filter: %w", f.cause(err))
	}
	matches, ok := result.(types.Bool)
	if !ok {
		return false, fmt.Errorf("evaluate filter: yields %s, must yield bool", result.Type().TypeName())
	}
	return bool(matches), nil
}

// eval returns the filter's value. Time is bounded for loops alone: to bound it
// takes longer than most filters do.
func (f *Filter) eval(s *Subject) (ref.Val, error) {
	if !f.loops {
		result, _, err := f.program.Eval(variables{s})
		return result, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxFilterTime)
	defer cancel()
	result, _, err := f.program.ContextEval(ctx, variables{s})
	return result, err
}

// absentType is the type of the error by which the library reports a key or an
// index that is not there, also in a value that has none. It is not exported,
// so it is taken from such an error.
var absentType = sync.OnceValue(func() reflect.Type {
	attribute, err := interpreter.NewAttributeFactory(nil, types.DefaultTypeAdapter, nil).NewQualifier(nil, 0, "absent", false)
	if err != nil {
		return nil
	}
	_, err = attribute.Qualify(cel.NoVars(), map[string]any{})
	return reflect.TypeOf(err)
})

// errFieldOfList is the library's error for a text as an index of a list, to
// which it gives no type. What else has no fields has none of that name; so
// shall a list.
var errFieldOfList = sync.OnceValue(func() string {
	_, err := types.GetOrError(types.String(""))
	return err.Error()
})

func isAbsent(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if reflect.TypeOf(err) == absentType() || err.Error() == errFieldOfList() {
			return true
		}
	}
	return false
}

// cause says why an evaluation failed. The library's own texts stay out: some
// of them quote values.
func (f *Filter) cause(err error) error {
	var cancelled interpreter.EvalCancelledError
	if errors.Is(err, errCostly) || errors.Is(err, interpreter.InterruptError{}) || errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded {
		return errCostly
	}
	var failed *types.Err
	// The library shares this one value among all filters, so that the place
	// that it names may be in another one.
	if !errors.As(err, &failed) || failed == types.NoSuchOverloadErr() {
		return errors.New("an operator or function cannot take the values that it gets")
	}
	what := "an operator or function"
	for _, e := range ast.MatchDescendants(ast.NavigateAST(f.ast), ast.KindMatcher(ast.CallKind)) {
		if e.ID() == failed.NodeID() {
			what = strconv.Quote(functionName(e.AsCall().FunctionName()))
		}
	}
	if at := place(f.ast.SourceInfo().GetStartLocation(failed.NodeID())); at != "" {
		what = at + ": " + what
	}
	return fmt.Errorf("%s cannot take the values that it gets", what)
}

// functionName returns what stands in the filter's text for a function.
func functionName(name string) string {
	if name == operators.Conditional {
		return "?:"
	}
	if symbol, ok := operators.FindReverse(name); ok && symbol != "" {
		return symbol
	}
	return name
}

// Subject is an event as filters see it. Its payload is decoded once, when the
// first filter looks at it. It is for use by one goroutine at a time.
type Subject struct {
	event   Event
	text    JSON
	decoded bool
	payload any
	err     error // of decoding
}

// NewSubject returns the event with this payload for filters. The event's maps
// must not change while it is in use.
func NewSubject(e Event, payload JSON) *Subject {
	return &Subject{event: e, text: payload}
}

// variables gives a subject's variables to the library.
type variables struct{ *Subject }

// Parent returns nil: there are no other variables.
func (variables) Parent() interpreter.Activation { return nil }

// ResolveName returns the variable of this name.
func (v variables) ResolveName(name string) (any, bool) {
	switch name {
	case "id":
		return v.event.ID, true
	case "type":
		return v.event.Type, true
	case "object":
		return v.event.Object, true
	case "action":
		return v.event.Action, true
	case "tenant":
		return v.event.Tenant, true
	case "key":
		return v.event.Key, true
	case "headers":
		return v.event.Headers, true
	case "created_at":
		return v.event.CreatedAt, true
	case "payload":
		return v.value(), true
	default:
		return nil, false
	}
}

// value returns the payload, or an error as the library has them.
func (s *Subject) value() any {
	if !s.decoded {
		s.payload, s.err = decode(s.text)
		s.decoded = true
	}
	if s.err != nil {
		return types.WrapErr(s.err)
	}
	return s.payload
}

// decode returns what filters see of a JSON value.
func decode(text JSON) (any, error) {
	s := scanner[string]{src: string(text)}
	if err := s.document(nil, nil); err != nil {
		return nil, err
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, errors.New("invalid JSON")
	}
	return withNumbers(value), nil
}

// withNumbers replaces the numbers in value, which it changes, by what they are
// worth. It recurses once for each level, which maxDepth bounds.
func withNumbers(value any) any {
	switch v := value.(type) {
	case json.Number:
		return number(string(v))
	case []any:
		for i := range v {
			v[i] = withNumbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = withNumbers(v[k])
		}
	}
	return value
}

func number(text string) any {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i
	}
	if u, err := strconv.ParseUint(text, 10, 64); err == nil {
		return u
	}
	f, _ := strconv.ParseFloat(text, 64) // out of range: infinite, as it shall be
	return f
}
