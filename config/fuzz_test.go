package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fuzzLoad feeds texts of one format, beginning with all of testdata: whatever
// comes in, there is a configuration that can be shown or a list of problems.
func fuzzLoad(f *testing.F, ending string) {
	for _, pattern := range []string{"testdata/*" + ending, "testdata/bad/*" + ending} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	environ := slices.Concat(withDatabase, fullEnviron)
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > maxFile {
			return
		}
		cfg, err := parse("fuzz"+ending, text, environ, true)
		if err == nil {
			cfg.Masked()
			return
		}
		var problems *Error
		if cfg != nil || !errors.As(err, &problems) || len(problems.Problems) == 0 {
			t.Fatalf("got %v and %T: %v", cfg, err, err)
		}
		for _, p := range problems.Problems {
			if p.Message == "" || p.File == "" || p.Line < 0 {
				t.Errorf("a problem says too little: %+v", p)
			}
		}
	})
}

func FuzzLoadYAML(f *testing.F) { fuzzLoad(f, ".yaml") }
func FuzzLoadTOML(f *testing.F) { fuzzLoad(f, ".toml") }
func FuzzLoadJSON(f *testing.F) { fuzzLoad(f, ".json") }

// FuzzPatchEndpoint holds that a document comes back from what is shown of it,
// and that nothing of it is shown that a key says is secret.
func FuzzPatchEndpoint(f *testing.F) {
	f.Add([]byte(`{"name":"a","url":"https://u:p@h/x?token=1","secret":"hunter2","headers":{"X-Api-Key":"hunter2"}}`), []byte(`{"name":null,"headers":{"X-B":"b"}}`))
	f.Add([]byte(`{"previous_secrets":[{"secret":"hunter2","expires":"2026-12-01T00:00:00Z"}],"signatures":[{"scheme":"hmac","secret":"q"}]}`), []byte(`{"signatures":[]}`))
	f.Add([]byte(`{"body":"hunter2","auth":{"oauth2":{"client_secret":"hunter2","scopes":["a"]}}}`), []byte(`{"auth":{"oauth2":null}}`))
	f.Fuzz(func(t *testing.T, document, patch []byte) {
		root, err := parseDocument(document)
		if err != nil {
			return
		}
		masked, secrets, err := SplitEndpoint(document)
		if err != nil {
			t.Fatalf("split %s: %v", document, err)
		}
		joined, err := JoinEndpoint(masked, secrets)
		if err != nil || !bytes.Equal(joined, root.json()) {
			t.Fatalf("%s comes back as %s, %v", root.json(), joined, err)
		}
		if secret := root.field("secret"); secret != nil && secret.kind == text && len(secret.text) > unsought && !strings.Contains(mask, secret.text) &&
			bytes.Contains(masked, (&node{kind: text, text: secret.text}).json()) {
			t.Errorf("%s is shown as %s", document, masked)
		}
		patched, err := PatchEndpoint(document, patch)
		if err != nil {
			return
		}
		if _, err := parseDocument(patched); err != nil {
			t.Errorf("%s patched by %s is %s: %v", document, patch, patched, err)
		}
	})
}
