package main

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func file(t *testing.T, path string) string {
	t.Helper()
	absolute, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return "file://" + filepath.ToSlash(absolute)
}

// TestKnownVulnerabilityThatIsCalledFailsTheCheck runs the pinned tool, with a
// made-up database by which a function is vulnerable, on a module that calls it
// and on one that does not.
func TestKnownVulnerabilityThatIsCalledFailsTheCheck(t *testing.T) {
	tools, err := filepath.Abs("../../tools/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		code int
		want string
	}{
		"calls":  {3, "strconv.Itoa"},
		"spares": {0, "No vulnerabilities found."},
	}
	for folder, tt := range tests {
		t.Run(folder, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile="+tools, "govulncheck", "-db="+file(t, "testdata/database"), "-C", "testdata/module/"+folder, "./...")
			out, code := run(t, cmd)
			if code != tt.code || !strings.Contains(out, tt.want) {
				t.Errorf("it ends with %d, want %d, and says %q:\n%s", code, tt.code, tt.want, out)
			}
		})
	}
}

// TestCheckWithoutADatabaseFails holds the order of make vulncheck: the tool
// itself finds nothing in a folder that is no database, and passes.
func TestCheckWithoutADatabaseFails(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "make", "--directory=../..", "vulncheck", "GOVULNDB="+file(t, t.TempDir()))
	if out, code := run(t, cmd); code == 0 || !strings.Contains(out, "The database of vulnerabilities cannot be read: ") {
		t.Errorf("it ends with %d:\n%s", code, out)
	}
}

// run returns what a command printed, and its exit code.
func run(t *testing.T, cmd *exec.Cmd) (string, int) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestDatabaseIsFoundOrNot(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good/index/db.json.gz":
			z := gzip.NewWriter(w)
			defer func() { _ = z.Close() }()
			_, _ = io.WriteString(z, `{"modified":"2026-01-02T03:04:05Z"}`)
		case "/page/index/db.json.gz":
			_, _ = io.WriteString(w, "<html>")
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	other := t.TempDir()
	if err := os.MkdirAll(filepath.Join(other, "index"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "index", "db.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{ // address → the year that it is of, "" for none
		file(t, "testdata/database"):   "2026",
		s.URL + "/good":                "2026",
		s.URL + "/page":                "",
		s.URL:                          "",
		file(t, other):                 "",
		file(t, "testdata/module"):     "",
		"testdata/database":            "",
		"ftp://127.0.0.1":              "",
		"http://127.0.0.1:1":           "",
		"https://vulnerability.test./": "",
		"%":                            "",
	}
	for address, want := range tests {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		modified, err := modifiedAt(ctx, address)
		cancel()
		if got := modified.Format("2006"); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%s: of %s, %v; want %q", address, got, err, want)
		}
	}
}
