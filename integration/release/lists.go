package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
)

const sumsFile = "checksums.txt"

// checkSums reports files whose SHA-256 sum is not the one listed, files that
// are not listed, and lines for others.
func checkSums(root *os.Root, files []string) error {
	sums, err := root.ReadFile(sumsFile)
	if err != nil {
		return err
	}
	var (
		listed   []string
		problems []error
	)
	for line := range strings.Lines(string(sums)) {
		want, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !slices.Contains(files, name) {
			problems = append(problems, fmt.Errorf("line %q is for no file of the release", line))
			continue
		}
		listed = append(listed, name)
		content, err := root.ReadFile(name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if got := sha256.Sum256(content); hex.EncodeToString(got[:]) != want {
			problems = append(problems, fmt.Errorf("%s has another sum, %x", name, got))
		}
	}
	for _, name := range files {
		if !slices.Contains(listed, name) {
			problems = append(problems, fmt.Errorf("%s is not listed", name))
		}
	}
	return errors.Join(problems...)
}

type component struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// checkSBOM reports whether the CycloneDX document is of another binary or
// version, and which of the binary's modules it lacks.
func checkSBOM(document, binary []byte, version string, modules []*debug.Module) error {
	var bom struct {
		Format   string `json:"bomFormat"`
		Metadata struct {
			Component  component  `json:"component"`
			Properties []property `json:"properties"`
		} `json:"metadata"`
		Components []component `json:"components"`
	}
	if err := json.Unmarshal(document, &bom); err != nil {
		return fmt.Errorf("read the SBOM: %w", err)
	}
	var problems []error
	if bom.Format != "CycloneDX" {
		problems = append(problems, fmt.Errorf("the SBOM's format is %q", bom.Format))
	}
	if want := (component{"github.com/posthorn/posthorn", version}); bom.Metadata.Component != want {
		problems = append(problems, fmt.Errorf("the SBOM is of %v, want %v", bom.Metadata.Component, want))
	}
	sum := sha256.Sum256(binary)
	if !slices.Contains(bom.Metadata.Properties, property{"cdx:gomod:binary:hash:SHA-256", hex.EncodeToString(sum[:])}) {
		problems = append(problems, errors.New("the SBOM is of another binary"))
	}
	const driver = "github.com/jackc/pgx/v5"
	if !slices.ContainsFunc(modules, func(m *debug.Module) bool { return m.Path == driver }) {
		problems = append(problems, fmt.Errorf("the binary has no module %s", driver))
	}
	for _, m := range modules {
		if !slices.Contains(bom.Components, component{m.Path, m.Version}) {
			problems = append(problems, fmt.Errorf("the SBOM lacks %s %s", m.Path, m.Version))
		}
	}
	return errors.Join(problems...)
}
