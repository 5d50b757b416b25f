package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// socketPathRest are the bytes that follow the socket folder in the path of a
// plugin's socket: "/plugin-dir" and "/plugin", each with up to ten digits.
const socketPathRest = 38

// maxSocketPath are the bytes of a Unix socket's path on the strictest of the
// systems that we run on.
const maxSocketPath = 103

// Sum returns the hex SHA-256 of a file.
func Sum(path string) (string, error) {
	if err := checkRegular(path); err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", plain(err)
	}
	defer func() { _ = f.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", plain(err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// checkFiles checks the program and the folders, and returns the program's sum.
func (o *Options) checkFiles() (string, error) {
	if err := checkRegular(o.Path); err != nil {
		return "", err
	}
	if info, err := os.Stat(o.Path); err == nil && info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("file %s is not executable: it lacks the run bit (chmod +x)", o.Path)
	}
	sum, err := Sum(o.Path)
	if err != nil {
		return "", err
	}
	if o.SHA256 != "" && sum != o.SHA256 {
		return "", fmt.Errorf("file %s has the wrong sha256: expected %s, found %s", o.Path, o.SHA256, sum)
	}
	if o.Dir != "" {
		if err := checkFolder("dir", o.Dir); err != nil {
			return "", err
		}
	}
	return sum, checkSocketDir(o.SocketDir)
}

// checkRegular returns an error unless path is a file. Anything else may not be
// opened: a pipe would wait for its other end.
func checkRegular(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("file %s does not exist", path)
	case err != nil:
		return plain(err)
	case info.IsDir():
		return fmt.Errorf("%s is a folder, not a program", path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	}
	return nil
}

func checkFolder(key, path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: folder %s does not exist", key, path)
	case err != nil:
		return fmt.Errorf("%s: %w", key, plain(err))
	case !info.IsDir():
		return fmt.Errorf("%s: %s is not a folder", key, path)
	}
	return nil
}

// checkSocketDir returns an error unless folders with sockets can be made in
// path.
func checkSocketDir(path string) error {
	if err := checkFolder("socket_dir", path); err != nil {
		return err
	}
	if longest := maxSocketPath - socketPathRest; len(path) > longest {
		return fmt.Errorf("socket_dir: %s has %d bytes, of at most %d: the system bounds the paths of sockets", path, len(path), longest)
	}
	probe, err := os.MkdirTemp(path, "plugin-dir")
	if err != nil {
		return fmt.Errorf("socket_dir: folder %s is not writable: %w", path, bare(err))
	}
	return os.Remove(probe)
}

// plain returns an error of the file system's without the name of the system
// call: "PATH: permission denied".
func plain(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s: %w", path.Path, path.Err)
	}
	return err
}

// bare returns only what the system said.
func bare(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
