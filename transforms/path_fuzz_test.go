package transforms

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// fuzzed is what each fuzz target begins with: payloads, paths and, for each
// path, a value or key.
var fuzzed = []struct{ payload, paths, texts string }{
	{` { "a" : { "b" : [ 1 , 2.50 ] } , "\u0061" : null } `, "a\na.b\na.b.0", "{\"b\": {}}\n1\n[ ]"},
	{`{"lines":[{"cost":1,"sku":"x"}, {"sku":"y","cost":1e400}],"total":-0}`, "lines.*.cost\nlines.1\n*.0\ntotal", "x\ny"},
	{`[[], {}, [ ], { }, "a", {"0": [0]}]`, "*.0\n5.0.0\n3.a.b\n3.a.0", "7"},
	{`{"a":1,"b":2,"a":3,"c":4,"b":5}`, "a\nb\nc", "b\nc\nx"},
	{`{"a":{"a":1,"b":2},"b":{"a":1}}`, "a\na.a\n*.a\nb.*\n*.*", "b\nb\nb\nc"},
	{"{\"\\ud800\":\"\\ud83d\\ude00\",\"x.y\":\"\xff\",\"*\":{},\"\\\\\":0}", "x\\.y\n\\*\n\\\\\n\uFFFD", "\"é<\"\n0"},
	{`{}`, "a.b.c\na.b.d\ne.*\na.0\nf.0\n0", "{}\n[]"},
	{`{"a":1} x`, "a", "2"},
}

func addFuzzed(f *testing.F) {
	for _, s := range fuzzed {
		f.Add([]byte(s.payload), s.paths, s.texts)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 100 {
		s := randomEdit(r, i%2 == 0)
		f.Add([]byte(s.payload), s.paths, s.texts)
	}
}

// pair gives each line of paths a line of texts, going round.
func pair(paths, texts string) map[string]string {
	m := make(map[string]string)
	lines := strings.Split(texts, "\n")
	for i, path := range strings.SplitN(paths, "\n", 12) {
		m[path] = lines[i%len(lines)]
	}
	return m
}

// maxModelled is the length of the longest payload that is compared, in bytes.
const maxModelled = 1 << 12

// checkEdit runs the transform and compares with what the model makes of the
// payload. It returns how many payloads were changed.
func checkEdit(t *testing.T, transform Transform, payload []byte, edit func(n *node)) (changed int) {
	t.Helper()
	before := bytes.Clone(payload)
	m := &Message{Payload: payload}
	transform.Transform(context.Background(), []*Message{m})
	if !bytes.Equal(payload, before) {
		t.Fatalf("the payload %q was written to: %q", before, payload)
	}
	if !json.Valid(payload) {
		if m.Err == nil || !bytes.Equal(m.Payload, payload) {
			t.Fatalf("invalid payload: got %q, error %v", m.Payload, m.Err)
		}
		return 0
	}
	if m.Err != nil {
		t.Fatal(m.Err)
	}
	if !json.Valid(m.Payload) {
		t.Fatalf("got %q, which is no JSON", m.Payload)
	}
	around, n, after := readNode(t, string(payload))
	edit(n)
	want := around + n.String() + after
	if string(m.Payload) != want {
		t.Fatalf("payload %q\ngot  %q\nwant %q", payload, m.Payload, want)
	}
	if bytes.Equal(m.Payload, payload) {
		return 0
	}
	return 1
}

func FuzzSet(f *testing.F) {
	addFuzzed(f)
	f.Fuzz(func(t *testing.T, payload []byte, paths, texts string) { checkSet(t, payload, paths, texts) })
}

func FuzzRemove(f *testing.F) {
	addFuzzed(f)
	f.Fuzz(func(t *testing.T, payload []byte, paths, _ string) { checkRemove(t, payload, paths) })
}

func FuzzRename(f *testing.F) {
	addFuzzed(f)
	f.Fuzz(func(t *testing.T, payload []byte, paths, texts string) { checkRename(t, payload, paths, texts) })
}

func FuzzRedact(f *testing.F) {
	addFuzzed(f)
	f.Fuzz(func(t *testing.T, payload []byte, paths, mask string) { checkRedact(t, payload, paths, mask) })
}

// TestEditsDoWhatTheModelDoes has more payloads in which paths lead somewhere
// than fuzzing finds in a short time.
func TestEditsDoWhatTheModelDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	changed := 0
	for range 1000 {
		s := randomEdit(r, false)
		changed += checkSet(t, []byte(s.payload), s.paths, s.texts)
		changed += checkRemove(t, []byte(s.payload), s.paths)
		changed += checkRedact(t, []byte(s.payload), s.paths, "")
		s = randomEdit(r, true)
		changed += checkRename(t, []byte(s.payload), s.paths, s.texts)
		if t.Failed() {
			t.Fatalf("payload %s, paths %q, texts %q", s.payload, s.paths, s.texts)
		}
	}
	if changed < 1000 {
		t.Errorf("only %d of 4000 edits changed something", changed)
	}
}

