package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// dataDir is the cluster's folder. It is not the server's folder itself,
// which stays ours when the cluster belongs to another user.
func (s *Server) dataDir() string { return filepath.Join(s.dir, "data") }

// create makes the cluster and writes its settings.
func (s *Server) create(ctx context.Context, settings map[string]string) error {
	if err := os.Mkdir(s.dataDir(), 0o700); err != nil {
		return fmt.Errorf("create the cluster's folder: %w", err)
	}
	passwordFile := filepath.Join(s.dir, "password")
	if err := os.WriteFile(passwordFile, []byte(s.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the password file: %w", err)
	}
	for _, path := range []string{s.dataDir(), passwordFile} {
		if err := giveTo(s.cred, path); err != nil {
			return fmt.Errorf("hand over the cluster's folder: %w", err)
		}
	}
	initdb, err := startProcess(s.command("initdb",
		"--pgdata="+s.dataDir(), "--username="+superuser, "--pwfile="+passwordFile, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"))
	if err != nil {
		return err
	}
	if err := initdb.wait(ctx); err != nil {
		return fmt.Errorf("run initdb: %w\n%s", err, s.log)
	}
	if err := os.Remove(passwordFile); err != nil {
		return fmt.Errorf("remove the password file: %w", err)
	}
	return s.configure(settings)
}

// configure appends the settings to the cluster's configuration file rather
// than to the command line, where ALTER SYSTEM could not override them.
func (s *Server) configure(settings map[string]string) error {
	all := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": "", // its path's length is limited, ours is not
		"wal_level":               "logical",
		"max_wal_senders":         "10",
		"max_replication_slots":   "10",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
	}
	maps.Copy(all, settings)
	quote := strings.NewReplacer(`'`, `''`, `\`, `\\`)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, quote.Replace(all[name]))
	}
	file, err := os.OpenFile(filepath.Join(s.dataDir(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write the server's settings: %w", err)
	}
	_, err = file.WriteString(text.String())
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write the server's settings: %w", err)
	}
	return nil
}

// command returns a command of the server's programs as the server's user,
// with an environment in which nothing points at another server.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir // ours may be closed to the server's user
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "PG") && !strings.HasPrefix(entry, "LC_") && !strings.HasPrefix(entry, "LANG") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.SysProcAttr = sysProcAttr(s.cred)
	return cmd
}
