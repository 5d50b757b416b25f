package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// contents are the files of an archive, below a folder of the archive's name.
var contents = map[string]int64{
	"posthorn":                          0o755,
	"LICENSE":                           0o644,
	"README.md":                         0o644,
	"CHANGELOG.md":                      0o644,
	"examples/systemd/README.md":        0o644,
	"examples/systemd/posthorn.service": 0o644,
}

// unpack returns the archive's binary if the archive holds what it must and
// nothing else, all of it root's and of the commit's time.
func unpack(archive []byte, folder string, commit time.Time) ([]byte, error) {
	compressed, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	var (
		binary   []byte
		found    = map[string]bool{}
		problems []error
	)
	for files := tar.NewReader(compressed); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(files)
		if err != nil {
			return nil, err
		}
		name := strings.TrimPrefix(header.Name, folder+"/")
		mode, wanted := contents[name]
		switch {
		case !wanted || found[name] || name == header.Name || header.Typeflag != tar.TypeReg || len(content) == 0:
			problems = append(problems, fmt.Errorf("%s: does not belong there, is there twice or is empty", header.Name))
		case header.Mode != mode || header.Uid != 0 || header.Gid != 0 || !header.ModTime.Equal(commit):
			problems = append(problems, fmt.Errorf("%s: has mode %o, owner %d:%d and time %s, want %o, 0:0 and %s",
				name, header.Mode, header.Uid, header.Gid, header.ModTime.UTC(), mode, commit.UTC()))
		}
		found[name] = true
		if name == "posthorn" {
			binary = content
		}
	}
	for name := range contents {
		if !found[name] {
			problems = append(problems, fmt.Errorf("%s: is missing", name))
		}
	}
	return binary, errors.Join(problems...)
}

// checkBinary returns the modules in the binary, with the standard library as
// module std, if it was built for the platform, as a release is.
func checkBinary(binary []byte, platform string) ([]*debug.Module, error) {
	build, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		return nil, err
	}
	if build.Path != "github.com/posthorn/posthorn/cmd/posthorn" {
		return nil, fmt.Errorf("the binary is %s", build.Path)
	}
	goos, goarch, _ := strings.Cut(platform, "/")
	var problems []error
	for _, want := range []debug.BuildSetting{
		{Key: "GOOS", Value: goos}, {Key: "GOARCH", Value: goarch}, {Key: "CGO_ENABLED", Value: "0"}, {Key: "-trimpath", Value: "true"},
	} {
		if !slices.Contains(build.Settings, want) {
			problems = append(problems, fmt.Errorf("the binary was built without %s=%s", want.Key, want.Value))
		}
	}
	return append(build.Deps, &debug.Module{Path: "std", Version: build.GoVersion}), errors.Join(problems...)
}

// checkVersion runs the binary.
func checkVersion(ctx context.Context, binary []byte, version string) error {
	folder, err := os.MkdirTemp("", "posthorn-release-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	file := filepath.Join(folder, "posthorn")
	if err := os.WriteFile(file, binary, 0o700); err != nil {
		return err
	}
	output, err := exec.CommandContext(ctx, file, "version", "--output", "json").Output()
	if err != nil {
		return fmt.Errorf("run the binary: %w", err)
	}
	var got struct{ Version string }
	if err := json.Unmarshal(output, &got); err != nil {
		return fmt.Errorf("read the binary's version: %w", err)
	}
	if got.Version != version {
		return fmt.Errorf("the binary says that it is version %s, want %s", got.Version, version)
	}
	return nil
}
