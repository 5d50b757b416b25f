package transforms

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/itchyny/gojq"
)

// message returns an event on its way through a chain.
func message(payload string) *Message {
	return &Message{
		Committed: "order.created",
		Event: Event{
			ID: "01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8d9e", Type: "order.created", Object: "order", Action: "created",
			Tenant: "acme", Key: "42", CreatedAt: time.Date(2026, 5, 22, 11, 30, 0, 5, time.FixedZone("", 2*60*60)),
			Headers: map[string]string{"note": "a"},
		},
		Payload: []byte(payload),
	}
}

// apply runs one message through a transform.
func apply(t *testing.T, transform Transform, m *Message) *Message {
	t.Helper()
	transform.Transform(t.Context(), []*Message{m})
	if m.Err == nil && Valid(m.Payload) != nil {
		t.Errorf("the payload is not valid: %.200s", m.Payload)
	}
	return m
}

func mustJQ(t testing.TB, text string) Transform {
	t.Helper()
	transform, err := NewJQ(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return transform
}

func TestJQMakesPayloads(t *testing.T) {
	tests := []struct{ name, text, payload, want string }{
		{"identity sorts keys and drops white space", `.payload`, `{"b": 1, "a": [ 2 ]}`, `{"a":[2],"b":1}`},
		{"large integers", `.payload`, `[9007199254740993, -123456789012345678901234567890]`, `[9007199254740993,-123456789012345678901234567890]`},
		{"decimals that are passed on", `.payload`, `[1.0, 0.1000000000000000055511151231257827, 1e400, 1E2]`, `[1.0,0.1000000000000000055511151231257827,1e400,1E2]`},
		{"sum of large integers", `.payload[0] + 1`, `[9007199254740993]`, `9007199254740994`},
		{"product of large integers", `.payload[0] * 10`, `[123456789012345678901234567890]`, `1234567890123456789012345678900`},
		{"sum of decimals", `.payload[0] + .payload[1]`, `[0.1, 0.2]`, `0.30000000000000004`},
		{"nothing is escaped for HTML", `.payload`, `"<b>&\u2028é😀\u0007\u007f\n"`, "\"<b>&\u2028é😀\\u0007\\u007f\\n\""},
		{"the event", `[.id, .type, .object, .action, .tenant, .key, .created_at, .headers]`, `1`,
			`["01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8d9e","order.created","order","created","acme","42","2026-05-22T09:30:00Z",{"note":"a"}]`},
		{"created_at is a date of jq", `.created_at | fromdate`, `1`, `1779442200`},
		{"no environment", `[env, $ENV, $ENV.PATH]`, `1`, `[{},{},null]`},
		{"null is a payload", `.payload.absent`, `{}`, `null`},
		{"not a number", `[nan, infinite, -infinite]`, `1`, `[null,1.7976931348623157e+308,-1.7976931348623157e+308]`},
		{"repeated keys", `.payload`, `{"a": 1, "a": 2}`, `{"a":2}`},
		{"lone surrogate", `.payload`, `"\ud800"`, "\"\ufffd\""},
		{"del", `.payload | del(.internal)`, `{"internal": {"x": 1}, "id": 7}`, `{"id":7}`},
		{"gsub", `.payload | gsub("[0-9]+"; "#")`, `"a12b3"`, `"a#b#"`},
		{"comments", "# all of it\n.payload", `1`, `1`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := apply(t, mustJQ(t, tt.text), message(tt.payload))
			if m.Err != nil || m.Skipped != "" || string(m.Payload) != tt.want {
				t.Errorf("got  %s, %v, %q\nwant %s", m.Payload, m.Err, m.Skipped, tt.want)
			}
		})
	}
}

func TestJQSkipsWithoutAnOutput(t *testing.T) {
	for _, text := range []string{`empty`, `.payload | select(.a > 1)`, `.payload[]`} {
		m := apply(t, mustJQ(t, text), message(`{}`))
		if m.Err != nil || m.Skipped != "no output" || string(m.Payload) != `{}` {
			t.Errorf("%s: got %s, %v, %q", text, m.Payload, m.Err, m.Skipped)
		}
	}
}

// secret stands in payloads and may stand in no error.
const secret = "hunter2"

