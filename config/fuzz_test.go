package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
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
