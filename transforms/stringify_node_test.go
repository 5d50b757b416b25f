package transforms

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// generated is how many documents the test against Node.js generates.
const generated = 8_000

// TestStringifyEqualsNode compares Stringify with the JSON of Node.js, which
// has to be installed. All documents go through one process.
func TestStringifyEqualsNode(t *testing.T) {
	var documents []string
	for i := range generated {
		documents = append(documents, newGenerator(uint64(i)).document())
	}
	for _, unit := range []string{"[", `{"a":0,"1":`, `{"a":[`} {
		closing := map[string]string{"[": "]", `{"a":0,"1":`: "}", `{"a":[`: "]}"}[unit]
		documents = append(documents, strings.Repeat(unit, 1_500)+"1.0"+strings.Repeat(closing, 1_500))
	}
	refused, changed := 0, 0
	for i, want := range stringifyByNode(t, documents) {
		got, err := Stringify(nil, []byte(documents[i]))
		switch {
		case (err != nil) != (want == "error"):
			t.Errorf("document %d %.2000q: got error %v, Node.js has %.2000q", i, documents[i], err, want)
		case err != nil:
			refused++
		case string(got) != want:
			t.Errorf("document %d %.2000q:\ngot  %.2000q\nwant %.2000q", i, documents[i], got, want)
		case want != documents[i]:
			changed++
		}
	}
	// The corpus must stay worth the comparison.
	if refused < generated/50 || changed < generated*3/4 {
		t.Errorf("of %d documents only %d are refused and %d changed", len(documents), refused, changed)
	}
}

// stringifyByNode returns what testdata/stringify.js writes for each document.
func stringifyByNode(t *testing.T, documents []string) []string {
	t.Helper()
	var input, stderr bytes.Buffer
	encoder := json.NewEncoder(&input)
	for _, document := range documents {
		if err := encoder.Encode(document); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "testdata/stringify.js")
	cmd.Stdin, cmd.Stderr = &input, &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("run Node.js, which this test needs: %v\n%s", err, stderr.String())
	}
	results := strings.Split(strings.TrimSuffix(string(output), "\n"), "\n")
	if len(results) != len(documents) {
		t.Fatalf("Node.js wrote %d results for %d documents", len(results), len(documents))
	}
	return results
}

// generator writes documents that are hard to stringify: the same for the same
// seed.
type generator struct {
	*rand.Rand
	text strings.Builder
	keys []string
}

func newGenerator(seed uint64) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
}

func (g *generator) document() string {
	// A document has few different keys, so that some of them repeat.
	for range 1 + g.IntN(20) {
		g.keys = append(g.keys, g.key())
	}
	g.space()
	g.value(g.IntN(6))
	g.space()
	document := g.text.String()
	if g.IntN(12) == 0 {
		return g.spoil(document)
	}
	return document
}

// spoil changes one character of document, which mostly makes it invalid.
func (g *generator) spoil(document string) string {
	runes := []rune(document)
	at := g.IntN(len(runes))
	switch g.IntN(3) {
	case 0:
		runes = slices.Delete(runes, at, at+1)
	case 1:
		runes[at] = g.pick(spoiling)
	default:
		runes = slices.Insert(runes, at, g.pick(spoiling))
	}
	return string(runes)
}

var spoiling = []rune("{}[]\",:\\/ue+-.0123456789tfn \n\t\x00\x1f\x7f\u00a0\u2028\ufeff")

func (g *generator) pick(runes []rune) rune { return runes[g.IntN(len(runes))] }

func (g *generator) one(of ...string) string { return of[g.IntN(len(of))] }

func (g *generator) space() {
	g.text.WriteString(g.one("", "", "", "", " ", "\n", "\t", "\r\n", "  \t "))
}

// value writes a value in which at most depth levels are nested.
func (g *generator) value(depth int) {
	kind := g.IntN(10)
	switch {
	case depth > 0 && kind < 5:
		g.list('{', '}', func() {
			g.text.WriteString(g.one(g.keys...))
			g.space()
			g.text.WriteByte(':')
			g.space()
			g.value(depth - 1)
		})
	case depth > 0 && kind < 7:
		g.list('[', ']', func() { g.value(depth - 1) })
	case kind < 5:
		g.text.WriteString(g.number())
	case kind < 9:
		g.text.WriteString(g.quoted())
	default:
		g.text.WriteString(g.one("true", "false", "null"))
	}
}

func (g *generator) list(opening, closing byte, write func()) {
	g.text.WriteByte(opening)
	g.space()
	n := g.IntN(6)
	switch {
	case g.text.Len() > 1_000: // is large enough
		n = g.IntN(2)
	case g.IntN(20) == 0:
		n = g.IntN(60)
	}
	for i := range n {
		if i > 0 {
			g.text.WriteByte(',')
			g.space()
		}
		write()
		g.space()
	}
	g.text.WriteByte(closing)
}

