package transforms

import (
	"slices"
	"strings"
	"testing"
)

func TestParsePathReturnsItsSteps(t *testing.T) {
	key := func(texts ...string) (steps []pathStep) {
		for _, text := range texts {
			steps = append(steps, pathStep{key: text})
		}
		return steps
	}
	every := pathStep{every: true}
	tests := []struct {
		path string
		want []pathStep
	}{
		{"a", key("a")},
		{"a.b.0", key("a", "b", "0")},
		{"*", []pathStep{every}},
		{"lines.*.cost", slices.Concat(key("lines"), []pathStep{every}, key("cost"))},
		{`a\.b.c`, key("a.b", "c")},
		{`\*`, key("*")},
		{`a\*b`, key("a*b")},
		{`\\.\\\*`, key(`\`, `\*`)},
		{" é ", key(" é ")},
		{strings.Repeat("a.", 31) + "a", key(slices.Repeat([]string{"a"}, 32)...)},
		{strings.Repeat("a", 256), key(strings.Repeat("a", 256))},
	}
	for _, tt := range tests {
		got, err := parsePath(tt.path)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %+v, %v, want %+v", tt.path, got, err, tt.want)
		}
		if spelt := spell(got); spelt != tt.path {
			t.Errorf("%q is written %q again", tt.path, spelt)
		}
	}
}

func TestTransformsSayWhatIsWrongWithAPath(t *testing.T) {
	tests := []struct{ name, path, want string }{
		{"empty", "", `path "": it has an empty step`},
		{"empty step", "a..b", `path "a..b": it has an empty step`},
		{"dot at the end", "a.", `path "a.": it has an empty step`},
		{"star in a key", "a*", `path "a*": a * is a step of its own; \* is the character`},
		{"two stars", "**", `path "**": a * is a step of its own; \* is the character`},
		{"star and escaped star", `*\*`, `path "*\\*": a * is a step of its own; \* is the character`},
		{"unknown escape", `a\n`, `path "a\\n": a backslash stands before ., * and \ only`},
		{"backslash at the end", `a\`, `path "a\\": a backslash stands before ., * and \ only`},
		{"not UTF-8", "a\xff", `path "a\xff": it is not UTF-8`},
		{"long", strings.Repeat("é", 129), `path "` + strings.Repeat("é", 16) + `"…: it is longer than 256 bytes`},
		{"many steps", strings.Repeat("a.", 32) + "a", `path "` + strings.Repeat("a.", 32) + `a": it has more than 32 steps`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, setErr := NewSet(map[string]string{tt.path: "1"})
			_, removeErr := NewRemove([]string{"fine", tt.path})
			_, renameErr := NewRename(map[string]string{tt.path: "new"})
			_, redactErr := NewRedact(RedactOptions{Paths: []string{tt.path}})
			for kind, err := range map[string]error{"set": setErr, "remove": removeErr, "rename": renameErr, "redact": redactErr} {
				if err == nil || err.Error() != tt.want {
					t.Errorf("%s: got %v\nwant %s", kind, err, tt.want)
				}
			}
		})
	}
}

func TestTransformsBoundHowManyPathsThereAre(t *testing.T) {
	if _, err := NewRemove(nil); err == nil || err.Error() != "at least one path is needed" {
		t.Errorf("no path: got %v", err)
	}
	if _, err := NewRemove(slices.Repeat([]string{"a"}, 1001)); err == nil || err.Error() != "there are 1001 paths, but 1000 is the most" {
		t.Errorf("1001 paths: got %v", err)
	}
}

// spell returns the path that steps are.
func spell(steps []pathStep) string {
	var texts []string
	for _, s := range steps {
		text := strings.NewReplacer(`\`, `\\`, `.`, `\.`, `*`, `\*`).Replace(s.key)
		if s.every {
			text = "*"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ".")
}
