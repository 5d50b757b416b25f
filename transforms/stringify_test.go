package transforms

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestStringifyWritesWhatECMAScriptWrites(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"scalar", " \t\r\n1 \n", `1`},
		{"words", "[ true ,false\t, null ]", `[true,false,null]`},
		{"empty", `[ { } , [ ] , "" ]`, `[{},[],""]`},
		{"white space", "{ \"a\" :\r\n[ 1 ,\t{ \"b\" : \" \" } ] }", `{"a":[1,{"b":" "}]}`},

		{"integers", `[0,-0,7,-7,123456789012345]`, `[0,0,7,-7,123456789012345]`},
		{"large integers", `[9007199254740993,12345678901234567890,1000000000000000000000]`, `[9007199254740992,12345678901234567000,1e+21]`},
		{"fractions", `[1.0,4500.5,4500.50,-0.0,-0.5,0.10,100.00]`, `[1,4500.5,4500.5,0,-0.5,0.1,100]`},
		{"small fractions", `[0.000001,0.0000001,0.00000010,0.0000015,0.0000000]`, `[0.000001,1e-7,1e-7,0.0000015,0]`},
		{"many digits", `[0.1234567890123456789,1.7976931348623157,179.769313486231570000]`, `[0.12345678901234568,1.7976931348623157,179.76931348623157]`},
		{"exponents", `[1e0,1E3,1e+3,1.5e-3,1e20,1e21,-1e21,1e-6,1e-7,1.5E-10,1e100,1e-100]`, `[1,1000,1000,0.0015,100000000000000000000,1e+21,-1e+21,0.000001,1e-7,1.5e-10,1e+100,1e-100]`},
		{"ends of the doubles", `[1.7976931348623157e308,5e-324,2e-324,1e-400,-1e-400]`, `[1.7976931348623157e+308,5e-324,0,0,0]`},
		{"infinity", `[1e309,-1e309,1e400,1.7976931348623159e308]`, `[null,null,null,null]`},

		{"escapes that stay", `"\"\\\b\f\n\r\t\u0001"`, `"\"\\\b\f\n\r\t\u0001"`},
		{"escapes that go", `"\/\u0041\u00e9\u2028\u2029\u003c\ufeff\u007f"`, "\"/Aé\u2028\u2029<\ufeff\x7f\""},
		{"escapes written anew", `"\u0022\u005C\u0008\u0009\u000A\u000b\u000C\u000d\u001F"`, `"\"\\\b\t\n\u000b\f\r\u001f"`},
		{"raw characters", "\"/<>&é\u2028😀\x7f\"", "\"/<>&é\u2028😀\x7f\""},
		{"surrogate pairs", `"\ud83d\ude00\uD83D\uDE00"`, `"😀😀"`},
		{"lone surrogates", `"\uD83D \uDE00\ud83d\uD83D\uDE00\udbff\u0041\uDFFF"`, `"\ud83d \ude00\ud83d😀\udbffA\udfff"`},
		{"high surrogate before an escape", `"\uD83D\n\ud83d\\ude00"`, `"\ud83d\n\ud83d\\ude00"`},
		{"mixed text", `"a\/b\/c\n\u00e9d"`, `"a/b/c\néd"`},

		{"names keep their order", `{"b":1,"a":2,"__proto__":3,"constructor":{}}`, `{"b":1,"a":2,"__proto__":3,"constructor":{}}`},
		{"indexes come first", `{"b":1,"10":2,"a":3,"9":4,"0":5}`, `{"0":5,"9":4,"10":2,"b":1,"a":3}`},
		{"indexes that are in order", `{"0":1,"9":2,"10":3,"a":4}`, `{"0":1,"9":2,"10":3,"a":4}`},
		{"indexes among many names", manyMembers("1"), `{"1":0,` + manyMembers("")[1:]},
		{"the highest index", `{"42949672940":1,"4294967295":2,"4294967294":3,"4294967293":4}`, `{"4294967293":4,"4294967294":3,"42949672940":1,"4294967295":2}`},
		{"not indexes", `{"01":1,"-0":2,"-1":3,"1.0":4,"1e3":5," 1":6,"00":7,"1a":8,"":9,"1":0}`, `{"1":0,"01":1,"-0":2,"-1":3,"1.0":4,"1e3":5," 1":6,"00":7,"1a":8,"":9}`},
		{"escaped index", `{"a":1,"\u0031":2}`, `{"1":2,"a":1}`},
		{"repeated name", `{"a":1,"b":2,"a":3}`, `{"a":3,"b":2}`},
		{"repeated three times", `{"a":1,"b":2,"a":3,"c":4,"a":[5]}`, `{"a":[5],"b":2,"c":4}`},
		{"repeated index", `{"2":1,"1":2,"2":3}`, `{"1":2,"2":3}`},
		{"repeated after unescaping", `{"a":1,"b":2,"\u0061":3,"/":4,"\/":5}`, `{"a":3,"b":2,"/":5}`},
		{"repeated surrogate", `{"\ud800":1,"\uD800":2}`, `{"\ud800":2}`},
		{"repeated __proto__", `{"__proto__":1,"a":2,"__proto__":{"b":[]}}`, `{"__proto__":{"b":[]},"a":2}`},
		{"repeated among many names", manyMembers(`k3`), strings.Replace(manyMembers(""), `"k3":3`, `"k3":0`, 1)},
		{"order inside of order", `{"b":[{"2":0,"1":{"z":1,"0":2}}],"a":{"x":1,"x":2},"0":{"y":{"b":0,"1":1}}}`, `{"0":{"y":{"1":1,"b":0}},"b":[{"1":{"0":2,"z":1},"2":0}],"a":{"x":2}}`},
		{"order inside of what is left out", `{"a":{"z":0,"1":1},"b":{"z":0,"2":2},"a":{"y":0,"3":3}}`, `{"a":{"3":3,"y":0},"b":{"2":2,"z":0}}`},

		{"deep arrays", strings.Repeat("[ ", 10_000) + strings.Repeat("]", 10_000), strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)},
		{"deep order", strings.Repeat(`{"a":0,"1":`, 10_000) + "1.0" + strings.Repeat("}", 10_000), strings.Repeat(`{"1":`, 10_000) + "1" + strings.Repeat(`,"a":0}`, 10_000)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Stringify([]byte(`{"7":"before",`), []byte(tt.src))
			if err != nil {
				t.Fatal(err)
			}
			if want := `{"7":"before",` + tt.want; string(got) != want {
				t.Errorf("%.300s\ngot  %.300s\nwant %.300s", tt.src, got, want)
			}
		})
	}
}