func TestJQFailsWithoutQuotingTheEvent(t *testing.T) {
	tests := []struct{ text, want string }{
		{`.payload.s[]`, `cannot iterate over string`},
		{`.payload.null[]`, `cannot iterate over null`},
		{`.payload.s.a`, `expected an object, got string`},
		{`.payload[0]`, `expected an array, got object`},
		{`.payload.list["a"]`, `expected an object, got array`},
		{`.payload.list[.payload.s]`, `expected an object, got array`},
		{`.payload.s + 1`, `cannot add string and number`},
		{`.payload - .payload.s`, `cannot subtract object and string`},
		{`.payload * .payload.list`, `cannot multiply object and array`},
		{`-.payload.s`, `cannot negate string`},
		{`1 / (.payload.s | length | . - 7)`, `cannot divide by zero`},
		{`.payload.s | tonumber`, `tonumber cannot take this string`},
		{`.payload.s | fromjson`, `fromjson cannot take this string`},
		{`.payload | has(1)`, `has cannot take object, or not with this argument`},
		{`.payload.s | strptime("%Y")`, `strptime cannot take this string, or not with this argument`},
		{`.payload.s | keys`, `keys cannot take string`},
		{`.payload | @csv`, `csv cannot take object`},
		{`[.payload] | @csv`, `@csv cannot take an array with object in it`},
		{`.payload | {(.list): 1}`, `an object's key must be a string, got array`},
		{`.payload.s | format(.)`, `there is no such format`},
		{`.payload | setpath(["s", "a"]; .s)`, `setpath cannot take this object, or not with these arguments`},
		{`.payload | join(.s)`, `cannot add string and array`},
		{`.payload.s | error`, `error was called`},
		{`error(.payload.s)`, `error was called`},
		{`error("it is \(.payload.s)")`, `error was called`},
		{`error(.payload)`, `error was called`},
		{`error("amount is\nmissing")`, `error: amount is missing`},
		{`try error("x") catch error(.)`, `error: x`},
		{`.payload.s | halt_error`, `halt is not supported`},
		{`halt`, `halt is not supported`},
		{`try halt catch 1`, `halt is not supported`},
		{`.payload.s, .payload.s`, `yields more than one output`},
		{`.payload.s, error(.payload.s)`, `error was called`},
		{`.payload | test("a")`, `test cannot take object, or not with these arguments`},
		{`.payload.s | modulemeta`, `cannot be evaluated for this event`},
		{`.payload | to_entries | from_entries | .s | ltrimstr("h") | implode`, `implode cannot take string`},
	}
	const payload = `{"s": "hunter2", "list": ["hunter2"], "null": null, "hunter2": "hunter2"}`
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			m := apply(t, mustJQ(t, tt.text), message(payload))
			if m.Err == nil || !strings.Contains(m.Err.Error(), tt.want) {
				t.Fatalf("got  %v\nwant %s", m.Err, tt.want)
			}
			if strings.Contains(m.Err.Error(), secret) || IsRetryable(m.Err) || m.Skipped != "" || string(m.Payload) != payload {
				t.Errorf("got %v, retryable %t, skipped %q, payload %s", m.Err, IsRetryable(m.Err), m.Skipped, m.Payload)
			}
		})
	}
}

func TestJQRefusesPayloads(t *testing.T) {
	tests := []struct{ name, payload, want string }{
		{"no JSON", `{"hunter2": hunter2}`, `payload: invalid JSON at byte 12: no value begins like this`},
		{"nothing", ``, `payload: invalid JSON at byte 0: the text ends where a value is needed`},
		{"long number", strings.Repeat("9", maxNumber+1), `payload: a number has too many digits`},
		{"large exponent", `[{"a": 1e-1001}]`, `payload: a number has too many digits`},
		{"too deep", strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), `nested deeper than 10000`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := apply(t, mustJQ(t, `1`), message(tt.payload))
			if m.Err == nil || !strings.Contains(m.Err.Error(), tt.want) || strings.Contains(m.Err.Error(), secret) {
				t.Errorf("got  %v\nwant %s", m.Err, tt.want)
			}
		})
	}
}

