package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var commit = time.Unix(1_780_000_000, 0)

// headers are those of a proper archive.
func headers() []*tar.Header {
	var all []*tar.Header
	for name, mode := range contents {
		all = append(all, &tar.Header{Name: "posthorn_1.2.3_linux_amd64/" + name, Mode: mode, ModTime: commit})
	}
	return all
}

// pack makes an archive in which each file contains its own name.
func pack(t *testing.T, files []*tar.Header) []byte {
	t.Helper()
	var buffer bytes.Buffer
	compressed := gzip.NewWriter(&buffer)
	archive := tar.NewWriter(compressed)
	for _, header := range files {
		header.Size = int64(len(header.Name))
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(header.Name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := compressed.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

func TestArchiveHoldsWhatItMustAndNothingElse(t *testing.T) {
	cases := map[string]struct {
		change func([]*tar.Header) []*tar.Header
		want   string // in the error; "" for none
	}{
		"proper":       {func(h []*tar.Header) []*tar.Header { return h }, ""},
		"file missing": {func(h []*tar.Header) []*tar.Header { return h[1:] }, "is missing"},
		"file twice":   {func(h []*tar.Header) []*tar.Header { return append(h, h[0]) }, "is there twice"},
		"other file": {func(h []*tar.Header) []*tar.Header {
			return append(h, &tar.Header{Name: "posthorn_1.2.3_linux_amd64/.env", Mode: 0o644, ModTime: commit})
		}, ".env: does not belong there"},
		"outside the folder": {func(h []*tar.Header) []*tar.Header {
			h[0].Name = strings.TrimPrefix(h[0].Name, "posthorn_1.2.3_linux_amd64/")
			return h
		}, "does not belong there"},
		"owner of the machine": {func(h []*tar.Header) []*tar.Header { h[0].Uid = 1000; return h }, "owner 1000:0"},
		"time of the build":    {func(h []*tar.Header) []*tar.Header { h[0].ModTime = commit.Add(time.Second); return h }, "time 2026"},
		"mode":                 {func(h []*tar.Header) []*tar.Header { h[0].Mode = 0o600; return h }, "mode 600"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			binary, err := unpack(pack(t, c.change(headers())), "posthorn_1.2.3_linux_amd64", commit)
			expect(t, err, c.want)
			if c.want == "" && string(binary) != "posthorn_1.2.3_linux_amd64/posthorn" {
				t.Errorf("the binary is %q", binary)
			}
		})
	}
}

func TestSumsAreOfTheFilesAndComplete(t *testing.T) {
	line := func(name string) string { return fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(name)), name) }
	cases := map[string]struct{ sums, want string }{
		"proper":       {line("a") + line("b"), ""},
		"not listed":   {line("a"), "b is not listed"},
		"other sum":    {line("a") + strings.Replace(line("a"), "  a", "  b", 1), "b has another sum"},
		"unknown file": {line("a") + line("b") + line("c"), "for no file of the release"},
		"no sum":       {line("a") + line("b") + "\n", "for no file of the release"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			for file, content := range map[string]string{"a": "a", "b": "b", sumsFile: c.sums} {
				if err := os.WriteFile(filepath.Join(folder, file), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			root, err := os.OpenRoot(folder)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			expect(t, checkSums(root, []string{"a", "b"}), c.want)
		})
	}
}

func TestSBOMNamesEveryModuleOfTheBinary(t *testing.T) {
	const (
		head = `{"bomFormat": "CycloneDX", "metadata": {"component": {"name": "github.com/posthorn/posthorn", "version": "v1.2.3"},
			"properties": [{"name": "cdx:gomod:binary:hash:SHA-256", "value": "%x"}]}, "components": [`
		driver = `{"name": "github.com/jackc/pgx/v5", "version": "v5.12.0"}`
		cel    = `{"name": "cel.dev/cel-go", "version": "v0.33.2"}`
	)
	binary := []byte("binary")
	modules := []*debug.Module{{Path: "github.com/jackc/pgx/v5", Version: "v5.12.0"}, {Path: "cel.dev/cel-go", Version: "v0.33.2"}}
	proper := fmt.Sprintf(head, sha256.Sum256(binary))
	cases := map[string]struct {
		document string
		modules  []*debug.Module
		want     string
	}{
		"proper":         {proper + driver + "," + cel + "]}", modules, ""},
		"lacks a module": {proper + driver + "]}", modules, "the SBOM lacks cel.dev/cel-go v0.33.2"},
		"other version":  {proper + driver + "," + strings.Replace(cel, "33", "34", 1) + "]}", modules, "the SBOM lacks cel.dev/cel-go"},
		"other binary":   {fmt.Sprintf(head, sha256.Sum256(nil)) + driver + "," + cel + "]}", modules, "of another binary"},
		"other release":  {strings.Replace(proper, "v1.2.3", "v1.2.4", 1) + driver + "," + cel + "]}", modules, "want {github.com/posthorn/posthorn v1.2.3}"},
		"no modules":     {proper + "]}", nil, "the binary has no module github.com/jackc/pgx/v5"},
		"no JSON":        {"<bom/>", modules, "read the SBOM"},
		"other JSON":     {"{}", modules, `format is ""`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			expect(t, checkSBOM([]byte(c.document), binary, "v1.2.3", c.modules), c.want)
		})
	}
}

func TestBinaryOfAnotherProgramIsReported(t *testing.T) {
	file, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = checkBinary(binary, runtime.GOOS+"/"+runtime.GOARCH)
	expect(t, err, "the binary is github.com/posthorn/posthorn/integration/release")
	_, err = checkBinary([]byte("#!/bin/sh\n"), "linux/amd64")
	expect(t, err, "unrecognized file format")
}

// expect fails the test unless err says what is wanted, or is nil if that is "".
func expect(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("got the error %q, want none", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("got the error %v, want one with %q", err, want)
	}
}
