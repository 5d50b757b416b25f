package transforms

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

func FuzzStringify(f *testing.F) {
	for _, src := range []string{
		` { "b" : [ 1.0 , -0 , 1e400 ] , "1" : { } , "b" : "\/\u0041" } `,
		`{"4294967295":1,"4294967294":2,"01":3,"\u0031":4,"1":5,"__proto__":6}`,
		`["\ud83d\ude00\uD800x\udc00\ud800\ud800\udc00", "` + "\u2028\x7f" + `\u001f\u0008"]`,
		`[123456789012345,1234567890123456,0.000001,0.0000001,1.50,5e-324,1e21,100e-2]`,
		`[1,]`, "\"\xff\"", "\"\xed\xa0\x80\"", "1 2", `"\ud800`,
		manyMembers("k1"), manyMembers("1"),
	} {
		f.Add([]byte(src))
	}
	for i := range 50 {
		f.Add([]byte(newGenerator(generated + uint64(i)).document()))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		got, err := Stringify([]byte("before"), src)
		if !bytes.HasPrefix(got, []byte("before")) {
			t.Fatalf("got %q, which does not begin with what was there", got)
		}
		got = got[len("before"):]
		if valid := Valid(src) == nil && utf8.Valid(src); (err == nil) != valid {
			t.Fatalf("got error %v, but valid UTF-8 JSON: %t", err, valid)
		}
		if err != nil {
			if len(got) > 0 {
				t.Fatalf("got %q with error %v", got, err)
			}
			return
		}
		if !json.Valid(got) {
			t.Fatalf("got %q, which is no JSON", got)
		}
		if again, err := Stringify(nil, got); err != nil || !bytes.Equal(again, got) {
			t.Fatalf("got %q, but %q from that, %v", got, again, err)
		}
		if want := stringifySlowly(t, src); string(got) != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

// stringifySlowly does what Stringify does by encoding/json's tokens, a map for
// each object and UTF-16 for each string.
func stringifySlowly(t *testing.T, src []byte) string {
	r := &reader{t: t, src: src, decoder: json.NewDecoder(bytes.NewReader(src))}
	r.decoder.UseNumber()
	return r.value()
}

type reader struct {
	t       *testing.T
	src     []byte
	decoder *json.Decoder
}

// next returns the next token and its text.
func (r *reader) next() (json.Token, string) {
	start := r.decoder.InputOffset()
	token, err := r.decoder.Token()
	if err != nil {
		r.t.Fatal(err)
	}
	return token, strings.TrimLeft(string(r.src[start:r.decoder.InputOffset()]), ":, \t\r\n")
}

func (r *reader) value() string {
	token, text := r.next()
	switch token := token.(type) {
	case json.Delim:
		if token == '{' {
			return r.object()
		}
		var items []string
		for r.decoder.More() {
			items = append(items, r.value())
		}
		r.next()
		return "[" + strings.Join(items, ",") + "]"
	case string:
		return requote(text)
	case json.Number:
		return r.number(text)
	default:
		return text
	}
}

func (r *reader) object() string {
	values := map[string]string{}
	var names []string
	indexes := map[string]uint64{}
	for r.decoder.More() {
		_, text := r.next()
		key := requote(text)
		if _, repeated := values[key]; !repeated {
			digits := key[1 : len(key)-1]
			n, err := strconv.ParseUint(digits, 10, 32)
			if err == nil && n <= math.MaxUint32-1 && strconv.FormatUint(n, 10) == digits {
				indexes[key] = n
			} else {
				names = append(names, key)
			}
		}
		values[key] = r.value()
	}
	r.next()
	keys := make([]string, 0, len(values))
	for key := range indexes {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return int(int64(indexes[a]) - int64(indexes[b])) })
	var members []string
	for _, key := range append(keys, names...) {
		members = append(members, key+":"+values[key])
	}
	return "{" + strings.Join(members, ",") + "}"
}

func (r *reader) number(text string) string {
	f, _ := strconv.ParseFloat(text, 64)
	if math.IsInf(f, 0) {
		return "null"
	}
	if f == 0 {
		return "0" // encoding/json has -0
	}
	printed, err := json.Marshal(f)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(printed)
}

// requote decodes a string in quotes to UTF-16 and encodes it again.
func requote(quoted string) string {
	named := map[byte]uint16{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', '"': '"', '\\': '\\', '/': '/'}
	var units []uint16
	for body := quoted[1 : len(quoted)-1]; body != ""; {
		switch {
		case body[0] != '\\':
			r, size := utf8.DecodeRuneInString(body)
			units = utf16.AppendRune(units, r)
			body = body[size:]
		case body[1] == 'u':
			unit, err := strconv.ParseUint(body[2:6], 16, 16)
			if err != nil {
				panic(err)
			}
			units = append(units, uint16(unit))
			body = body[6:]
		default:
			units = append(units, named[body[1]])
			body = body[2:]
		}
	}
	short := map[uint16]string{'\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '"': `\"`, '\\': `\\`}
	var text strings.Builder
	text.WriteByte('"')
	for i := 0; i < len(units); i++ {
		unit := rune(units[i])
		switch {
		case short[units[i]] != "":
			text.WriteString(short[units[i]])
		case i+1 < len(units) && unit >= 0xd800 && unit < 0xdc00 && units[i+1] >= 0xdc00 && units[i+1] < 0xe000:
			text.WriteRune(0x10000 + (unit-0xd800)<<10 + rune(units[i+1]) - 0xdc00)
			i++
		case unit < ' ' || unit >= 0xd800 && unit < 0xe000:
			fmt.Fprintf(&text, `\u%04x`, unit)
		default:
			text.WriteRune(unit)
		}
	}
	text.WriteByte('"')
	return text.String()
}
