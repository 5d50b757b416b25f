package transforms

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"

	"github.com/itchyny/gojq"
)

// gojq looks at the time between two steps of an expression only, and bounds
// what one step yields by 2 GiB, where it does. So those that take more time or
// memory than their values are large are written anew here, with a call before
// them that refuses values which are too large for them:
//
//	a + b        →  b as $_1 | a as $_0 | _fit_sum($_0; $_1) | $_0 + $_1
//	join(x)      →  x as $_0 | _fit_join($_0) | join($_0)
//	.[x]         →  .[x | _fit_index]
//	test("re")   →  _fit_text | test("re")
//	scan("re")   →  _fit_text | _fit_matches_0 | scan("re")
//	getpath(x)   →  getpath(x | _fit_steps)
//	"\(x)"       →  "\(x | _fit_whole)"
//
// What builds on path is defined anew, with a count of the steps that it yields.

const (
	maxJQElements = 4 << 20  // of an array or object
	maxJQPairs    = 16 << 20 // values compared with each other in one step
	maxJQBits     = 64 << 10 // of an integer
	maxJQText     = 1 << 20  // bytes that a regular expression is looked for in
	maxJQSteps    = 10_000   // of a path
	maxJQAllSteps = 8 << 20  // of all paths that an expression asks for in one place
	maxJQNeedle   = 8        // values of an array that is looked for in another one as its index
	maxJQFormat   = 64 << 10 // bytes of a time's format, whose parts yield up to a thousand each
)

// jqLimitError says that a step would take too much.
type jqLimitError struct{ what string }

func (e *jqLimitError) Error() string { return e.what }

// The guards yield their input, or an error.
var jqGuards = []gojq.CompilerOption{
	gojq.WithFunction("_fit_sum", 2, 2, jqFits("the result of + is too large", func(_ any, args []any) bool {
		return jqSize(args[0])+jqSize(args[1]) <= maxText && jqLength(args[0])+jqLength(args[1]) <= maxJQElements
	})),
	gojq.WithFunction("_fit_product", 2, 2, jqFits("the result of * is too large", func(_ any, args []any) bool {
		return jqProductFits(args[0], args[1]) && jqProductFits(args[1], args[0])
	})),
	gojq.WithFunction("_fit_difference", 2, 2, jqFits("the arrays are too large for -", func(_ any, args []any) bool {
		return jqPairsFit(args[0], args[1])
	})),
	gojq.WithFunction("_fit_comparison", 2, 2, jqFits("the values are too large to be compared", func(_ any, args []any) bool {
		return jqCount(args[0]) <= maxJQPairs || jqCount(args[1]) <= maxJQPairs
	})),
	gojq.WithFunction("_fit_search", 1, 1, jqFits("the values are too large to be searched", func(input any, args []any) bool {
		return jqPairsFit(input, args[0])
	})),
	gojq.WithFunction("_fit_find", 1, 1, jqFits("the values are too large to be searched", func(input any, args []any) bool {
		return jqPairsFit(input, args[0]) && jqSize(input) <= maxJQPairs/max(jqSize(args[0]), 1)
	})),
	gojq.WithFunction("_fit_number", 0, 0, jqFits(errNumber.Error(), func(input any, _ []any) bool {
		return jqSize(input) <= maxNumber
	})),
	gojq.WithFunction("_fit_numbers", 0, 0, jqFits(errNumber.Error(), func(input any, _ []any) bool {
		text, _ := input.(string)
		return jqNumbersFit(text)
	})),
	gojq.WithFunction("_fit_format", 1, 1, jqFits("the format is too large", func(_ any, args []any) bool {
		return jqSize(args[0]) <= maxJQFormat
	})),
	gojq.WithFunction("_fit_steps", 0, 0, jqFits("an index in the path is too large", func(input any, _ []any) bool {
		path, _ := input.([]any)
		return !slices.ContainsFunc(path, jqIsLargeIndex)
	})),
	gojq.WithFunction("_add_steps", 1, 1, func(count any, args []any) any {
		sum := count.(int) + jqLength(args[0])
		if sum > maxJQAllSteps {
			return &jqLimitError{"the paths are too many or too long"}
		}
		return sum
	}),
	gojq.WithFunction("_fit_join", 0, 1, jqFits("the result of join or add is too large", jqJoinFits)),
	gojq.WithFunction("_fit_whole", 0, 1, jqFits("the value is too large to be written out", func(input any, _ []any) bool {
		left := maxText
		return jqMeasure(input, &left, maxDepth) == nil
	})),
	gojq.WithFunction("_fit_transpose", 0, 0, jqFits("the result of transpose is too large", jqTransposeFits)),
	gojq.WithFunction("_fit_index", 0, 0, jqFits("the index is too large", func(input any, _ []any) bool {
		return !jqIsLargeIndex(input)
	})),
	gojq.WithFunction("_fit_path", 2, 2, jqFits("the path is too long, or an index in it too large", func(_ any, args []any) bool {
		path, _ := args[0].([]any)
		return len(path) <= maxJQSteps && !slices.ContainsFunc(path, jqIsLargeIndex)
	})),
	gojq.WithFunction("_fit_text", 0, 0, jqFits("the text is too large for a regular expression", func(input any, _ []any) bool {
		text, _ := input.(string)
		return len(text) <= maxJQText
	})),
}

