package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestProductOfflyVerifiesWhatItsReceiversWriteAgain sends payloads of which
// JSON.stringify(JSON.parse(…)) is not what it got.
func TestProductOfflyVerifiesWhatItsReceiversWriteAgain(t *testing.T) {
	db, n := newDatabase(t), offly.receiver(t, productSecret)
	offly.start(t, offly.env(db, n, productSecret))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	payloads := hardPayloads(rand.New(rand.NewPCG(seed, 0)))
	sent := map[string]string{} // payloads by what receivers know events by
	for _, text := range payloads {
		sent["wh_evt_"+ulid(db.publish(t, "user.updated", "northwind", text))] = text
	}
	eventually(t, 2*time.Minute, func() error {
		for _, q := range n.arrived() {
			if !q.Verified {
				t.Fatalf("the receiver refused %s", q.Body)
			}
		}
		return atLeast(db.count(t, `SELECT count(*) FROM posthorn.deliveries`), len(payloads))
	})
	waitSettled(t, db)
	requests := n.arrived()
	different := 0
	for i := range requests {
		q := &requests[i]
		var body struct {
			ID   string
			Data json.RawMessage
		}
		if err := json.Unmarshal(q.Body, &body); err != nil {
			t.Fatalf("%v in %s", err, q.Body)
		}
		text, ok := sent[body.ID]
		delete(sent, body.ID)
		if !ok {
			t.Errorf("%s came twice, or was never published", q.Body)
		}
		if !reflect.DeepEqual(meaning(t, []byte(text)), meaning(t, body.Data)) {
			t.Errorf("payload %s was sent as %s, which means something else", text, body.Data)
		}
		if text != string(body.Data) {
			different++
		}
	}
	if len(requests) != len(payloads) || len(payloads) < 200 || different < len(payloads)/2 {
		t.Errorf("%d requests for %d payloads, %d of which had to be rewritten", len(requests), len(payloads), different)
	}
	t.Logf("FIGURE product Offly: %d hard payloads, of which %d are not what JSON.stringify writes: all verified over JSON.stringify(JSON.parse(body))", len(payloads), different)
}

// Without stringify the same receiver refuses what is hard, and even with
// preserve all that has white space, as the example's template does.
func TestProductOfflyReceiversRefuseWhatIsNotStringified(t *testing.T) {
	tests := map[string]map[string]int{ // statuses by payload
		"compact": {
			`{"id": "usr_a1b2c3d4", "n": 1.5}`: http.StatusOK, `{"b": 1, "1": 2}`: http.StatusUnauthorized,
			`{"a": 1, "a": 2}`: http.StatusUnauthorized, `{"n": 1.0}`: http.StatusUnauthorized, `{"t": "\u00e9"}`: http.StatusUnauthorized,
		},
		"preserve":  {`{"id": "usr_a1b2c3d4"}`: http.StatusUnauthorized},
		"stringify": {`{"b": 1, "1": 2}`: http.StatusOK, `{"a": 1, "a": 2}`: http.StatusOK},
	}
	for mode, payloads := range tests {
		t.Run(mode, func(t *testing.T) {
			db, n := newDatabase(t), offly.receiver(t, productSecret)
			offly.start(t, append(offly.env(db, n, productSecret), "POSTHORN_PROFILES__OFFLY__JSON="+mode))
			sent := map[string]string{}
			for text := range payloads {
				sent["wh_evt_"+ulid(db.publish(t, "user.updated", "northwind", text))] = text
			}
			got := map[string]int{}
			for _, q := range n.waitArrived(len(payloads)) {
				var body struct{ ID string }
				if err := json.Unmarshal(q.Body, &body); err != nil {
					t.Fatal(err)
				}
				got[sent[body.ID]] = q.Status
			}
			if diff := cmp.Diff(payloads, got); diff != "" {
				t.Errorf("answers by payload (-want +got):\n%s", diff)
			}
		})
	}
}

