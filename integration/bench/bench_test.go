package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// relayVariable names the relay to test; without it the tests build one.
const relayVariable = "POSTHORN_BIN"

// TestMain runs the tests, or is a reference when a scenario starts it as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == referenceCommand {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// relayBinary returns the relay's file.
func relayBinary(t *testing.T) string {
	t.Helper()
	if binary := os.Getenv(relayVariable); binary != "" {
		return binary
	}
	binary := filepath.Join(t.TempDir(), "posthorn")
	if output, err := exec.Command("go", "build", "-o", binary, "../../cmd/posthorn").CombinedOutput(); err != nil {
		t.Fatalf("build the relay: %v\n%s", err, output)
	}
	return binary
}

// TestScenariosBriefly runs every scenario at its smallest size. A scenario
// fails when not exactly what it wrote was delivered; how fast is not judged.
func TestScenariosBriefly(t *testing.T) {
	if !canMeasure {
		t.Skip("the benchmarks run on Linux only")
	}
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), []string{"-brief", "-binary", relayBinary(t)}, &stdout, &stderr)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	for _, s := range scenarios() {
		if len(s.figures) > 0 && !strings.Contains(stdout.String(), s.title) {
			t.Errorf("the table has no %q", s.title)
		}
		for _, f := range s.figures {
			if !strings.Contains(stdout.String(), f.title) {
				t.Errorf("the table has no %q under %q", f.title, s.title)
			}
		}
	}
	if t.Failed() {
		t.Log(stdout.String())
	}
}

func TestNamesOfScenariosAndFiguresAreTheirOwn(t *testing.T) {
	names := map[string]bool{}
	for _, s := range scenarios() {
		if names[s.name] || s.name == "full" || strings.ContainsAny(s.name, ", ") {
			t.Errorf("the name %q cannot be chosen", s.name)
		}
		names[s.name] = true
		keys := map[string]bool{}
		for _, f := range s.figures {
			if keys[f.key] {
				t.Errorf("%s has two figures %q", s.name, f.key)
			}
			keys[f.key] = true
		}
	}
}

func TestCommandLine(t *testing.T) {
	all := namesOf(scenarios())
	tests := map[string]struct {
		args    []string
		want    []string
		mode    mode
		rounds  int
		wantErr string
	}{
		"all":                {want: all, rounds: 3},
		"one":                {args: []string{"-run", "drain"}, want: []string{"drain"}, rounds: 3},
		"two, in our order":  {args: []string{"-run", "payload, drain", "-rounds", "5"}, want: []string{"drain", "payload"}, rounds: 5},
		"all at full size":   {args: []string{"-run", "full"}, want: all, mode: full, rounds: 3},
		"one at full size":   {args: []string{"-run", "full,slow"}, want: []string{"slow"}, mode: full, rounds: 3},
		"brief":              {args: []string{"-brief", "-rounds", "5"}, want: all, mode: brief, rounds: 1},
		"unknown":            {args: []string{"-run", "drian"}, wantErr: `"drian"`},
		"brief and full":     {args: []string{"-brief", "-run", "full"}, wantErr: "contradicts"},
		"no round":           {args: []string{"-rounds", "0"}, wantErr: "-rounds"},
		"something too many": {args: []string{"drain"}, wantErr: `"drain"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			got, err := parse(test.args, &stderr)
			if test.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), test.wantErr) {
					t.Fatalf("got %v, want an error that contains %s", err, test.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if names := namesOf(got.scenarios); fmt.Sprint(names) != fmt.Sprint(test.want) || got.mode != test.mode || got.rounds != test.rounds {
				t.Errorf("got %v, %s, %d rounds; want %v, %s, %d", names, got.mode, got.rounds, test.want, test.mode, test.rounds)
			}
		})
	}
}

func TestReferenceIsRefusedUnlessItIsKnown(t *testing.T) {
	for _, args := range [][]string{nil, {"ceiling"}, {"floor", "-client=fast"}} {
		if err := runReference(t.Context(), args); err == nil {
			t.Errorf("%q ran", args)
		}
	}
}

// TestProcessThatDoesNotDeliver has the error say what the process printed.
func TestProcessThatDoesNotDeliver(t *testing.T) {
	cmd := exec.Command("sh", "-c", "echo the reason; exit 3")
	cmd.SysProcAttr = sysProcAttr()
	_, err := startProcess(t.Context(), "shell", cmd, "never printed")
	if err == nil || !strings.Contains(err.Error(), "the reason") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v, want the output and how the process ended", err)
	}
}

func TestProcessIsMeasuredAndStopped(t *testing.T) {
	if !canMeasure {
		t.Skip("the benchmarks run on Linux only")
	}
	cmd := exec.Command("sh", "-c", "trap 'exit 0' TERM; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo counted; while :; do sleep 0.01; done")
	p, err := startProcess(t.Context(), "shell", cmd, "counted")
	if err != nil {
		t.Fatal(err)
	}
	cpu, rss := p.cpu(), p.rss()
	const slack = 1 << 20 // the kernel adds the present memory up, and is content with an estimate for the peak
	if peak := p.peak(); cpu <= 0 || rss <= 0 || peak < rss-slack {
		t.Errorf("got CPU %s, memory %d, at most %d", cpu, rss, peak)
	}
	if err := errors.Join(p.stop(), p.stop()); err != nil {
		t.Error(err)
	}
	if p.cpu() != 0 {
		t.Error("a process that ended is measured still")
	}
}
