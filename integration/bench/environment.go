package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// environment is what a run was measured on.
type environment struct {
	Commit   string    `json:"commit"` // of the relay, as its binary says
	Date     time.Time `json:"date"`
	CPU      string    `json:"cpu"`
	Cores    int       `json:"cores"`
	Memory   int64     `json:"memory"` // bytes; 0 where the system does not say
	Kernel   string    `json:"kernel"`
	Go       string    `json:"go"` // that built the relay
	Postgres string    `json:"postgres"`
}

const unknown = "unknown"

// newMeasured returns a run without a sample; mode is brief, normal or full.
// It asks the binary, the server and, on Linux, the kernel what they are.
func newMeasured(ctx context.Context, b *bench, mode string) (*measured, error) {
	e := environment{
		Date: time.Now().UTC(), Cores: runtime.NumCPU(),
		CPU: fieldOf("/proc/cpuinfo", "model name"), Kernel: runtime.GOOS + " " + unknown,
	}
	if kib, err := strconv.ParseInt(strings.TrimSuffix(fieldOf("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		e.Memory = kib << 10
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		e.Kernel = "Linux " + strings.TrimSpace(string(release))
	}
	if err := e.askBinary(ctx, b.binary); err != nil {
		return nil, err
	}
	if err := e.askServer(ctx, b.server.URL("postgres")); err != nil {
		return nil, err
	}
	return &measured{Mode: mode, Environment: e}, nil
}

// fieldOf returns the value of the first line "name: value" of a file of the
// kernel's, or unknown.
func fieldOf(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return unknown
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return unknown
}

// askBinary takes commit and Go's version from the relay's binary.
func (e *environment) askBinary(ctx context.Context, binary string) error {
	output, err := exec.CommandContext(ctx, binary, "version", "--output", "json").Output()
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", binary, err)
	}
	var version struct{ Version, Go string }
	if err := json.Unmarshal(output, &version); err != nil {
		return fmt.Errorf("ask %s for its version: %w", binary, err)
	}
	e.Commit, e.Go = version.Version, version.Go
	return nil
}

// askServer takes Postgres' version from the server.
func (e *environment) askServer(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("ask the server for its version: %w", err)
	}
	err = conn.QueryRow(ctx, `SHOW server_version`).Scan(&e.Postgres)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("ask the server for its version: %w", err)
	}
	e.Postgres, _, _ = strings.Cut(e.Postgres, " ") // what stands behind it names the packager
	return nil
}

// sentence says what was measured, how, when and on what.
func (e *environment) sentence(how string) string {
	memory := ""
	if e.Memory > 0 {
		memory = number(float64(e.Memory)/(1<<30)) + " GiB, "
	}
	return fmt.Sprintf("Commit %s, %s, %s: %s, %d cores, %s%s, %s, PostgreSQL %s.",
		e.Commit, e.Date.Format(time.DateOnly), how, e.CPU, e.Cores, memory, e.Kernel, e.Go, e.Postgres)
}
