package transforms

import (
	"strings"
	"testing"
)

func TestRemoveLeavesCommasInOrder(t *testing.T) {
	tests := []struct {
		editTest
		paths string
	}{
		{editTest{"first", ` { "a" : 1 , "b":2 } `, ` { "b":2 } `}, "a"},
		{editTest{"last", `{"a":1 , "b":2 }`, `{"a":1 }`}, "b"},
		{editTest{"only", `{ "a":1 }`, `{  }`}, "a"},
		{editTest{"middle", `{"a":1, "b":2 , "c":3}`, `{"a":1 , "c":3}`}, "b"},
		{editTest{"first two", "{\n \"a\":1,\n \"b\":2,\n \"c\":3\n}", "{\n \"c\":3\n}"}, "a b"},
		{editTest{"first and last", `{"a":1,"b":2,"c":3}`, `{"b":2}`}, "a c"},
		{editTest{"all", `{"a":1, "b":2, "c":3}`, `{}`}, "a b c"},
		{editTest{"all but the middle in pairs", `{"a":1,"b":2,"c":3,"d":4,"e":5}`, `{"c":3}`}, "a b d e"},
		{editTest{"repeated", `{"a":1,"b":2,"a":3}`, `{"b":2}`}, "a"},
		{editTest{"escaped key", `{"\u0061":1,"b":2,"\u0062":3}`, `{"\u0061":1}`}, "b"},
		{editTest{"escaped path", `{"a.b":1,"*":2,"\\":3,"a":{"b":4}}`, `{"a":{"b":4}}`}, `a\.b \* \\`},
		{editTest{"inside", `{"e":{"ssn":1,"n":1.0},"x":[]}`, `{"e":{"n":1.0},"x":[]}`}, "e.ssn"},
		{editTest{"element", `[1, 2, 3]`, `[1, 3]`}, "1"},
		{editTest{"elements by the indexes as they came", `[0,1,2,3]`, `[2,3]`}, "0 1"},
		{editTest{"every element", `{"l":[1, 2]}`, `{"l":[]}`}, "l.*"},
		{editTest{"every member", `{"l":{"a":1, "b":[2]}}`, `{"l":{}}`}, "l.*"},
		{editTest{"in every element", `{"l":[{"c":1},{"c":2,"d":3},4,[5]]}`, `{"l":[{},{"d":3},4,[5]]}`}, "l.*.c"},
		{editTest{"number as a key", `{"0":1,"00":2}`, `{"00":2}`}, "0"},
		{editTest{"inside what is removed", `{"a":{"b":1},"c":{"b":2}}`, `{"c":{}}`}, "a a.b c.b"},
		{editTest{"overlapping stars", `{"a":{"b":1,"c":2},"d":{"b":3}}`, `{"a":{},"d":{}}`}, "a.* *.b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			transform, err := NewRemove(strings.Fields(tt.paths))
			tt.run(t, transform, err)
		})
	}
}