// manyMembers returns an object of so many members that their keys are looked
// up in a hash table, followed by one of the key last if that is not empty.
func manyMembers(last string) string {
	src := []byte{'{'}
	for i := range 10 * fewMembers {
		src = fmt.Appendf(src, `"k%d":%d,`, i, i)
	}
	if last != "" {
		src = fmt.Appendf(src, "%q:0,", last)
	}
	src[len(src)-1] = '}'
	return string(src)
}

func TestStringifyRefusesWhatIsNotJSONText(t *testing.T) {
	deep := strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001)
	tests := []struct{ name, src, want string }{
		{"empty", "", "invalid JSON at byte 0: the text ends where a value is needed"},
		{"cut off", `{"a":`, "invalid JSON at byte 5: the text ends where a value is needed"},
		{"two values", "1 2", "invalid JSON at byte 2: text after the value"},
		{"byte order mark", "\ufeff1", "invalid JSON at byte 0: no value begins like this"},
		{"too deep", deep, "invalid JSON at byte 10000: nested deeper than 10000"},
		{"not UTF-8", "[\"é\ufffd\xff\"]", "invalid JSON at byte 7: the text is not UTF-8"},
		{"raw surrogate", "\"\xed\xa0\x80\"", "invalid JSON at byte 1: the text is not UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Stringify([]byte("before"), []byte(tt.src))
			if err == nil || err.Error() != tt.want {
				t.Errorf("got error %v, want %s", err, tt.want)
			}
			if string(got) != "before" {
				t.Errorf("got %q, want dst as it was", got)
			}
		})
	}
}

