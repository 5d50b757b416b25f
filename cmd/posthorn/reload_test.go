package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestFileIsLoadedOnceForEachContentThatStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "posthorn.yaml")
	write := func(text string) func(t *testing.T) {
		return func(t *testing.T) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("one")(t)
	f := watchFile(path)
	steps := []struct {
		name string
		do   func(t *testing.T) // before the look
		want bool
	}{
		{"unchanged", nil, false},
		{"found the first time", write("two"), false},
		{"still there", nil, true},
		{"loaded", nil, false},
		{"half written", write("thr"), false},
		{"written", write("three"), false},
		{"still there", nil, true},
		{"loaded", nil, false},
		{"written and undone", write("four"), false},
		{"as loaded", write("three"), false},
		{"as loaded", nil, false},
		{"gone", func(t *testing.T) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"still gone", nil, true},
		{"not loaded again", nil, false},
		{"a folder", func(t *testing.T) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"still a folder", nil, true},
		{"back", func(t *testing.T) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			write("three")(t)
		}, false},
		{"still back", nil, true},
		{"taken by a hangup", func(t *testing.T) {
			write("five")(t)
			f.take()
		}, false},
		{"loaded by the hangup", nil, false},
	}
	for i, s := range steps {
		if s.do != nil {
			s.do(t)
		}
		if got := f.look(); got != s.want {
			t.Fatalf("step %d, %s: loaded %t", i, s.name, got)
		}
	}
}

// TestFileBehindSymbolicLinksIsWatched: Kubernetes mounts configuration so, and
// swaps the folder's link.
func TestFileBehindSymbolicLinksIsWatched(t *testing.T) {
	folder := t.TempDir()
	for _, version := range []string{"one", "two"} {
		if err := os.Mkdir(filepath.Join(folder, version), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, version, "posthorn.yaml"), []byte(version), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(folder, name+".new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(folder, name+".new"), filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("one", "..data")
	link(filepath.Join("..data", "posthorn.yaml"), "posthorn.yaml")
	f := watchFile(filepath.Join(folder, "posthorn.yaml"))
	link("two", "..data")
	if f.look() {
		t.Error("loaded at the first look at another content")
	}
	if !f.look() {
		t.Error("not loaded at the second")
	}
}

// TestRunReadsItsConfigurationAgain runs posthorn itself.
func TestRunReadsItsConfigurationAgain(t *testing.T) {
	database, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	path := filepath.Join(folder, "posthorn.yaml")
	write := func(text string) {
		t.Helper()
		text = fmt.Sprintf("database: {url: '%s'}\nsource: {slot: reloaded}\nhttp: {listen: '127.0.0.1:0'}\n%s", database, text)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(self, args...)
		cmd.Args[0] = "posthorn"
		cmd.Dir = folder
		return cmd
	}
	cmd := command("run", "--init")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	lines := bufio.NewScanner(stderr)
	waitFor := func(texts ...string) {
		t.Helper()
		for lines.Scan() {
			found := true
			for _, text := range texts {
				found = found && strings.Contains(lines.Text(), text)
			}
			if found {
				return
			}
		}
		t.Fatalf("posthorn ended before it logged %q", texts)
	}
	signal := func(s os.Signal) {
		t.Helper()
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}

	waitFor("slot acquired, delivering")
	signal(syscall.SIGHUP)
	waitFor("configuration is unchanged")
	write("stop_timeout: 9s\n")
	waitFor("configuration reloaded", "stop_timeout")
	waitFor("slot acquired, delivering")
	write("stop_timeout: nine\nsorce: {}\n")
	waitFor("the new configuration is invalid, the running one stays", `"key":"stop_timeout"`)
	waitFor("the new configuration is invalid, the running one stays", `"key":"sorce"`)
	write("transforms: [{match: ['*'], set: {v: 1}}]\n")
	signal(syscall.SIGHUP) // at once, and not again by its content
	waitFor("configuration reloaded", "stop_timeout", "transforms")
	waitFor("slot acquired, delivering")
	signal(syscall.SIGTERM)
	waitFor("posthorn stopped")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if out, err := command("uninstall", "--yes").CombinedOutput(); err != nil {
		t.Errorf("uninstall: %v\n%s", err, out)
	}
}