func TestJQEnds(t *testing.T) {
	const slow = "takes longer than 50ms"
	tests := []struct{ text, want string }{
		{`def f: f; f`, slow},
		{`def f: [f]; f`, slow},
		{`last(range(infinite))`, slow},
		{`[range(infinite)]`, slow},
		{`[repeat(1)]`, slow},
		{`1, last(repeat(.))`, slow},
		{`until(false; .)`, slow},
		{`try last(range(infinite)) catch 1`, slow},
		{`reduce range(infinite) as $i (0; [.])`, slow},
		{`reduce range(1000) as $i ("x"; . + .)`, `the result of + is too large`},
		{`reduce range(1000) as $i ("x"; . += .)`, `the result of + is too large`},
		{`reduce range(1000) as $i ([0]; . + .)`, `the result of + is too large`},
		{`reduce range(1000) as $i (3; . * .)`, `the result of * is too large`},
		{`reduce range(1000) as $i (3; . *= .)`, `the result of * is too large`},
		{`"x" * .payload.n`, `the result of * is too large`},
		{`.payload.n * "x"`, `the result of * is too large`},
		{`"x" * 1e9`, `the result of * is too large`},
		{`[] | .[500000000] = 1`, `the index is too large`},
		{`.payload.list | .[.[2]] = 1`, `the index is too large`},
		{`.payload.n as $n | [] | setpath([$n]; 1)`, `an index in it too large`},
		{`{} | setpath([range(20000) | "a"]; 1)`, `the path is too long`},
		{`[range(20000)] | . - map(-.)`, `the arrays are too large for -`},
		{`[range(20000)] | . -= map(-.)`, `the arrays are too large for -`},
		{`[range(20000)] | contains(map(.))`, `too large to be searched`},
		{`[range(20000)] | indices(map(.))`, `too large to be searched`},
		{`[range(20000)] | join("x" * 1000000)`, `the result of join or add is too large`},
		{`[limit(100; repeat("x" * 1000000))] | add`, `the result of join or add is too large`},
		{`[range(1000)] as $a | [limit(5000; repeat($a))] | add`, `the result of join or add is too large`},
		{`reduce range(40) as $i ("x"; [., .]) | tojson`, `the value is too large to be written out`},
		{`reduce range(40) as $i ("x"; [., .]) | "\(.)"`, `the value is too large to be written out`},
		{`reduce range(40) as $i ("x"; [., .]) | @json`, `the value is too large to be written out`},
		{`reduce range(40) as $i ("x"; [., .]) | @html "<\(.)>"`, `the value is too large to be written out`},
		{`reduce range(40) as $i ("x"; "\(.)\(.)")`, `the value is too large to be written out`},
		{`reduce range(40) as $i ("x"; [., .]) | . == [.[0], .[0]]`, `the values are too large to be compared`},
		{`reduce range(40) as $i ("x"; [., .]) | flatten`, `the value is too large to be written out`},
		{`reduce range(40) as $i ("x"; {a: ., b: .}) | tostring`, `the value is too large to be written out`},
		{`[[range(20000)], (range(20000) | [])] | transpose`, `the result of transpose is too large`},
		{`"a" * 10000 | index("a" * 5000)`, `too large to be searched`},
		{`"a" * 10000 | rindex("a" * 5000), indices("a" * 5000)`, `too large to be searched`},
		{`[range(100)] as $i | .payload.list | .[$i]`, `the index is too large`},
		{`[[range(100)]] as $path | .payload.list | getpath($path)`, `an index in the path is too large`},
		{`"9" * 1001 | tonumber`, `a number has too many digits`},
		{`"9" * 1001 | fromjson`, `a number has too many digits`},
		{`"[\"a\\\"\", -1." + "9" * 1001 + "nonsense" | fromjson`, `a number has too many digits`},
		{`now | strftime("%Y" * 40000)`, `the format is too large`},
		{`"a" * 1000000 | [scan("a")]`, `too many matches`},
		{`"a" * 1000000 | gsub("A"; "b"; "i")`, `too many matches`},
		{`"a" * 1000000 | [match("(a)(b)?"; "g")]`, `too many matches`},
		{`"a" * 1000000 | [match(["a", "g"])]`, `too many matches`},
		{`"a" * 1000000 | split("a"; null)`, `too many matches`},
		{`reduce range(600) as $i ([range(20000)]; [.]) | [paths]`, `the paths are too many or too long`},
		{`reduce range(600) as $i ([range(20000)]; [.]) | [paths(true)]`, `the paths are too many or too long`},
		{`reduce range(600) as $i ([range(20000)]; [.]) | [path(..)]`, `the paths are too many or too long`},
		{`reduce range(600) as $i ([range(20000)]; [.]) | [tostream]`, `the paths are too many or too long`},
		{`reduce range(600) as $i ([range(20000) | {}]; {a: .}) | del(.. | .secret?)`, `the paths are too many or too long`},
		{`"x" * 2000000 | gsub("x"; "y")`, `the text is too large for a regular expression`},
		{`reduce range(40) as $i ("x"; [., .])`, `the new payload is larger than 64 MiB`},
		{`"x" * 60000000 | [., .]`, `the new payload is larger than 64 MiB`},
		{`"\u0001" * 60000000`, `the new payload is larger than 64 MiB`},
		{`reduce range(10001) as $i (0; [.])`, `the new payload is nested deeper than 10000`},
		{`reduce range(10001) as $i (0; {a: .})`, `the new payload is nested deeper than 10000`},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			j, err := newJQ(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			j.timeout = time.Minute
			if tt.want == slow {
				j.timeout = 50 * time.Millisecond
			}
			m := apply(t, Each(j.transform), message(`{"n": 999999999999, "list": [1, 2, 500000000]}`))
			if m.Err == nil || !strings.Contains(m.Err.Error(), tt.want) || IsRetryable(m.Err) != (tt.want == slow) {
				t.Errorf("got  %v\nwant %s", m.Err, tt.want)
			}
		})
	}
}

func TestJQEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	j, err := newJQ(`def f: f; f`)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.transform(ctx, message(`1`)); !errors.Is(err, context.Canceled) || !IsRetryable(err) {
		t.Errorf("got %v, want the context's end, retryable", err)
	}
}

// What stands before operators and functions changes nothing but what is too
// large: the outputs, their order, errors and paths are gojq's.
func TestJQGuardsChangeNoOutput(t *testing.T) {
	for _, text := range []string{
		`(1, 2) + (10, 20)`, `(1, 2) * (10, 20)`, `(10, 20) - (1, 2)`, `[(1, 2) + 3 - (4, 5) * 6]`,
		`"ab" * 3`, `3 * "ab"`, `"ab" * 0`, `"ab" * -1`, `"ab" * nan`, `"a" + "b" + null`, `null + null`,
		`{"a": {"b": 1}} * {"a": {"c": 2}}`, `[1, 2, 3, 2] - [2]`, `[] - []`, `-1 - -2`,
		`.payload.a += (1, 2)`, `.payload.a -= 1`, `.payload.a *= 3`, `.payload.list[] += 1`, `.payload |= (.a += 1 | .b = .a + .a)`,
		`.payload | .list[(0, 1)]`, `.payload | .list[-1]`, `.payload.list[length - 1:]`, `.payload | path(.list[1 - 1])`,
		`.payload | .list[.a] = 9`, `.payload | .["a" + ""] = 9`, `.payload | del(.list[1 - 1])`, `.payload | .list[1:2] = [7, 8]`,
		`.payload.list | join((",", ";"))`, `.payload.list | join(",") + "x"`, `[[1, 2], [3]] | transpose`,
		`[1, "a", null] | tojson, tostring, (add? // "none")`, `[1, [2, [3]]] | flatten, flatten((1, 0))`, `{"a": "x", "b": "y"} | add, join("-")`,
		`{} | setpath((["a"], ["b"]); (1, 2))`, `"abcb" | index("b", "c"), rindex("b"), indices("b")`,
		`"foobar" | contains("bar", "baz")`, `[1, [2]] | contains([[2]])`, `[2] | inside([1, 2])`,
		`"aXbX" | sub("X"; "y", "z")`, `"aXbX" | gsub("x"; "-"; "i")`, `"aXbX" | [match("X"; "g").offset]`, `"ab" | test(["B", "i"])`,
		`"a1" | capture("(?<l>[a-z])(?<d>[0-9])")`, `"a, b" | [splits(", *")], split(", *"; null), [scan("[a-z]")]`,
		`"abcabc" | indices("abc"), index("c"), rindex("é")`, `[1, 2, 1, 2] | .[[1, 2]], .[[3]]`, `.payload | getpath(["list", 0], ["a"]) |= 5`, `.payload | path(getpath(["list", 0]))`,
		`"12", " 12" | tonumber? // "no number"`, `"[1, 2.50, \"` + strings.Repeat("9", 2000) + `\"]" | fromjson`, `0 | strftime("%Y-%m-%d")`,
		`[paths], [paths(type == "number")], [tostream]`, `[path(..), path(.payload.list[(0, 1)])]`, `del(.. | .a?), del(.payload.list[(0, 2)])`, `fromstream(tostream)`,
		`def path(f): "mine"; def del(f): path(f); path(1), del(2)`, `"aXbx" | [match(["x", "gi"]).offset], [scan("(x)"; "i")], [scan("[")?]`,
		`def f($x): $x + 1; f(2) + f(3)`, `reduce (1, 2, 3) as $x (0; . + $x)`, `foreach (1, 2, 3) as $x (0; . + $x; . * 2)`,
		`try (1 + "a") catch "caught"`, `(1 + {})? // "none"`, `[.payload.list[] as $x | $x * $x]`, `1 as $_0 | 2 as $_1 | $_0 - $_1 + 10`,
		`@json, @text, (@csv? // "none")`, `@json "<\(.payload)>"`, `@nope? // "none"`, `"\("x")\(1, 2)\("y\(3)")"`, `"a\(1)" as $x | {"b\($x)": $x, "c\(2)": 1}`,
		`(1, 2) == (2, 1)`, `[.payload.a < 2, .payload != .payload, .list >= .a]`, `"\(1 + 2) and \([3, 4] | join("-"))"`, `@base64 "x\("a" + "b")"`, `{(("a" + "b")): (1 + 2)}`, `if 1 + 1 == 2 then "y" else "n" end`,
		`label $out | (1 + 1, break $out, 3)`, `. as {payload: {a: $a}} | $a + 1`, `limit(2; (1, 2, 3) + 1)`, `[paths(. == 1 - 0)] | length`,
		`.payload | [.list[] | . + 1] | add`, `.payload | to_entries | map(.key + "x")`, `.payload | with_entries(.key |= . + "x")`,
	} {
		t.Run(text, func(t *testing.T) {
			query, err := gojq.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := gojq.Compile(query)
			if err != nil {
				t.Fatal(err)
			}
			guarded, err := newJQ(text)
			if err != nil {
				t.Fatal(err)
			}
			got, want := jqOutputs(t, guarded.code), jqOutputs(t, plain)
			if got != want || want == "" {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func jqOutputs(t *testing.T, code *gojq.Code) string {
	t.Helper()
	input, err := jqInput(message(`{"a": 1, "list": [1, 2, 3], "text": "x"}`))
	if err != nil {
		t.Fatal(err)
	}
	var outputs []string
	for it := code.Run(input); ; {
		value, ok := it.Next()
		if !ok {
			return strings.Join(outputs, "\n")
		}
		if err, ok := value.(error); ok {
			return strings.Join(append(outputs, "error: "+err.Error()), "\n")
		}
		output, err := gojq.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, string(output))
	}
}

func TestNewJQFindsMistakes(t *testing.T) {
	tests := []struct{ text, want string }{
		{` `, `parse jq: is empty`},
		{"\xff", `parse jq: is not UTF-8`},
		{strings.Repeat("x", maxJQ+1), `parse jq: has 65537 bytes, at most 65536 are allowed`},
		{`.a |`, `parse jq: line 1, column 5: unexpected EOF`},
		{".a | \"é\" |\n  } .b", `parse jq: line 2, column 3: unexpected token "}"`},
		{`"abc`, `unterminated string literal`},
		{`nope(1)`, `parse jq: function not defined: nope/1`},
		{`$nope`, `parse jq: variable not defined: $nope`},
		{`input`, `parse jq: input(s)/0 is not allowed`},
		{`[inputs]`, `parse jq: input(s)/0 is not allowed`},
		{`import "a" as a; .`, `parse jq: cannot load module: "a"`},
		{`include "a"; .`, `parse jq: cannot load module: "a"`},
		{`import "a" as $a; .`, `parse jq: cannot load module: "a"`},
		{`debug`, `parse jq: function not defined: debug/0`},
		{`debug("x")`, `parse jq: function not defined: debug/1`},
		{`stderr`, `parse jq: function not defined: stderr/0`},
		{`input_filename`, `parse jq: function not defined: input_filename/0`},
		{`.payload | test(.pattern)`, `parse jq: the pattern and the flags of test must be literals`},
		{`.payload | test("a\(.b)")`, `must be literals`},
		{`.payload | test("a"; .flags)`, `must be literals`},
		{`.payload | gsub("a"; "b"; .flags)`, `must be literals`},
		{`.payload | test(["a", .flags])`, `must be literals`},
		{`def f($re): test($re); f("a")`, `must be literals`},
		{`_match("a"; null; false)`, `_match`},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			_, err := NewJQ(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestJQIsSafeForConcurrentUse(t *testing.T) {
	transform := mustJQ(t, `.payload | .n += 1 | .text |= gsub("a"; "b")`)
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			for n := range 200 {
				m := apply(t, transform, message(fmt.Sprintf(`{"n": %d, "text": "aaa"}`, n)))
				if want := fmt.Sprintf(`{"n":%d,"text":"bbb"}`, n+1); string(m.Payload) != want || m.Err != nil {
					t.Fatalf("got %s, %v, want %s", m.Payload, m.Err, want)
				}
			}
		})
	}
}