// A number that is copied as it stands must be what printing it yields.
func TestNumbersThatAreCopiedPrintAsTheyStand(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	copied := 0
	for range 300_000 {
		text := strconv.AppendUint(nil, r.Uint64()>>r.IntN(64), 10)
		if r.IntN(4) == 0 {
			text = []byte("0")
		}
		if r.IntN(3) > 0 {
			text = append(text, '.')
			text = append(text, strings.Repeat("0", r.IntN(8))...)
			text = strconv.AppendUint(text, r.Uint64()>>r.IntN(64), 10)
			text = append(text, strings.Repeat("0", max(0, r.IntN(8)-4))...)
		}
		if r.IntN(2) == 0 {
			text = append([]byte{'-'}, text...)
		}
		end, same := readNumber(text)
		if end != len(text) {
			t.Fatalf("%s: read %d bytes", text, end)
		}
		if same == 0 {
			continue
		}
		copied++
		if got := appendNumber(nil, text); !bytes.Equal(got, text[:same]) {
			t.Fatalf("%s is copied as %s but prints as %s", text, text[:same], got)
		}
	}
	if copied < 50_000 {
		t.Errorf("only %d numbers are copied", copied)
	}
}

// A sender must not be able to make the relay work long on a small payload. What
// takes 50 ms here takes minutes when each key is compared with each other one, or
// when objects inside of objects are moved once for each level.
func TestStringifyBearsHostileObjects(t *testing.T) {
	members := func(format string) []byte {
		src := []byte{'{'}
		for i := 0; len(src) < 2<<20; i++ {
			src = fmt.Appendf(src, format, i)
		}
		return append(src, `"":0}`...)
	}
	nested := strings.Repeat(`{"a":0,"a":`, 10_000) + `"` + strings.Repeat("x", 8<<20) + `"` + strings.Repeat("}", 10_000)
	tests := []struct {
		name string
		src  []byte
	}{
		{"one key", members(`"a":%d,`)},
		{"tiny members", []byte("{" + strings.Repeat(`"":0,`, 400_000) + `"":0}`)},
		{"different keys", members(`"k%d":0,`)},
		{"two keys in turn", members(`"a":%d,"b":0,`)},
		{"indexes", members(`"%d":0,`)},
		{"objects of one level", members(`"a":{"x":%d,"1":0,"x":0},`)},
		{"order at every level", []byte(nested)},
		{"escapes", []byte(`"` + strings.Repeat(`\u0041`, 400_000) + `"`)},
		{"one number", bytes.Repeat([]byte{'9'}, 2<<20)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, err := Stringify(nil, tt.src)
			runtime.ReadMemStats(&after)
			if err != nil || !json.Valid(got) {
				t.Fatalf("got %d bytes, %v", len(got), err)
			}
			// All that was allocated, thus also what growing buffers left behind.
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 100*uint64(len(tt.src)) {
				t.Errorf("allocated %d bytes for %d", allocated, len(tt.src))
			}
		})
	}
}

func BenchmarkStringify(b *testing.B) {
	for _, name := range []string{"leave", "device", "message"} {
		src, err := os.ReadFile("testdata/stringify/" + name + ".json")
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) { benchmarkStringify(b, src) })
		b.Run(name+"_64K", func(b *testing.B) {
			page := append([]byte(`{"page":1,"items":[`), src...)
			for len(page) < 64<<10 {
				page = append(append(page, ','), src...)
			}
			benchmarkStringify(b, append(page, "]}"...))
		})
	}
	b.Run("names_64K", func(b *testing.B) { benchmarkStringify(b, records("rec_%d")) })
	b.Run("indexes_64K", func(b *testing.B) { benchmarkStringify(b, records("%d")) })
}

// records returns 64 KiB of records by their keys, which format yields of
// descending numbers.
func records(format string) []byte {
	src := []byte{'{'}
	for i := 100_000; len(src) < 64<<10; i-- {
		src = fmt.Appendf(src, `"`+format+`":{"state":"open","count":%d},`, i, i)
	}
	src[len(src)-1] = '}'
	return src
}

func benchmarkStringify(b *testing.B, src []byte) {
	var dst []byte
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		got, err := Stringify(dst[:0], src)
		if err != nil {
			b.Fatal(err)
		}
		dst = got
	}
	if again, err := Stringify(nil, dst); err != nil || !slices.Equal(again, dst) {
		b.Errorf("the result's result differs: %v", err)
	}
}
