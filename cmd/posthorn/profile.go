package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
)

// profiled calls f and writes cpu.pprof and allocs.pprof of it into folder,
// which is created where it is missing. Without a folder it just calls f.
func profiled(folder string, f func() error) error {
	if folder == "" {
		return f()
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	cpu, err := os.Create(filepath.Join(folder, "cpu.pprof"))
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return errors.Join(fmt.Errorf("profile: %w", err), cpu.Close())
	}
	failed := f()
	pprof.StopCPUProfile()
	return errors.Join(failed, cpu.Close(), writeAllocations(filepath.Join(folder, "allocs.pprof")))
}

func writeAllocations(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(file, 0), file.Close())
}
