package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFieldOfAKernelsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cpuinfo")
	if err := os.WriteFile(file, []byte("processor\t: 0\nmodel name\t: Some CPU: 3 GHz\nprocessor\t: 1\nmodel name\t: Other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"model name": "Some CPU: 3 GHz", "flags": unknown} {
		if got := fieldOf(file, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := fieldOf(file+".missing", "model name"); got != unknown {
		t.Errorf("a file that is missing says %q", got)
	}
}
