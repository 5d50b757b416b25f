package config

import "fmt"

// Path returns the file that Load reads for path: path itself, or for the empty
// one what it finds, "" where there is none and the environment alone is the
// configuration.
func Path(path string) (string, error) {
	if path != "" {
		return path, nil
	}
	found, err := search()
	if err != nil {
		return "", fmt.Errorf("look for a configuration: %w", err)
	}
	return found, nil
}
