package transforms

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// editTest is a payload and what a transform makes of it.
type editTest struct{ name, payload, want string }

func (tt editTest) run(t *testing.T, transform Transform, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if got := transformed(t, transform, tt.payload); got != tt.want {
		t.Errorf("payload %s\ngot  %s\nwant %s", tt.payload, got, tt.want)
	}
}

// transformed returns the payload that transform makes of one.
func transformed(t testing.TB, transform Transform, payload string) string {
	t.Helper()
	m := &Message{Committed: "employee.updated", Event: Event{Type: "employee.updated"}, Payload: []byte(payload)}
	transform.Transform(context.Background(), []*Message{m})
	if m.Err != nil || m.Skipped != "" {
		t.Fatalf("error %v, skipped %q", m.Err, m.Skipped)
	}
	if err := Valid(m.Payload); err != nil {
		t.Fatal(err)
	}
	return string(m.Payload)
}

// edits returns a transform of each kind that changes what stands at paths.
func edits(t testing.TB, paths ...string) map[string]Transform {
	t.Helper()
	texts := make(map[string]string)
	for _, path := range paths {
		texts[path] = "1"
	}
	set, err := NewSet(texts)
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range paths {
		texts[path] = fmt.Sprintf("new%d", i)
	}
	rename, err := NewRename(texts)
	if err != nil {
		t.Fatal(err)
	}
	remove, err := NewRemove(paths)
	if err != nil {
		t.Fatal(err)
	}
	mask, err := NewRedact(RedactOptions{Paths: paths})
	if err != nil {
		t.Fatal(err)
	}
	hash, err := NewRedact(RedactOptions{Paths: paths, Mode: "hash", Secret: []byte("a secret of tests")})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Transform{"set": set, "remove": remove, "rename": rename, "mask": mask, "hash": hash}
}

func TestEditsThatChangeNothingYieldTheSameSlice(t *testing.T) {
	payloads := []string{`{}`, ` {"a": 1, "c": [1.0, {"x": "\u0061"}]}`, `[]`, `[{"a": {"b": 1}}, 2]`, `"a"`, ` null `}
	for kind, transform := range edits(t, "a.0", "c.*.x.y", "q.*.b") {
		for _, payload := range payloads {
			m := &Message{Payload: []byte(payload)}
			before := m.Payload
			transform.Transform(context.Background(), []*Message{m})
			if m.Err != nil || string(m.Payload) != payload || &m.Payload[0] != &before[0] {
				t.Errorf("%s of %s: got %s, %v, want the same slice", kind, payload, m.Payload, m.Err)
			}
		}
	}
}

func TestEditsThatChangeNothingAllocateNothing(t *testing.T) {
	tree := newPathTree()
	if err := tree.addAll([]string{"absent", "lines.*.absent"}); err != nil {
		t.Fatal(err)
	}
	w := &pathWalk{root: tree.root, edit: edit{entry: remove}}
	payload := []byte(`{"id": 1, "lines": [{"cost": 1.5, "é": []}, {"sku": "\u0061"}]}`)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := w.run(payload); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func TestEditsFailInvalidPayloadsForGood(t *testing.T) {
	payloads := map[string]string{
		``:                "payload: invalid JSON at byte 0: the text ends where a value is needed",
		`{"a":1,}`:        "payload: invalid JSON at byte 7: an object's key is needed",
		`{"a":1 "b":2}`:   "payload: invalid JSON at byte 7: a comma or '}' is needed",
		`{"a" 1}`:         "payload: invalid JSON at byte 5: a colon is needed after the key",
		`{"a":[1,]}`:      "payload: invalid JSON at byte 8: no value begins like this",
		`{"a":[1 2]}`:     "payload: invalid JSON at byte 8: a comma or ']' is needed",
		`{"a":{"b":"x}}`:  "payload: invalid JSON at byte 14: the text ends inside a string",
		`{"a":1} {}`:      "payload: invalid JSON at byte 8: text after the value",
		`{"x":{"y":01}}`:  "payload: invalid JSON at byte 11: a comma or '}' is needed",
		`{"b":1,"a":nul}`: "payload: invalid JSON at byte 11: no value begins like this",
	}
	for kind, transform := range edits(t, "a", "a.b", "a.0") {
		for payload, want := range payloads {
			m := &Message{Payload: []byte(payload)}
			transform.Transform(context.Background(), []*Message{m})
			if m.Err == nil || m.Err.Error() != want || IsRetryable(m.Err) || string(m.Payload) != payload {
				t.Errorf("%s of %s: got %v\nwant %s", kind, payload, m.Err, want)
			}
		}
	}
}

func TestEditsEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for kind, transform := range edits(t, "a") {
		m := &Message{Payload: []byte(`{"a":1}`)}
		transform.Transform(ctx, []*Message{m})
		if !errors.Is(m.Err, context.Canceled) || !IsRetryable(m.Err) {
			t.Errorf("%s: got %v, want a retryable end of the context", kind, m.Err)
		}
	}
}

