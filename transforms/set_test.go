package transforms

import "testing"

func TestSet(t *testing.T) {
	type values map[string]string
	tests := []struct {
		editTest
		values values
	}{
		{editTest{"what exists", `{"a": 1 , "b" : [ ] }`, `{"a": 2 , "b" : {"c":1.0} }`}, values{"a": "2", "b": ` {"c": 1.0} `}},
		{editTest{"repeated key", `{"a":1,"\u0061":2}`, `{"a":3,"\u0061":3}`}, values{"a": "3"}},
		{editTest{"missing member", "{\"a\":1\n}", "{\"a\":1,\"b\":2\n}"}, values{"b": "2"}},
		{editTest{"empty object", "{ }", `{"b":2 }`}, values{"b": "2"}},
		{editTest{"members in the order of their paths", `{}`, `{"a":1,"b":2,"c":3}`}, values{"c": "3", "a": "1", "b": "2"}},
		{editTest{"key that needs escapes", `{}`, `{"\"<é\n":1}`}, values{"\"<é\n": "1"}},
		{editTest{"objects on the way", `{"x":0}`, `{"x":0,"a":{"b":{"c":1,"d":2}}}`}, values{"a.b.c": "1", "a.b.d": "2"}},
		{editTest{"missing in a repeated key", `{"a":{},"a":{"b":1}}`, `{"a":{"b":2},"a":{"b":2}}`}, values{"a.b": "2"}},

		{editTest{"element", `{"l":[1, 2]}`, `{"l":[1, 3]}`}, values{"l.1": "3"}},
		{editTest{"missing element", `{"l":[1, 2]}`, `{"l":[1, 2]}`}, values{"l.2": "3"}},
		{editTest{"key in an array", `{"l":[1]}`, `{"l":[1]}`}, values{"l.x": "3"}},
		{editTest{"into scalars", `{"a":1,"b":"x","c":null}`, `{"a":1,"b":"x","c":null}`}, values{"a.x": "1", "b.x": "1", "c.x": "1"}},
		{editTest{"number in an object", `{"a":{}}`, `{"a":{"0":1}}`}, values{"a.0": "1"}},
		{editTest{"number below what is missing", `{}`, `{}`}, values{"a.0": "1", "b.0.c": "1"}},
		{editTest{"number beside what is made", `{}`, `{"a":{"b":1}}`}, values{"a.0": "1", "a.b": "1"}},

		{editTest{"every member", `{"a":1,"b":{"c":[]}}`, `{"a":0,"b":0}`}, values{"*": "0"}},
		{editTest{"member of every element", `[{"a":1},{},[],2]`, `[{"a":0},{"a":0},[],2]`}, values{"*.a": "0"}},
		{editTest{"star below what is missing", `{}`, `{}`}, values{"a.*": "1", "b.*.c": "1"}},
		{editTest{"star and what is added", `{}`, `{"a":{"b":1}}`}, values{"a.b": "1", "*.c": "2"}},
		{editTest{"key before star", `{"a":1,"b":1}`, `{"a":2,"b":3}`}, values{"a": "2", "*": "3"}},
		{editTest{"first difference decides", `{"a":{"b":0}}`, `{"a":{"b":1}}`}, values{"a.*": "1", "*.b": "2"}},
		{editTest{"missing by star and key", `{"a":{},"z":{}}`, `{"a":{"b":{"x":1,"y":2}},"z":{"b":{"y":2}}}`}, values{"a.b.x": "1", "*.b.y": "2"}},

		{editTest{"inside another's value", `{"a":5}`, `{"a":{"x":1,"b":2}}`}, values{"a": `{"x":1,"b":0}`, "a.b": "2"}},
		{editTest{"inside another's added value", `{}`, `{"a":{"x":1,"b":2}}`}, values{"a": `{"x":1}`, "a.b": "2"}},
		{editTest{"star inside another's value", `{}`, `{"a":[0,0]}`}, values{"a": `[1,2]`, "a.*": "0"}},
		{editTest{"into another's scalar", `{}`, `{"a":1}`}, values{"a": "1", "a.b": "2"}},

		{editTest{"root that is no object", ` "text" `, ` "text" `}, values{"a": "1"}},
		{editTest{"all else stays", ` {"n":1.50e+2,"\u006e":"\/","l":[ 1,{ } ],"a":0 } `, ` {"n":1.50e+2,"\u006e":"\/","l":[ 1,{ } ],"a":1 } `}, values{"a": "1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			transform, err := NewSet(tt.values)
			tt.run(t, transform, err)
		})
	}
}

func TestSetRefusesWhatIsNoJSON(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"empty", "", `path "a.b": value: invalid JSON at byte 0: the text ends where a value is needed`},
		{"text", "secret", `path "a.b": value: invalid JSON at byte 0: no value begins like this`},
		{"two values", "1 2", `path "a.b": value: invalid JSON at byte 2: text after the value`},
		{"not UTF-8", "\"\xff\"", `path "a.b": value: it is not UTF-8`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewSet(map[string]string{"a.b": tt.value}); err == nil || err.Error() != tt.want {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}
