package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/posthorn/posthorn/integration/postgres"
	"github.com/posthorn/posthorn/plugins"
)

var server *postgres.Server

// TestMain is posthorn itself, or a plugin, when a script runs it.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{postgres.WithServer(m, &server)}, map[string]func(){
		"posthorn": main,
		"plugin":   func() { plugins.Serve(plugins.TransformerFunc(obey)) },
	})
}

// obey does what the payload says, as a text.
func obey(ctx context.Context, e *plugins.Event) error {
	plugins.Logger().InfoContext(ctx, "information")
	plugins.Logger().WarnContext(ctx, "warning")
	switch string(e.Payload) {
	case `"fail"`:
		return errors.New("no luck")
	case `"reject"`:
		return plugins.Reject(errors.New("never"))
	case `"skip"`:
		return plugins.Skip("")
	}
	return nil
}

// leakChecked is a suite that fails when a goroutine outlives it.
type leakChecked struct{ suite postgres.Suite }

func (l leakChecked) Run() int {
	code := l.suite.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			url, err := server.Database(t.Context())
			env.Setenv("DATABASE_URL", url)
			if err != nil {
				return err
			}
			path, err := exec.LookPath("plugin")
			env.Setenv("PLUGIN", path)
			return err
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// exits runs posthorn and fails the script unless it ends with an exit code:
// exits CODE ARGUMENT…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE ARGUMENT…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec("posthorn", args[1:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("posthorn ended with %d, not %d", code, want)
	}
}
