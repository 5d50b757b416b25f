package transforms

import (
	"errors"
	"regexp"

	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

var errCostly = errors.New("costs more than a filter may")

// filterCosts charges a filter's calls by the values that they get. The
// library's own charges go by the types that it knows when it compiles, which
// is none in a payload: there a megabyte's comparison would cost as much as a
// number's, and a loop over it could run for minutes.
type filterCosts struct {
	patterns map[string]int // regular expressions' sizes, in instructions
}

// zoneCost is what loading a time zone costs, which is done at each call.
const zoneCost = 100

// containerSize counts the elements of lists and maps at all levels, and the
// tens of characters in them.
var containerSize = types.NewSizeCalculator()

// CallCost returns what one call has cost.
func (c filterCosts) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	cost := uint64(1)
	switch {
	case function == overloads.Matches && types.IsError(result): // not tried
	case function == overloads.Matches:
		pattern, _ := args[len(args)-1].(types.String)
		cost += matchCost(args[0], c.patterns[string(pattern)])
	case comparesContainers(function, args):
		cost += comparisonCost(args)
	case function == operators.Add && isContainer(result): // lists: what reads them goes by their parts
		size, _ := result.(traits.Sizer).Size().(types.Int)
		cost += uint64(size)
	case len(args) == 2 && args[0].Type() == types.TimestampType && args[1].Type() == types.StringType:
		cost += zoneCost + textSize(args[1])
	default:
		for _, arg := range args {
			cost += textSize(arg)
		}
	}
	return &cost
}

// comparisonCost is what it costs to look at all that values hold.
func comparisonCost(values []ref.Val) uint64 {
	var cost uint64
	for _, value := range values {
		cost += uint64(containerSize.AggregateSize(value))
	}
	return cost
}

// matchCost is what a text costs with a regular expression of that many
// instructions: each byte may meet each of them.
func matchCost(text ref.Val, instructions int) uint64 {
	return textSize(text) * uint64(instructions)
}

// boundedMatches compiles the patterns of matches with the filter, and refuses
// texts that are too long for them. Costs come too late for that: they are
// charged when a call has returned.
var boundedMatches = &interpreter.RegexOptimization{
	Function:   overloads.Matches,
	RegexIndex: 1,
	Factory: func(call interpreter.InterpretableCall, pattern string) (interpreter.InterpretableCall, error) {
		compiled, err := regexp.Compile(pattern)
		if err != nil {
			return nil, err
		}
		size, err := types.RegexProgramSize(pattern)
		if err != nil {
			return nil, err
		}
		match := func(values ...ref.Val) ref.Val {
			text, ok := values[0].(types.String)
			switch {
			case !ok:
				return types.NewErrWithNodeID(call.ID(), "no such overload")
			case matchCost(text, size) > maxFilterCost:
				return types.WrapErr(errCostly)
			default:
				return types.Bool(compiled.MatchString(string(text)))
			}
		}
		return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), match), nil
	},
}

// boundComparisons makes ==, != and in refuse lists and maps that are too large
// for them. A short filter can build lists of lists that take minutes to compare,
// and costs are charged only then.
func boundComparisons(node interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := node.(interpreter.InterpretableCall)
	if !ok || len(call.Args()) != 2 {
		return node, nil
	}
	var compare func(a, b ref.Val) ref.Val
	switch call.Function() {
	case operators.Equals:
		compare = types.Equal
	case operators.NotEquals:
		compare = func(a, b ref.Val) ref.Val { return types.Bool(types.Equal(a, b) != types.True) }
	case operators.In:
		compare = contains
	default:
		return node, nil
	}
	for _, arg := range call.Args() {
		if constant, ok := arg.(interpreter.InterpretableConst); ok && call.Function() != operators.In && !isContainer(constant.Value()) {
			return node, nil
		}
	}
	bounded := func(values ...ref.Val) ref.Val {
		if comparesContainers(call.Function(), values) && comparisonCost(values) > maxFilterCost {
			return types.WrapErr(errCostly)
		}
		return compare(values[0], values[1])
	}
	return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), bounded), nil
}

// contains is the operator in.
func contains(element, container ref.Val) ref.Val {
	if c, ok := container.(traits.Container); ok {
		return c.Contains(element)
	}
	return types.NewErr("no such overload")
}

// textSize returns the tens of bytes in a text, and nothing for other values.
func textSize(value ref.Val) uint64 {
	switch v := value.(type) {
	case types.String:
		return uint64(len(v)) / 10
	case types.Bytes:
		return uint64(len(v)) / 10
	default:
		return 0
	}
}

// comparesContainers reports whether a call looks at what lists and maps hold.
func comparesContainers(function string, args []ref.Val) bool {
	if len(args) != 2 {
		return false
	}
	switch function {
	case operators.Equals, operators.NotEquals:
		return isContainer(args[0]) && isContainer(args[1])
	case operators.In:
		_, ok := args[1].(traits.Lister) // in a map the key is looked up
		return ok
	default:
		return false
	}
}

func isContainer(value ref.Val) bool {
	_, ok := value.(traits.Sizer)
	return ok && value.Type() != types.StringType && value.Type() != types.BytesType
}