func jqFits(message string, fits func(input any, args []any) bool) func(any, []any) any {
	return func(input any, args []any) any {
		if !fits(input, args) {
			return &jqLimitError{message}
		}
		return input
	}
}

// jqDefinitions take the places of gojq's own definitions. Those yield a path of
// as many steps as a value is nested deep, for each of any number of values.
const jqDefinitions = `
	def _paths(f): foreach path(f) as $p (0; _add_steps($p); $p);
	def path(f): _paths(f);
	def del(f): delpaths([_paths(f)]);
	def paths: _paths(..) | select(. != []);
	def paths(f): _paths(.. | select(f)) | select(. != []);
	def tostream:
		_paths(def r: (.[]? | r), .; r) as $p |
		getpath($p) |
		reduce path(.[]?) as $q ([$p, .]; [$p + $q]);
	.`

// jqOperators are the guards of operators.
var jqOperators = map[gojq.Operator]string{
	gojq.OpAdd: "_fit_sum", gojq.OpSub: "_fit_difference", gojq.OpMul: "_fit_product",
	gojq.OpEq: "_fit_comparison", gojq.OpNe: "_fit_comparison", gojq.OpLt: "_fit_comparison",
	gojq.OpLe: "_fit_comparison", gojq.OpGt: "_fit_comparison", gojq.OpGe: "_fit_comparison",
}

// jqUpdates are the operators that +=, -= and *= update with.
var jqUpdates = map[gojq.Operator]gojq.Operator{
	gojq.OpUpdateAdd: gojq.OpAdd, gojq.OpUpdateSub: gojq.OpSub, gojq.OpUpdateMul: gojq.OpMul,
}

// jqFunctions are the guards of functions that take values.
var jqFunctions = map[string]string{
	"join/1": "_fit_join", "add/0": "_fit_join", "transpose/0": "_fit_transpose", "setpath/2": "_fit_path",
	"contains/1": "_fit_search", "inside/1": "_fit_search",
	"index/1": "_fit_find", "rindex/1": "_fit_find", "indices/1": "_fit_find",
	"tonumber/0": "_fit_number", "fromjson/0": "_fit_numbers", "strftime/1": "_fit_format", "strflocaltime/1": "_fit_format",
	"tojson/0": "_fit_whole", "tostring/0": "_fit_whole", "flatten/0": "_fit_whole", "flatten/1": "_fit_whole",
}

// jqPatterns says where functions take a regular expression's flags, if they do;
// the pattern is their first argument. gojq keeps each pattern that it has met.
var jqPatterns = map[string]int{
	"test/1": 0, "test/2": 1, "match/1": 0, "match/2": 1, "capture/1": 0, "capture/2": 1, "scan/1": 0, "scan/2": 1,
	"splits/1": 0, "splits/2": 1, "split/2": 1, "sub/2": 0, "sub/3": 2, "gsub/2": 0, "gsub/3": 2,
}

