package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account returns whom the server runs as: nil for this process's own user,
// or, since PostgreSQL refuses to run as root, the user postgres or nobody.
func account() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up user %s: %w", name, err)
		}
		uid, err := strconv.ParseUint(found.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read the user id of %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(found.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read the group id of %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("find a user to run PostgreSQL as, which refuses root: create the user postgres")
}

// makeFolder creates the server's folder: dir, or a temporary one where dir
// is empty. cred, if any, is able to pass through it but not to write to it.
func makeFolder(dir string, cred *syscall.Credential) (string, error) {
	if dir != "" {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return "", err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		if cred != nil && !passable(dir) {
			return "", fmt.Errorf("use %s: the server runs as an unprivileged user, who needs the x permission on it and all folders above", dir)
		}
		return dir, nil
	}
	dir, err := os.MkdirTemp(tempRoot(cred), "posthorn-postgres-")
	if err != nil {
		return "", err
	}
	if cred != nil {
		if err := os.Chmod(dir, 0o711); err != nil {
			return "", errors.Join(err, os.Remove(dir))
		}
	}
	return dir, nil
}

// tempRoot returns the folder for temporary ones. TMPDIR may lead to one
// that only root can enter, which is of no use to cred.
func tempRoot(cred *syscall.Credential) string {
	if cred == nil || passable(os.TempDir()) {
		return os.TempDir()
	}
	return "/tmp"
}

// passable reports whether every user can pass through dir and all folders
// above it.
func passable(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// giveTo makes cred, if any, the owner of the file or folder at path.
func giveTo(cred *syscall.Credential, path string) error {
	if cred == nil {
		return nil
	}
	return os.Chown(path, int(cred.Uid), int(cred.Gid))
}
