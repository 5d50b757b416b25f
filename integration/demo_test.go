package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"testing"
	"time"
)

// TestDemoEndsByItself runs the demo as `make demo` does without a terminal.
func TestDemoEndsByItself(t *testing.T) {
	const limit = 90 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, "demo", "--output", "json")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("the demo ended with %v:\n%s%s", err, &stderr, &stdout)
	}
	var s struct {
		Events, Committed, Delivered, Retried, Duplicates, Missing int
		RolledBack                                                 int `json:"rolled_back"`
		RolledBackArrived                                          int `json:"rolled_back_arrived"`
		WrongSignatures                                            int `json:"wrong_signatures"`
		Seconds                                                    float64
		OK                                                         bool
	}
	if err := json.Unmarshal(stdout.Bytes(), &s); err != nil {
		t.Fatalf("read the summary: %v:\n%s", err, &stdout)
	}
	t.Logf("FIGURE demo: %d committed, %d rolled back, %d delivered, %d retried, %d duplicates in %.1fs",
		s.Committed, s.RolledBack, s.Delivered, s.Retried, s.Duplicates, s.Seconds)
	if !s.OK || s.Events != 2000 || s.RolledBack == 0 || s.Retried == 0 || s.Missing+s.RolledBackArrived+s.WrongSignatures != 0 {
		t.Errorf("summary %+v", s)
	}
}