// bound puts guards into a query, refuses what cannot be bounded, and notes the
// literal messages of error.
func (j *jq) bound(query *gojq.Query) error {
	var first error
	visitStructs(reflect.ValueOf(query), map[any]bool{}, func(pointer any) {
		switch node := pointer.(type) {
		case *gojq.Query:
			boundOperator(node)
		case *gojq.Index:
			if node.Start != nil && !node.IsSlice && !jqSmall(node.Start) {
				node.Start = jqPipe(node.Start, jqCall("_fit_index"))
			}
		case *gojq.String:
			for i, q := range node.Queries {
				if q.Term.Str == nil {
					node.Queries[i] = &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeQuery, Query: jqPipe(q, jqCall("_fit_whole"))}}
				}
			}
		case *gojq.Term:
			switch {
			case node.Type == gojq.TermTypeFunc:
				if err := j.boundFunction(node); first == nil {
					first = err
				}
			case node.Type == gojq.TermTypeFormat && node.Str == nil:
				written := &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFormat, Format: node.Format}}
				node.Type, node.Format, node.Query = gojq.TermTypeQuery, "", jqPipe(jqCall("_fit_whole"), written)
			}
		}
	})
	return first
}

// boundOperator rewrites an operation.
func boundOperator(q *gojq.Query) {
	operator, update := jqUpdates[q.Op]
	if !update {
		operator = q.Op
	}
	guard := jqOperators[operator]
	if guard == "" || operator != gojq.OpMul && (jqSmall(q.Left) || jqSmall(q.Right)) {
		return
	}
	left, right := jqCall("$_0"), jqCall("$_1")
	bounded := jqPipe(jqCall(guard, left, right), &gojq.Query{Left: left, Op: operator, Right: right})
	if update {
		bounded = &gojq.Query{Left: q.Left, Op: gojq.OpModify, Right: jqBind("$_0", &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeIdentity}}, bounded)}
	} else {
		bounded = jqBind("$_0", q.Left, bounded)
	}
	bounded = jqBind("$_1", q.Right, bounded)
	q.Left, q.Op, q.Patterns, q.Right = bounded.Left, bounded.Op, bounded.Patterns, bounded.Right
}

// boundFunction rewrites a call.
func (j *jq) boundFunction(term *gojq.Term) error {
	f := term.Func
	name := fmt.Sprintf("%s/%d", f.Name, len(f.Args))
	original := &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFunc, Func: f}}
	var bounded *gojq.Query
	if flags, ok := jqPatterns[name]; ok {
		if !jqLiteral(f.Args[0]) || !jqLiteral(f.Args[flags]) {
			return fmt.Errorf("the pattern and the flags of %s must be literals", f.Name)
		}
		bounded = jqPipe(jqCall("_fit_text"), original)
		if guard := j.boundMatches(f, flags); guard != nil {
			bounded = jqPipe(jqCall("_fit_text"), jqPipe(guard, original))
		}
	} else if guard, ok := jqFunctions[name]; ok {
		args := make([]*gojq.Query, len(f.Args))
		for i := range args {
			args[i] = jqCall(fmt.Sprintf("$_%d", i))
		}
		bounded = jqPipe(jqCall(guard, args...), original)
		for i := range args { // the last one's outputs are the outermost loop
			bounded = jqBind(args[i].Term.Func.Name, f.Args[i], bounded)
		}
		f.Args = args
	}
	switch {
	case bounded != nil:
		term.Type, term.Func, term.Query = gojq.TermTypeQuery, nil, bounded
	case name == "getpath/1":
		f.Args[0] = jqPipe(f.Args[0], jqCall("_fit_steps"))
	case f.Name == "_match":
		return errors.New("function not defined: _match")
	case name == "error/1" && jqText(f.Args[0]):
		j.messages[f.Args[0].Term.Str.Str] = true
	}
	return nil
}

func jqCall(name string, args ...*gojq.Query) *gojq.Query {
	return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFunc, Func: &gojq.Func{Name: name, Args: args}}}
}

func jqPipe(left, right *gojq.Query) *gojq.Query {
	return &gojq.Query{Left: left, Op: gojq.OpPipe, Right: right}
}

// jqBind returns value as $name | body.
func jqBind(name string, value, body *gojq.Query) *gojq.Query {
	return &gojq.Query{Left: value, Op: gojq.OpPipe, Patterns: []*gojq.Pattern{{Name: name}}, Right: body}
}

// jqText reports whether q is a string literal without interpolation.
func jqText(q *gojq.Query) bool {
	return q.Term != nil && len(q.FuncDefs) == 0 && len(q.Term.SuffixList) == 0 &&
		q.Term.Type == gojq.TermTypeString && q.Term.Str.Queries == nil
}