// key returns a key in quotes.
func (g *generator) key() string {
	switch g.IntN(6) {
	case 0, 1:
		return g.one(`"a"`, `"b"`, `"id"`, `"\u0061"`, `"\u0069d"`, `""`, `"__proto__"`, `"\u005f_proto__"`,
			`"constructor"`, `"toString"`, `"toJSON"`, `"length"`, `"hasOwnProperty"`, `"NaN"`, `"é"`, `"\u00e9"`, `"e\u0301"`)
	case 2:
		return g.one(`"0"`, `"1"`, `"2"`, `"9"`, `"10"`, `"\u0031"`, `"1\u0030"`, `"01"`, `"00"`, `"-0"`, `"-1"`, `"+1"`, `"1e3"`, `"1.0"`, `"1."`,
			`" 1"`, `"1 "`, `"0x1"`, `"Infinity"`, `"١"`)
	case 3:
		return g.one(`"2147483647"`, `"2147483648"`, `"4294967293"`, `"4294967294"`, `"4294967295"`, `"4294967296"`, `"9007199254740991"`,
			`"9007199254740993"`, `"42949672940"`, `"9999999999"`, `"04294967294"`, `"12345678901234567890"`)
	case 4:
		return strconv.Quote(strconv.FormatUint(g.Uint64()>>g.IntN(64), 10))
	default:
		return g.quoted()
	}
}

// quoted returns a string in quotes.
func (g *generator) quoted() string {
	var text strings.Builder
	text.WriteByte('"')
	n := g.IntN(12)
	if g.IntN(30) == 0 {
		n = g.IntN(300)
	}
	for range n {
		switch g.IntN(9) {
		case 0:
			text.WriteString(g.one(`\"`, `\\`, `\/`, `\b`, `\f`, `\n`, `\r`, `\t`))
		case 1:
			text.WriteString(g.unit(g.IntN(0x80)))
		case 2:
			text.WriteString(g.unit(0xd800 + g.IntN(0x800)))
		case 3:
			text.WriteString(g.unit(0xd800+g.IntN(0x400)) + g.unit(0xdc00+g.IntN(0x400)))
		case 4:
			text.WriteString(g.unit(g.IntN(0x10000)))
		case 5:
			text.WriteRune(g.pick([]rune("/<>&'\x7f\u0080éß\u0301€\u2028\u2029\ufeff\ufffd\uffff😀\U0010ffff")))
		default:
			text.WriteString(g.one("a", "b", "1", " ", "webhook", "the quick brown fox", "ud83d", "x{}[],:"))
		}
	}
	text.WriteByte('"')
	return text.String()
}

// unit returns a code unit as an escape, in lower or upper case or both.
func (g *generator) unit(code int) string {
	digits := []byte(strconv.FormatInt(0x10000+int64(code), 16)[1:])
	for i := range digits {
		if g.IntN(2) == 0 {
			digits[i] = bytes.ToUpper(digits[i : i+1])[0]
		}
	}
	return `\u` + string(digits)
}

// number returns a number in one of the many forms that JSON allows.
func (g *generator) number() string {
	sign := g.one("", "", "-")
	whole := strconv.FormatUint(g.Uint64()>>g.IntN(64), 10)
	switch g.IntN(8) {
	case 0:
		return sign + g.one("0", "0.0", "0e0", "0E-5", "1.0", "1.10", "10", "1e0", "1e21", "1e20", "999999999999999999999", "1e-6", "1e-7", "1.5e-7",
			"0.000001", "0.0000001", "0.00000099", "9007199254740991", "9007199254740992", "9007199254740993", "12345678901234567890",
			"1e308", "1.7976931348623157e308", "1.7976931348623159e308", "1e309", "1e400", "1e999999999999", "1e-400", "1e-999999999999",
			"5e-324", "2.5e-324", "2.4e-324", "2.2250738585072014e-308", "0.1", "0.3", "0.30000000000000004", "4.35", "5e-7")
	case 1:
		return sign + whole
	case 2:
		return sign + whole + "." + g.digits()
	case 3:
		return sign + "0." + strings.Repeat("0", g.IntN(9)) + g.digits()
	case 4:
		return sign + whole + g.exponent()
	case 5:
		return sign + whole[:1] + "." + g.digits() + g.exponent()
	case 6:
		return sign + strings.TrimLeft(g.digits(), "0") + "0" // may be 0 alone
	default:
		f := math.Float64frombits(g.Uint64() &^ (1 << 63))
		if math.IsInf(f, 0) || math.IsNaN(f) {
			f = math.MaxFloat64
		}
		return sign + strconv.FormatFloat(f, "eEfgG"[g.IntN(5)], g.IntN(20)-1, 64)
	}
}

// digits returns 1 to 40 digits.
func (g *generator) digits() string {
	n := 1 + g.IntN(18)
	if g.IntN(10) == 0 {
		n = 1 + g.IntN(40)
	}
	digits := make([]byte, n)
	for i := range digits {
		digits[i] = "0123456789"[g.IntN(10)]
		if g.IntN(4) == 0 {
			digits[i] = '0'
		}
	}
	return string(digits)
}

func (g *generator) exponent() string {
	return g.one("e", "E") + g.one("", "+", "-") + g.one("", "0", "00") + strconv.Itoa(g.IntN(1<<g.IntN(10)))
}
