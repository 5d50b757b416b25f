package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf8"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 16 << 20

// Load reads the configuration file at path, whose ending (.yaml, .yml, .toml
// or .json) says its format, and environ, which is as [os.Environ] gives it.
// With an empty path it looks for posthorn.yaml, posthorn.toml and
// posthorn.json in the working folder, then in /etc/posthorn; where there is
// none, the environment alone is the configuration.
//
// References ${NAME} and ${file:PATH} in the file's values are expanded.
// Variables such as POSTHORN_DATABASE__URL override the file.
//
// Files that the configuration only names are not looked at: programs and
// folders of plugins, schemas, certificates and keys. Whoever asks the ledger
// about deliveries may have none of them. See [LoadWithFiles].
//
// A file that cannot be read is an error that wraps the cause; anything wrong
// in it or in the environment is an [*Error] that lists every problem.
func Load(path string, environ []string) (*Config, error) { return load(path, environ, false) }

// LoadWithFiles is [Load] for those who use the files that the configuration
// names: these are checked too, and what is wrong with them stands in the same
// list. What a schema says of the catalogue's examples is known only then.
func LoadWithFiles(path string, environ []string) (*Config, error) { return load(path, environ, true) }

func load(path string, environ []string, files bool) (*Config, error) {
	if path == "" {
		found, err := search()
		if err != nil {
			return nil, fmt.Errorf("look for a configuration: %w", err)
		}
		path = found
	}
	var data []byte
	if path != "" {
		var err error
		if data, err = readFile(path, maxFile); err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
	}
	return parse(path, data, environ, files)
}

// search returns the file to read when none is named, or "" when there is none.
func search() (string, error) {
	for _, folder := range []string{"", "/etc/posthorn"} {
		for _, name := range []string{"posthorn.yaml", "posthorn.toml", "posthorn.json"} {
			path := filepath.Join(folder, name)
			_, err := os.Stat(path)
			if err == nil {
				return path, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
	}
	return "", nil
}

// readFile returns the content of a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a pipe would block, a device never end
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %v", path, Bytes(limit))
	}
	return data, nil
}

// parse makes the configuration of a file's text and the environment. With
// an empty name there is no file. files is whether those that it names are
// looked at.
func parse(name string, data []byte, environ []string, files bool) (*Config, error) {
	vars := environMap(environ)
	ps := &problems{}
	root := &node{kind: object, file: name}
	if name != "" {
		var err error
		if root, err = parseFile(name, data, ps); err != nil {
			return nil, err
		}
	}
	e := expander{environ: vars, problems: ps}
	e.expand(top(root))

	documents := append([]*node{root}, variables(vars, ps)...)
	cfg := reader{problems: ps}.decode(documents)
	root, err := merge(documents...)
	if err != nil {
		return nil, err
	}
	v := newValidator(cfg, ps, files)
	v.validate(top(root))
	if err := ps.err(); err != nil {
		return nil, err
	}
	cfg.root, cfg.warnings, cfg.files, cfg.examples = root, v.warnings.sorted(), files, v.samples.made
	return cfg, nil
}

// parseFile returns the document that a file's text holds. It returns an
// error when there is none to go on with, and adds lesser problems to ps.
func parseFile(name string, data []byte, ps *problems) (*node, error) {
	b := &builder{file: name}
	start := place{node: &node{file: name, line: 1}}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var root *node
	switch ending := filepath.Ext(name); {
	case !utf8.Valid(data):
		b.problems.add(start, "is not UTF-8 text")
	case ending == ".yaml" || ending == ".yml":
		root = b.parseYAML(data)
	case ending == ".toml":
		root = b.parseTOML(data)
	case ending == ".json":
		root = b.parseJSON(data)
	default:
		b.problems.add(start, "must end in .yaml, .yml, .toml or .json, got %q", ending)
	}
	*ps = b.problems
	switch {
	case root == nil && len(ps.list) > 0, b.full:
		return nil, ps.err()
	case root == nil || root.kind == null: // an empty file
		return &node{kind: object, file: name, line: 1}, nil
	case root.kind != object:
		ps.add(place{node: root}, "must be %v, got %v", object, root.kind)
		return nil, ps.err()
	default:
		return root, nil
	}
}
