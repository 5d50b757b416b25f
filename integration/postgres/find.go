package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// BinVariable names the environment variable that overrides the search for
// the server's programs: the folder that holds initdb and postgres.
const BinVariable = "POSTHORN_POSTGRES_BIN"

// errNotFound is one line, because it is all that a user of the demo reads.
var errNotFound = errors.New("find a PostgreSQL server: install one (apt-get install postgresql, " +
	"or brew install postgresql@17) or set " + BinVariable + " to the folder that holds initdb and postgres")

// usualFolders are where package managers put the server's programs without
// adding them to PATH. ensure.sh searches the same ones.
var usualFolders = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/local/pgsql/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// Find returns the folder that holds the programs initdb and postgres. It
// takes the one that BinVariable names, else the one of the initdb or the
// pg_config in PATH, else the highest version in the usual folders. A folder
// named by BinVariable that lacks either program is an error, as is finding
// none; the error says in one line what to install and which variable to set.
func Find() (binDir string, err error) {
	if dir := os.Getenv(BinVariable); dir != "" {
		if !holdsServer(dir) {
			return "", fmt.Errorf("find initdb and postgres in %s=%s: name the folder that holds both", BinVariable, dir)
		}
		return filepath.Abs(dir)
	}
	if dir := fromPath(); dir != "" {
		return dir, nil
	}
	for _, pattern := range usualFolders {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("search %s: %w", pattern, err)
		}
		slices.SortFunc(dirs, func(a, b string) int { return majorVersion(b) - majorVersion(a) })
		if i := slices.IndexFunc(dirs, holdsServer); i >= 0 {
			return dirs[i], nil
		}
	}
	return "", errNotFound
}

// fromPath returns the folder of the server that PATH leads to, or "".
// It never asks for psql, which on Debian is a wrapper in a folder without
// a server.
func fromPath() string {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if resolved, err := filepath.EvalSymlinks(initdb); err == nil {
			initdb = resolved
		}
		if dir := filepath.Dir(initdb); holdsServer(dir) {
			return dir
		}
	}
	// The client libraries ship pg_config too, so what it names may not exist.
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		if dir := strings.TrimSpace(string(out)); holdsServer(dir) {
			return dir
		}
	}
	return ""
}

// holdsServer reports whether dir holds initdb and postgres as programs.
func holdsServer(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
			return false
		}
	}
	return true
}

var firstNumber = regexp.MustCompile(`[0-9]+`)

// majorVersion returns the first number in one of the usual folders' names,
// which is the server's major version, or 0 where there is none.
func majorVersion(dir string) int {
	n, err := strconv.Atoi(firstNumber.FindString(dir))
	if err != nil {
		return 0
	}
	return n
}
