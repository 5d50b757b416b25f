package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withFiles is a configuration that is right but for the files that it names.
const withFiles = `
events:
  - {type: a, schema: nowhere.json, example: {n: 1}}
  - {type: b, schema: {required: [id]}, example: {n: 1}}
plugins:
  gone: {path: ./nowhere}
  pinned: {path: ./nowhere, sha256: "0000000000000000000000000000000000000000000000000000000000000000", dir: nowhere, socket_dir: nowhere}
transforms:
  - {match: [a], schema: reject}
  - {match: [a], jq: '.payload.n | explode'}
  - {match: ["*"], plugin: gone}
  - {match: ["*"], plugin: pinned}
endpoints:
  - {name: a, url: "https://a.example", events: ["*"], body: '{{ ulid (get .Payload "n") }}', tls: {ca_file: nowhere.pem, cert_file: nowhere.pem, key_file: nowhere.key}}
`

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFilesAreLookedAtOnlyForThoseWhoUseThem(t *testing.T) {
	t.Chdir(t.TempDir())
	path := write(t, withFiles)
	cfg, err := Load(path, withDatabase)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	if got := cfg.Warnings(); len(got) != 1 || got[0].Key != "events[1].example" { // of the schema that is no file
		t.Errorf("warnings %v", got)
	}
	_, err = LoadWithFiles(path, withDatabase)
	want := strings.ReplaceAll(`FILE:3: events[0].schema: cannot be read: no such file or directory
FILE:6: plugins.gone.path: names no file: "./nowhere"; a relative path begins at the working directory
FILE:7: plugins.pinned.path: names no file: "./nowhere"; a relative path begins at the working directory
FILE:7: plugins.pinned.dir: names no folder: "nowhere"; make it, or name another
FILE:7: plugins.pinned.socket_dir: names no folder: "nowhere"; make it, or name another
FILE:14: endpoints[0].tls.ca_file: cannot be read: no such file or directory
FILE:14: endpoints[0].tls.cert_file: cannot be read: no such file or directory
FILE:14: endpoints[0].tls.key_file: cannot be read: no such file or directory`, "FILE", path)
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestProblemsOfFilesStandInTheListOfAll(t *testing.T) {
	t.Chdir(t.TempDir())
	const text = "plugins: {p: {path: ./nowhere}}\nsorce: {}\ntransforms: [{match: [a], schema: warn}]\nevents: [{type: a, schema: nowhere.json}]\n"
	_, err := LoadWithFiles(write(t, text), withDatabase)
	if err == nil || strings.Count(err.Error(), "\n") != 2 || !strings.Contains(err.Error(), ":1: plugins.p.path: ") ||
		!strings.Contains(err.Error(), ":2: sorce: ") || !strings.Contains(err.Error(), ":4: events[0].schema: ") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsWrittenOfFilesIsCheckedWithoutThem(t *testing.T) {
	for text, want := range map[string]string{
		"plugins: {p: {}}":                          "plugins.p.path: is required",
		"plugins: {p: {path: ''}}":                  "plugins.p.path: is empty: ",
		"plugins: {p: {path: nowhere, sha256: ab}}": "plugins.p.sha256: must be 64 hex digits",
		"events: [{type: a, schema: {type: none}}]": "events[0].schema: is no JSON Schema",
		"endpoints: [{name: a, url: 'https://a.example', events: [a], tls: {key_file: nowhere}}]": "endpoints[0].tls.cert_file: is required",
	} {
		if _, err := Load(write(t, text), withDatabase); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestAProblemStandsWhereItsKeyDoes(t *testing.T) {
	cfg := mustParse(t, "a.yaml", "plugins:\n  p: {path: testdata/app/redact}\n")
	for _, c := range []struct {
		names []string
		want  string
	}{
		{[]string{"plugins", "p"}, "a.yaml:2: plugins.p: it broke"},
		{[]string{"plugins", "q"}, "a.yaml:1: plugins.q: it broke"},
		{[]string{"database", "url"}, "POSTHORN_DATABASE__URL: database.url: it broke"},
		{nil, "a.yaml:1: it broke"},
	} {
		if got := cfg.Problem("it broke", c.names...).String(); got != c.want {
			t.Errorf("%v: got %q, want %q", c.names, got, c.want)
		}
	}
	if got := Default().Problem("it broke", "plugins", "p").String(); got != "plugins.p: it broke" {
		t.Errorf("of no document: got %q", got)
	}
}