// The checks return how many payloads were changed. They leave out what is no
// path, and payloads that would take the model long.

func checkSet(t *testing.T, payload []byte, paths, texts string) (changed int) {
	values := pair(paths, texts)
	transform, err := NewSet(values)
	if err != nil || len(payload) > maxModelled {
		return 0
	}
	return checkEdit(t, transform, payload, func(n *node) { newModel(t, values).set(n, nil, false) })
}

func checkRemove(t *testing.T, payload []byte, paths string) (changed int) {
	transform, err := NewRemove(slices.Collect(maps.Keys(pair(paths, ""))))
	if err != nil || len(payload) > maxModelled {
		return 0
	}
	return checkEdit(t, transform, payload, func(n *node) { newModel(t, pair(paths, "")).remove(n, nil) })
}

func checkRename(t *testing.T, payload []byte, paths, texts string) (changed int) {
	keys := pair(paths, texts)
	maps.DeleteFunc(keys, func(path, key string) bool {
		_, err := NewRename(map[string]string{path: key})
		return err != nil
	})
	transform, err := NewRename(keys)
	if err != nil || len(payload) > maxModelled {
		return 0
	}
	for path, text := range keys {
		steps, err := parsePath(text)
		if err != nil {
			t.Fatal(err)
		}
		keys[path] = steps[0].key
	}
	return checkEdit(t, transform, payload, func(n *node) { newModel(t, keys).rename(n, nil) })
}

func checkRedact(t *testing.T, payload []byte, paths, mask string) (changed int) {
	secret := []byte("a secret of tests")
	o := RedactOptions{Paths: slices.Collect(maps.Keys(pair(paths, ""))), Mask: mask}
	if len(payload) > maxModelled {
		return 0
	}
	if transform, err := NewRedact(o); err == nil {
		checkEdit(t, transform, payload, func(n *node) {
			newModel(t, pair(paths, "")).redact(n, nil, func(string) string { return mustQuote(t, cmp.Or(mask, "***")) })
		})
	}
	o.Mask, o.Mode, o.Secret = "", "hash", secret
	transform, err := NewRedact(o)
	if err != nil {
		return 0
	}
	return checkEdit(t, transform, payload, func(n *node) {
		newModel(t, pair(paths, "")).redact(n, nil, func(value string) string { return slowHash(t, secret, value) })
	})
}

// slowHash returns what a value's hash is put in its place as.
func slowHash(t *testing.T, secret []byte, value string) string {
	var text string
	if json.Unmarshal([]byte(value), &text) != nil {
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(value)); err != nil {
			t.Fatal(err)
		}
		text = compact.String()
	}
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(text))
	return `"hmac-sha256:` + hex.EncodeToString(h.Sum(nil)) + `"`
}
