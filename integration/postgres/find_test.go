package postgres

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fakeServer creates a folder with programs that do nothing.
func fakeServer(t *testing.T, names ...string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFind(t *testing.T) {
	whole := fakeServer(t, "initdb", "postgres")
	half := fakeServer(t, "initdb")
	linked := t.TempDir()
	if err := os.Symlink(filepath.Join(whole, "initdb"), filepath.Join(linked, "initdb")); err != nil {
		t.Fatal(err)
	}
	config := t.TempDir()
	script := "#!/bin/sh\n[ \"$1\" = --bindir ] && echo " + whole + "\n"
	if err := os.WriteFile(filepath.Join(config, "pg_config"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		variable, path string
		want           string
		wantErr        string // part of the error, where one must come
	}{
		"variable":                {variable: whole, path: half, want: whole},
		"variable, half a server": {variable: half, path: whole, wantErr: BinVariable + "=" + half},
		"PATH":                    {path: whole, want: whole},
		"PATH, symbolic link":     {path: linked, want: whole},
		"PATH, pg_config":         {path: config, want: whole},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv(BinVariable, test.variable)
			t.Setenv("PATH", test.path)
			got, err := Find()
			if got != test.want || (err != nil) != (test.wantErr != "") {
				t.Errorf("Find: got %q, %v; want %q", got, err, test.want)
			}
			if err != nil && !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("Find: got %q, want it to contain %q", err, test.wantErr)
			}
		})
	}
}

func TestNotFoundNamesTheMendInOneLine(t *testing.T) {
	usual := usualFolders
	t.Cleanup(func() { usualFolders = usual })
	usualFolders = []string{filepath.Join(t.TempDir(), "*", "bin")}
	t.Setenv(BinVariable, "")
	t.Setenv("PATH", t.TempDir())
	_, err := Find()
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), BinVariable) {
		t.Errorf("got %v, want one line that names %s", err, BinVariable)
	}
}

func TestHighestVersionOfTheUsualFoldersWins(t *testing.T) {
	root := t.TempDir()
	want := ""
	// 18 lacks a program; 9 is highest as text only.
	for _, version := range []string{"9.6", "14", "16", "18"} {
		dir := filepath.Join(root, version, "bin")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"initdb", "postgres"} {
			if version == "18" && name == "postgres" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if version == "16" {
			want = dir
		}
	}
	usual := usualFolders
	t.Cleanup(func() { usualFolders = usual })
	t.Chdir(root)
	usualFolders = []string{"*/bin"}
	t.Setenv(BinVariable, "")
	t.Setenv("PATH", t.TempDir())
	got, err := Find()
	if err != nil || filepath.Join(root, got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// TestEnsureSearchesTheSameFolders holds the script and Find together.
func TestEnsureSearchesTheSameFolders(t *testing.T) {
	script, err := os.ReadFile("ensure.sh")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(script))
	for _, folder := range append(slices.Clone(usualFolders), BinVariable) {
		if !slices.ContainsFunc(words, func(word string) bool { return strings.Contains(word, folder) }) {
			t.Errorf("ensure.sh does not look in %s", folder)
		}
	}
}

func TestEnsureIsQuietWhereAServerIsFound(t *testing.T) {
	bin, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string]string{"variable": BinVariable + "=" + bin, "search": BinVariable + "="} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("sh", "ensure.sh")
			cmd.Env = append(os.Environ(), env)
			if output, err := cmd.CombinedOutput(); err != nil || len(output) != 0 {
				t.Errorf("got %v and %q, want success and silence", err, output)
			}
		})
	}
}

func TestEnsureRefusesAWrongVariable(t *testing.T) {
	cmd := exec.Command("sh", "ensure.sh")
	cmd.Env = append(os.Environ(), BinVariable+"="+t.TempDir())
	output, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(output), BinVariable) || strings.Count(string(output), "\n") != 1 {
		t.Errorf("got %v and %q, want a failure in one line that names %s", err, output, BinVariable)
	}
}
