package transforms

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestValidSaysWhatIsWrongAndWhere(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	tests := []struct{ src, want string }{
		{` {"a": [1, -0.5e+3, true, false, null, "\u00e9\n<\u2028"]} `, ""},
		{`"` + "\xff" + `"`, ""},
		{deep(10_000), ""},
		{deep(10_001), "invalid JSON at byte 10000: nested deeper than 10000"},
		{strings.Repeat(`[[],{},`, 9_999) + "[]" + strings.Repeat("]", 9_999), ""},
		{"", "invalid JSON at byte 0: the text ends where a value is needed"},
		{"secret", "invalid JSON at byte 0: no value begins like this"},
		{"nul", "invalid JSON at byte 0: no value begins like this"},
		{"{} {}", "invalid JSON at byte 3: text after the value"},
		{"[1,]", "invalid JSON at byte 3: no value begins like this"},
		{"[1 2]", "invalid JSON at byte 3: a comma or ']' is needed"},
		{`{"a":1]`, "invalid JSON at byte 6: a comma or '}' is needed"},
		{`{"a":1,}`, "invalid JSON at byte 7: an object's key is needed"},
		{`{"a" 1}`, "invalid JSON at byte 5: a colon is needed after the key"},
		{`{"a":`, "invalid JSON at byte 5: the text ends where a value is needed"},
		{"01", "invalid JSON at byte 1: text after the value"},
		{"-", "invalid JSON at byte 1: a number's digit is needed"},
		{"1.e3", "invalid JSON at byte 2: a number's digit is needed"},
		{"1e", "invalid JSON at byte 2: a number's digit is needed"},
		{`"abc`, "invalid JSON at byte 4: the text ends inside a string"},
		{`"abc\`, "invalid JSON at byte 5: the text ends inside a string"},
		{`"\x"`, "invalid JSON at byte 2: unknown escape in a string"},
		{`"\u00g0"`, `invalid JSON at byte 5: four hexadecimal digits are needed after \u`},
		{"\"a\nb\"", "invalid JSON at byte 2: a control character stands in a string"},
	}
	for _, tt := range tests {
		got := ""
		if err := Valid([]byte(tt.src)); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%.40q: got %q, want %q", tt.src, got, tt.want)
		}
	}
}

func TestCompactDropsWhiteSpaceBetweenTokensOnly(t *testing.T) {
	src := " {\r\n\t\"b\" : \" \\\" \\\\\" , \"a\":[ 1.0 , 1e21,-0 ] ,\"b\":\"<\u2028\\u2028\\/\xff\" } "
	want := "before{\"b\":\" \\\" \\\\\",\"a\":[1.0,1e21,-0],\"b\":\"<\u2028\\u2028\\/\xff\"}"
	got, err := Compact([]byte("before"), []byte(src))
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v\nwant %q", got, err, want)
	}
	if got, err := Compact([]byte("before"), []byte("{")); err == nil || string(got) != "before" {
		t.Errorf("invalid JSON: got %q, %v; want dst as it was and an error", got, err)
	}
}

func FuzzCompact(f *testing.F) {
	for _, seed := range []string{` {"a" : [1, "\" \\"] } `, `[1,]`, "\"\\u12", "-0.1E5", "\"\xff\x00\""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var want bytes.Buffer
		wantErr := json.Compact(&want, src)
		got, err := Compact(nil, src)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("got error %v, encoding/json's %v", err, wantErr)
		}
		if err == nil && !bytes.Equal(got, want.Bytes()) {
			t.Errorf("got  %q\nwant %q", got, want.Bytes())
		}
	})
}

func TestGetReturnsTheBytesAtAPath(t *testing.T) {
	const document = ` {"id":"clx123", "n": 1.0, "e": {"a.b": 1, "": 2}, "list": [ {"x": null}, [true , "\u00e9"] ],
		"twice": {"a": 1}, "twice": {"a": 2, "a": [3 ]}, "gone": {"a": 1}, "gone": 5, "\u006bey": "é", "0": "key"} `
	tests := []struct{ path, want string }{
		{"id", `"clx123"`},
		{"n", `1.0`},
		{"list.0", `{"x": null}`},
		{"list.0.x", `null`},
		{"list.1", `[true , "\u00e9"]`},
		{"list.1.1", `"\u00e9"`},
		{"list.2", `null`},
		{"list.01", `null`},
		{"list.-1", `null`},
		{"list.x", `null`},
		{"list.99999999999999999999", `null`},
		{"twice.a", `[3 ]`},
		{"twice.a.0", `3`},
		{"gone.a", `null`},
		{"key", `"é"`},
		{"0", `"key"`},
		{"id.x", `null`},
		{"absent", `null`},
		{"absent.x", `null`},
	}
	for _, tt := range tests {
		got, err := get(document, tt.path)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.path, got, err, tt.want)
		}
	}
}

func TestGetRefusesBadPathsAndDocuments(t *testing.T) {
	tests := []struct{ document, path, want string }{
		{"{}", "", "the path has an empty step"},
		{"{}", "a..b", "the path has an empty step"},
		{"{}", strings.Repeat("a.", 100) + "a", "the path has more than 100 steps"},
		{`{"a":1`, "a", "invalid JSON at byte 6: a comma or '}' is needed"},
	}
	for _, tt := range tests {
		if _, err := get(JSON(tt.document), tt.path); err == nil || err.Error() != tt.want {
			t.Errorf("get %q %q: got %v, want %s", tt.document, tt.path, err, tt.want)
		}
	}
}

// getDecoded does what get does with encoding/json.
func getDecoded(document []byte, path string) []byte {
	for step := range strings.SplitSeq(path, ".") {
		var object map[string]json.RawMessage
		var array []json.RawMessage
		switch {
		case json.Unmarshal(document, &object) == nil && object != nil:
			document = object[step]
		case json.Unmarshal(document, &array) == nil && index(step) >= 0 && index(step) < len(array):
			document = array[index(step)]
		default:
			return []byte("null")
		}
		if document == nil {
			return []byte("null")
		}
	}
	return document
}

func FuzzGet(f *testing.F) {
	f.Add([]byte(`{"a": {"b": [1, {"c": "x"}]}, "a": {"b": 2}}`), "a.b.1.c")
	f.Add([]byte(`[[1, 2.50], "\ud800"]`), "0.1")
	f.Add([]byte(`{"\u0061":{}} x`), "a")
	f.Fuzz(func(t *testing.T, document []byte, path string) {
		got, err := get(JSON(document), path)
		if err != nil {
			usable := path != "" && !strings.Contains("."+path+".", "..") && strings.Count(path, ".") < maxSteps
			if usable && json.Valid(document) {
				t.Fatalf("valid document and path: %v", err)
			}
			return
		}
		if !json.Valid([]byte(got)) {
			t.Fatalf("got %q, which is no JSON", got)
		}
		// Decoding replaces invalid UTF-8 in keys, so such a path finds nothing there.
		if want := getDecoded(document, path); utf8.ValidString(path) && string(got) != string(want) {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func BenchmarkValid(b *testing.B) {
	var src []byte
	for i := range 8 {
		src = fmt.Appendf(src, `%c"key%d": {"prId": "clx123", "amount": 4500.5, "tags": [1, 2, true]}`, "{,,,,,,,"[i], i)
	}
	src = append(src, '}')
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Valid(src); err != nil {
			b.Fatal(err)
		}
	}
}