// meaning returns a JSON text as JSON.parse understands it: numbers are
// doubles, and one that is too large for them is infinite, which
// JSON.stringify writes as null; halves of surrogate pairs differ.
func meaning(t testing.TB, text []byte) any {
	t.Helper()
	// encoding/json reads every half as U+FFFD, and two keys as one.
	text = escapes.ReplaceAllFunc(text, func(escape []byte) []byte {
		if len(escape) == len(`\ud800`) && escape[2]|0x20 == 'd' && escape[3] >= '8' {
			return fmt.Appendf(nil, "half a pair %s", bytes.ToLower(escape[2:]))
		}
		return escape
	})
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return asDoubles(value)
}

// escapes matches the escapes of JSON strings, pairs of surrogates as one.
var escapes = regexp.MustCompile(`\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.`)

func asDoubles(value any) any {
	switch v := value.(type) {
	case json.Number:
		double, err := strconv.ParseFloat(v.String(), 64)
		if err != nil {
			return nil
		}
		return double
	case []any:
		for i := range v {
			v[i] = asDoubles(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = asDoubles(v[key])
		}
	}
	return value
}

// hardNumbers are written in another way by JSON.stringify, or nearly so.
var hardNumbers = strings.Fields(`0 -0 0.0 -0.0 0e0 -0e-0 1.0 10.00 1.50 -1.0 1e0 1E0 1e+2 1E+02 1e-2 1.5E-3 100e-2 0.1e1 1e20 1e21 1e22 1E+21 123e19 123456789e15
	999999999999999900000 999999999999999999999 1000000000000000000000 12345678901234567890 12345678901234567890.10 9007199254740991 9007199254740992
	9007199254740993 -9007199254740993 18014398509481985 4294967296 0.000001 0.0000001 1e-6 1e-7 1.0e-7 0.00000123 0.000000123 -0.00001 5e-324 4.9e-324 2e-324 3e-324 1e-400
	-1e-400 1e308 1.7976931348623157e308 1.7976931348623159e308 1e309 -1e400 2.2250738585072014e-308 2.2250738585072011e-308 2.225073858507201e-308
	0.1 0.2 0.30000000000000004 0.3333333333333333333333 3.141592653589793238462643 4.35 0.000035 8.41e21 9.5367431640625e-7 1.7e-5 5.0e-5 144115188075855870 144115188075855872
	2.98023223876953125e-8 1e23 9.999999999999999e22 295147905179352830000 1.2345678901234567e-300 123456.7890e3 1e5 1e15 1e16 1e17 0.1234567890123456789`)

// hardKeys are names that objects do not keep where they were, and their
// likes that they do keep.
var hardKeys = strings.Fields(`0 1 2 10 9 00 01 1.0 1e0 -0 -1 +1 4294967294 4294967295 4294967296 9007199254740991 99999999999 __proto__ constructor toString valueOf toJSON length
	hasOwnProperty prototype a A b é \u0061 \u0031 \u005f_proto__ \u0000 \/ \ud800 \udc00 \ud83d\ude00 😀 <a> & null true __defineGetter__`)

// hardTexts are escapes and characters that JSON.stringify writes in another
// way, or nearly so.
var hardTexts = []string{
	``, `\/`, `/`, `\"`, `\\`, `\b\f\n\r\t`, `\u0008\u000c\u000a\u000d\u0009`, `\u000B\u000e\u001F\u001f`, `\u0000`, `\u007f`, "\u007f", `\u0022\u005c\u002f`, `\u0041\u007A`,
	`\u00e9`, `\u00E9`, "é", "e\u0301", `\u2028\u2029`, "\u2028\u2029", "<script>&amp;</script>", `\u003c\u003E\u0026`, `\ud800`, `\uDFFF`, `\ud83d`, `\ude00`,
	`\ud83d\ude00`, `\uD83D\uDE00`, "😀", `\ude00\ud83d`, `\ud83d\ud83d\ude00`, `\ud83dx\ude00`, `\ud83d\n`, `\ud800\u0041`, `\udbff\udfff`, `\uFFFD`, `\uffff\ufffe`, "\uFEFFbom",
	"\U0010FFFF", "𝄞", "田中 花子 سارة", "\u0085\u00a0\u200b\u202e", `\u0085\u00ad`, "'single'", `\\u0041`, `\\\u0041`,
}

// hardPayloads returns payloads that are hard to write as JSON.stringify does.
func hardPayloads(random *rand.Rand) []string {
	payloads := []string{
		"null", " true ", "-0", "1e400", `"\/"`, "[]", "[ ]", "{}", "{ \t\r\n }", "[[],{},[{}]]", `{"":1,"":2}`,
		`{"a":1,"b":2,"a":3}`, `{"b":{"x":1},"a":1,"b":{"y":2}}`, `{"1":1,"0":0,"1":2}`, `{"a":1,"\u0061":2}`, `{"z":1,"10":2,"9":3,"b":4,"1":5}`,
		`{"__proto__":1}`, `{"__proto__":null,"a":1}`, `{"a":1,"__proto__":{"b":2},"c":3}`, `{"__proto__":{"a":1},"__proto__":[2]}`, `{"x":{"__proto__":{"__proto__":"deep"}}}`,
		`{"toJSON":1,"constructor":{"prototype":2}}`, `{"4294967295":1,"4294967294":2,"4294967296":3,"a":0,"7":4}`, `[1e21,1E-7,-0,{"2":[],"1":{}}]`,
		strings.Repeat("[", 500) + "1.0" + strings.Repeat("]", 500), strings.Repeat(`{"b": 1E1, "1":`, 500) + "{}" + strings.Repeat("}", 500),
		"{\n  \"indented\" : [ 1.0 ,\n 2 ] ,\r\n\t\"1\" : \"\"\n}",
	}
	for _, n := range hardNumbers {
		payloads = append(payloads, fmt.Sprintf(`{"n": %s}`, n))
	}
	for i, key := range hardKeys {
		payloads = append(payloads, fmt.Sprintf(`{"x":0,"%s":1,"%s":2,"3":3,"%s":4}`, key, hardKeys[(i+7)%len(hardKeys)], key))
	}
	for _, text := range hardTexts {
		payloads = append(payloads, fmt.Sprintf(`{"t":"%s", "%s":null}`, text, text))
	}
	for range scaled(1000) {
		payloads = append(payloads, hardValue(random, 5))
	}
	return payloads
}

// hardValue returns a random value, nested at most depth levels deep.
func hardValue(random *rand.Rand, depth int) string {
	kind := random.IntN(8)
	if depth > 3 {
		kind = 6 + random.IntN(2)
	} else if depth == 0 {
		kind = random.IntN(6)
	}
	switch kind {
	case 0, 1, 2:
		return hardNumbers[random.IntN(len(hardNumbers))]
	case 3, 4:
		return hardText(random, hardTexts)
	case 5:
		return []string{"true", "false", "null"}[random.IntN(3)]
	case 6:
		return `[` + join(random, func() string { return hardValue(random, depth-1) }) + `]`
	default:
		return `{` + join(random, func() string { return hardText(random, hardKeys) + ` :` + hardValue(random, depth-1) }) + `}`
	}
}

// hardText returns one or two of texts as a JSON string.
func hardText(random *rand.Rand, texts []string) string {
	text := texts[random.IntN(len(texts))]
	if random.IntN(4) == 0 {
		text += texts[random.IntN(len(texts))]
	}
	return `"` + text + `"`
}

// join returns up to seven items with commas between them.
func join(random *rand.Rand, item func() string) string {
	items := make([]string, random.IntN(8))
	for i := range items {
		items[i] = item()
	}
	return strings.Join(items, []string{",", ", ", "\n,\t"}[random.IntN(3)])
}