// jqLiteral reports whether q is a pattern or flags that never change: a text,
// null, or an array of both.
func jqLiteral(q *gojq.Query) bool {
	switch {
	case q.Term == nil || len(q.FuncDefs) > 0 || len(q.Term.SuffixList) > 0:
		return false
	case q.Term.Type == gojq.TermTypeNull:
		return true
	case q.Term.Type == gojq.TermTypeArray:
		elements := q.Term.Array.Query
		return elements != nil && (jqText(elements) ||
			elements.Op == gojq.OpComma && jqText(elements.Left) && jqLiteral(elements.Right) && elements.Right.Term.Type != gojq.TermTypeArray)
	default:
		return jqText(q)
	}
}

// jqSmall reports whether q is a text, or a number of a few digits.
func jqSmall(q *gojq.Query) bool {
	if q.Term != nil && q.Term.Type == gojq.TermTypeUnary && len(q.Term.SuffixList) == 0 {
		q = &gojq.Query{Term: q.Term.Unary.Term}
	}
	return jqText(q) ||
		q.Term != nil && q.Term.Type == gojq.TermTypeNumber && len(q.Term.SuffixList) == 0 &&
			len(q.Term.Number) < 7 && !strings.ContainsAny(q.Term.Number, "eE")
}

// jqIsLargeIndex reports whether an index is beyond what an array may have, or is
// an array that takes long to be looked for in another one.
func jqIsLargeIndex(index any) bool {
	if i, ok := gojq.ToInt(index); ok {
		return i >= maxJQElements
	}
	_, isArray := index.([]any)
	return isArray && jqCount(index) > maxJQNeedle
}

// jqNumbersFit reports whether no number in a JSON text, valid or not, is longer
// than those of a payload may be.
func jqNumbersFit(text string) bool {
	start, inText := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			inText = !inText
		case c == '\\' && inText:
			i++
		case !inText && strings.IndexByte("0123456789+-.eE", c) >= 0:
			if i-start >= maxNumber {
				return false
			}
			continue
		}
		start = i + 1
	}
	return true
}

// jqSize returns a text's bytes.
func jqSize(value any) int {
	text, _ := value.(string)
	return len(text)
}

// jqLength returns how many values an array or object holds.
func jqLength(value any) int {
	switch v := value.(type) {
	case []any:
		return len(v)
	case map[string]any:
		return len(v)
	default:
		return 0
	}
}

// jqCount returns how many values stand in a value at all levels, itself too,
// and stops counting beyond maxJQPairs.
func jqCount(value any) int {
	count := 1
	switch v := value.(type) {
	case []any:
		for i := 0; i < len(v) && count <= maxJQPairs; i++ {
			count += jqCount(v[i])
		}
	case map[string]any:
		for _, member := range v {
			if count += jqCount(member); count > maxJQPairs {
				break
			}
		}
	}
	return count
}

func jqPairsFit(a, b any) bool {
	if jqLength(a) == 0 || jqLength(b) == 0 {
		return true
	}
	return jqCount(a) <= maxJQPairs/jqCount(b)
}

// jqProductFits looks at texts and integers; the product of two objects is not
// larger than both.
func jqProductFits(a, b any) bool {
	switch a := a.(type) {
	case string:
		times, ok := gojq.ToFloat64(b)
		return !ok || !(float64(len(a))*times > maxText) // not a number: jq yields null
	case *big.Int:
		return a.BitLen() <= maxJQBits
	default:
		return true
	}
}

func jqJoinFits(input any, args []any) bool {
	separator := 0
	if len(args) > 0 {
		separator = jqSize(args[0])
	}
	size, length := jqLength(input)*separator, 0
	add := func(value any) {
		size += jqSize(value)
		length += jqLength(value)
	}
	switch v := input.(type) {
	case []any:
		for _, element := range v {
			add(element)
		}
	case map[string]any:
		for _, member := range v {
			add(member)
		}
	}
	return size <= maxText && length <= maxJQElements
}

func jqTransposeFits(input any, _ []any) bool {
	rows, _ := input.([]any)
	columns := 0
	for _, row := range rows {
		columns = max(columns, jqLength(row))
	}
	return columns == 0 || len(rows) <= maxJQElements/columns
}