func TestEditsReachThroughDeepNesting(t *testing.T) {
	deep := strings.Repeat("[", 9_968) + strings.Repeat("]", 9_968)
	path := strings.Repeat("a.", 31) + "a"
	payload := strings.Repeat(`{"a":`, 32) + deep + strings.Repeat("}", 32)
	for kind, transform := range edits(t, path) {
		got := transformed(t, transform, payload)
		kept := strings.Repeat(`{"a":`, 31) + "{"
		if !strings.HasPrefix(got, kept) || !strings.HasSuffix(got, strings.Repeat("}", 32)) {
			t.Errorf("%s: got %.200s", kind, got)
		}
		if changed := kind != "rename"; strings.Contains(got, deep) == changed {
			t.Errorf("%s: the deep value was changed: %t, want %t", kind, !changed, changed)
		}
	}
	set, err := NewSet(map[string]string{path: deep})
	if err != nil {
		t.Fatal(err)
	}
	if got := transformed(t, set, "{}"); got != payload {
		t.Errorf("set of a deep value: got %d bytes, want %d", len(got), len(payload))
	}
	if _, err := NewSet(map[string]string{path: "[" + deep + "]"}); err == nil {
		t.Error("a value was taken that makes a payload nested too deep")
	}
}

// TestEditsAreLinear does not look at the time; it would not end if an edit
// took a time that grows with the square of the payload or of its matches.
func TestEditsAreLinear(t *testing.T) {
	var paths []string
	for i := range 50 {
		paths = append(paths, fmt.Sprintf("k%d", i), fmt.Sprintf("list.*.k%d", i))
	}
	var b strings.Builder
	b.WriteString(`{"list":[{}`)
	for b.Len() < 1<<20 {
		fmt.Fprintf(&b, `,{"k%d":%d,"other":[{}]}`, b.Len()%60, b.Len())
	}
	b.WriteString(`]`)
	for b.Len() < 2<<20 {
		fmt.Fprintf(&b, `,"k%d":%d`, b.Len()%60, b.Len())
	}
	b.WriteString(`}`)
	payload := b.String()
	for kind, transform := range edits(t, paths...) {
		got := transformed(t, transform, payload)
		if got == payload || strings.Count(got, `"other":[{}]`) != strings.Count(payload, `"other":[{}]`) {
			t.Errorf("%s: got %.100s", kind, got)
		}
	}
}

func TestEditsRefuseToGrowAPayloadWithoutBound(t *testing.T) {
	large := strings.Repeat("x", 1<<20)
	set, err := NewSet(map[string]string{"*": `"` + large + `"`, "*.a": "1"})
	if err != nil {
		t.Fatal(err)
	}
	add, err := NewSet(map[string]string{"*.a": `{"b":"` + large + `"}`, "*.a.c": "1"})
	if err != nil {
		t.Fatal(err)
	}
	mask, err := NewRedact(RedactOptions{Paths: []string{"*"}, Mask: large})
	if err != nil {
		t.Fatal(err)
	}
	for kind, transform := range map[string]Transform{"set": set, "added": add, "mask": mask} {
		m := &Message{Payload: []byte("[{}" + strings.Repeat(",{}", 100_000) + "]")}
		transform.Transform(context.Background(), []*Message{m})
		if !errors.Is(m.Err, errGrown) || IsRetryable(m.Err) {
			t.Errorf("%s: got %v, want %v", kind, m.Err, errGrown)
		}
		small := &Message{Payload: []byte("[{},{}]")}
		transform.Transform(context.Background(), []*Message{small})
		if small.Err != nil || len(small.Payload) < 2*len(large) {
			t.Errorf("%s afterwards: got %d bytes, %v", kind, len(small.Payload), small.Err)
		}
	}
}

func TestEditsAreSafeForConcurrentUse(t *testing.T) {
	for kind, transform := range edits(t, "a.b", "a.*.c") {
		payload := ` {"a": {"b": {"c": "x"}, "d": {"c": "y"}}, "e": 1.0}`
		want := transformed(t, transform, payload)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 200 {
					m := &Message{Payload: []byte(payload)}
					transform.Transform(context.Background(), []*Message{m})
					if string(m.Payload) != want {
						t.Errorf("%s: got %s, want %s", kind, m.Payload, want)
					}
				}
			})
		}
		all.Wait()
	}
}
