package transforms

import "testing"

func TestRename(t *testing.T) {
	type names map[string]string
	tests := []struct {
		editTest
		names names
	}{
		{editTest{"keeps its place", ` {"a" : 1.0, "b":2} `, ` {"x" : 1.0, "b":2} `}, names{"a": "x"}},
		{editTest{"inside", `{"e":{"ssn":"1"},"ssn":2}`, `{"e":{"nationalId":"1"},"ssn":2}`}, names{"e.ssn": "nationalId"}},
		{editTest{"key that needs escapes", `{"a":1}`, `{"\"<é":1}`}, names{"a": `"<é`}},
		{editTest{"dot in the new key", `{"a":1}`, `{"x.y*\\":1}`}, names{"a": `x\.y\*\\`}},
		{editTest{"escaped key", `{"\u0061":1}`, `{"x":1}`}, names{"a": "x"}},
		{editTest{"repeated key", `{"a":1,"b":2,"a":3}`, `{"x":1,"b":2,"x":3}`}, names{"a": "x"}},
		{editTest{"in every element", `[{"a":1},{"b":2},3,[{"a":1}]]`, `[{"x":1},{"b":2},3,[{"a":1}]]`}, names{"*.a": "x"}},
		{editTest{"what is renamed and in it", `{"a":{"b":1}}`, `{"x":{"y":1}}`}, names{"a": "x", "a.b": "y"}},
		{editTest{"number in an object", `{"0":1}`, `{"x":1}`}, names{"0": "x"}},
		{editTest{"element", `[1]`, `[1]`}, names{"0": "x"}},

		{editTest{"new key stood before", `{"x":0, "a":1}`, `{"a2":1}`}, names{"a": "a2", "x": "a2"}},
		{editTest{"older member before", `{"b":0,"x":1,"a":2}`, `{"b":0,"x":2}`}, names{"a": "x"}},
		{editTest{"older member first", `{ "x":1, "a":2}`, `{ "x":2}`}, names{"a": "x"}},
		{editTest{"older member after", `{"a":2, "\u0078":1 ,"b":0}`, `{"x":2 ,"b":0}`}, names{"a": "x"}},
		{editTest{"older member of another object", `{"x":1,"o":{"a":2}}`, `{"x":1,"o":{"x":2}}`}, names{"o.a": "x"}},
		{editTest{"older member and nothing to rename", `{"x":1,"b":2}`, `{"x":1,"b":2}`}, names{"a": "x"}},
		{editTest{"older members at two levels", `{"x":{"x":0,"a":1},"a":{"a":2,"x":3}}`, `{"x":{"x":2}}`}, names{"a": "x", "*.a": "x"}},

		{editTest{"exchange", `{"a":1,"b":2}`, `{"b":1,"a":2}`}, names{"a": "b", "b": "a"}},
		{editTest{"chain", `{"a":1,"b":2,"c":3}`, `{"b":1,"c":2}`}, names{"a": "b", "b": "c"}},
		{editTest{"two to one key", `{"b":1,"a":2}`, `{"x":2}`}, names{"a": "x", "b": "x"}},
		{editTest{"one of two to one key", `{"b":1}`, `{"x":1}`}, names{"a": "x", "b": "x"}},
		{editTest{"key before star", `{"p":{"a":1},"q":{"a":2}}`, `{"p":{"x":1},"q":{"y":2}}`}, names{"p.a": "x", "*.a": "y"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			transform, err := NewRename(tt.names)
			tt.run(t, transform, err)
		})
	}
}

func TestRenameRefusesWhatIsNoKey(t *testing.T) {
	tests := []struct{ name, path, to, want string }{
		{"star at the end", "a.*", "x", `path "a.*": its last step must be a key`},
		{"same key", "x.a", "a", `path "x.a": the new key is the old one`},
		{"empty", "a", "", `path "a": new key "": it has an empty step`},
		{"path", "a", "b.c", `path "a": new key "b.c": it must be one key; \. is a dot in it and \* a star`},
		{"star", "a", "*", `path "a": new key "*": it must be one key; \. is a dot in it and \* a star`},
		{"not UTF-8", "a", "\xff", `path "a": new key "\xff": it is not UTF-8`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewRename(map[string]string{tt.path: tt.to}); err == nil || err.Error() != tt.want {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}
