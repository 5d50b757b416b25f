package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/config"
)

// The exit codes; exitHelp tells users of them.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitConfig  = 3
	exitFinding = 4
)

const exitHelp = `Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  the configuration is invalid or cannot be read
  4  doctor found what must be mended, or health found no healthy relay
`

// globals is what every command has: the global flags and the process' own
// streams and environment.
type globals struct {
	ConfigPath string // "" looks in the usual places
	Output     string // text or json
	Server     string // the API to ask, as a URL; "" for what is on the spot
	TokenFile  string // "" for POSTHORN_TOKEN

	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	env    []string // as os.Environ returns it

	started bool // a command's own code runs: errors are no longer usage
}

// exitError is an error with an exit code other than exitFailed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usagef returns the error of a command that was called wrongly.
func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// execute runs the command line args and returns the exit code.
func execute(ctx context.Context, g *globals, args []string) int {
	root := newRootCommand(g)
	root.SetArgs(args)
	if cmd, _, err := root.Find(args); err != nil || cmd.Name() != "run" { // which reads its configuration again
		var restore context.CancelFunc
		ctx, restore = signal.NotifyContext(ctx, syscall.SIGHUP) // a closed terminal ends the others as SIGTERM does
		defer restore()
		context.AfterFunc(ctx, restore)
	}
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var exit *exitError
	code := exitFailed
	switch {
	case errors.As(err, &exit):
		code = exit.code
	case !g.started:
		code = exitUsage
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	g.complain(err)
	if code == exitUsage {
		_, _ = fmt.Fprintf(g.stderr, "See '%s --help'.\n", cmd.CommandPath())
	}
	return code
}

// complain prints an error as one line, and several errors as one line each.
func (g *globals) complain(err error) {
	if exit, ok := err.(*exitError); ok { //nolint:errorlint // what it wraps may be several
		err = exit.err
	}
	var problems *config.Error
	joined, several := err.(interface{ Unwrap() []error })
	switch {
	case several:
		for _, err := range joined.Unwrap() {
			g.complain(err)
		}
	case errors.As(err, &problems): // a list
		_, _ = fmt.Fprintf(g.stderr, "posthorn: %s\n", err)
	default:
		_, _ = fmt.Fprintf(g.stderr, "posthorn: %s\n", oneLine(err.Error()))
	}
}

func newRootCommand(g *globals) *cobra.Command {
	root := &cobra.Command{
		Use:   "posthorn",
		Short: "Posthorn delivers the events of a Postgres outbox as signed webhooks",
		Long: `Posthorn is a transactional-outbox relay for Postgres. The application inserts
events into an outbox table in its own transaction; Posthorn reads what was
committed from the replication stream and delivers it, signed, to every
endpoint that wants it, again and again until it arrives.

` + exitHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if g.Output != "text" && g.Output != "json" {
				return usagef("--output is text or json, not %q", g.Output)
			}
			g.started = true
			return nil
		},
	}
	root.SetIn(g.stdin)
	root.SetOut(g.stdout)
	root.SetErr(g.stderr)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVar(&g.ConfigPath, "config", "", "configuration `file` (default: posthorn.yaml, .toml or .json here or in /etc/posthorn)")
	root.PersistentFlags().StringVar(&g.Output, "output", "text", "text or json")
	root.AddCommand(
		newInitCommand(g),
		newRunCommand(g),
		newCheckCommand(g),
		newDoctorCommand(g),
		newUninstallCommand(g),
		newDemoCommand(g),
		newListenCommand(g),
		newEndpointsCommand(g),
		newDeliveriesCommand(g),
		newReplayCommand(g),
		newSendTestCommand(g),
		newEventsCommand(g),
		newTransformCommand(g),
		newSimulateCommand(g),
		newConfigCommand(g),
		newHealthCommand(g),
		newVersionCommand(g),
	)
	return root
}

// load reads the configuration. Its errors have an exit code of their own.
func (g *globals) load() (*config.Config, error) {
	cfg, err := config.Load(g.ConfigPath, g.env)
	if err != nil {
		return nil, unusable(err)
	}
	return cfg, nil
}

// loadWithFiles is load for a command that uses the files which the
// configuration names, such as plugins.
func (g *globals) loadWithFiles() (*config.Config, error) {
	cfg, err := config.LoadWithFiles(g.ConfigPath, g.env)
	if err != nil {
		return nil, unusable(err)
	}
	return cfg, nil
}

// unusable returns the error of a configuration that cannot be used for err.
func unusable(err error) error {
	var problems *config.Error
	if errors.As(err, &problems) {
		err = fmt.Errorf("the configuration has %s:\n%w", count(len(problems.Problems), "problem"), err)
	}
	return &exitError{exitConfig, err}
}

// printf writes to standard output. A command whose reader went away ends by
// SIGPIPE; any other failure to print has nobody to be told to.
func (g *globals) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(g.stdout, format, args...)
}

// printJSON writes v to standard output, indented.
func (g *globals) printJSON(v any) error {
	e := json.NewEncoder(g.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// getenv returns the variable's value, "" when it is not set.
func (g *globals) getenv(name string) string {
	for _, kv := range g.env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// printSteps runs f and prints the steps that it reports: each at once as
// text, or all at the end as JSON, if f succeeds.
func (g *globals) printSteps(f func(progress func(step string)) error) error {
	var steps []string
	err := f(func(step string) {
		steps = append(steps, step)
		if g.Output == "text" {
			g.printf("%s\n", step)
		}
	})
	if err != nil || g.Output == "text" {
		return err
	}
	return g.printJSON(map[string]any{"steps": steps})
}
