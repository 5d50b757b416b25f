// Command bench measures the built relay against reference programs, side by
// side on the machine it runs on, with a PostgreSQL server and a receiver of
// its own, and prints one table. docs/performance.md tells what the figures
// mean. It runs on Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/posthorn/posthorn/integration/postgres"
)

func main() {
	if err := command(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// command runs the benchmarks or, when they started it as such, a reference.
func command(args []string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if len(args) > 0 && args[0] == referenceCommand {
		return runReference(ctx, args[1:])
	}
	return run(ctx, args, os.Stdout, os.Stderr)
}

// options are what the command line says.
type options struct {
	binary    string
	scenarios []scenario
	rounds    int
	mode      mode
	json      string
	charts    string
	markdown  string
	profiles  string
}

func parse(args []string, stderr io.Writer) (*options, error) {
	var (
		o       options
		names   string
		inBrief bool
	)
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.binary, "binary", "bin/posthorn", "the relay's `file`")
	flags.StringVar(&names, "run", "", "`names` of the scenarios, separated by commas; full for the larger sizes (default all)")
	flags.IntVar(&o.rounds, "rounds", 3, "`number` of rounds")
	flags.BoolVar(&inBrief, "brief", false, "one round of tiny sizes, which only shows that the scenarios work")
	flags.StringVar(&o.json, "json", "", "write all samples to this `file`")
	flags.StringVar(&o.charts, "charts", "", "write charts as SVG to this `folder`")
	flags.StringVar(&o.markdown, "markdown", "", "put the table between the markers of this `file`")
	flags.StringVar(&o.profiles, "profiles", "", "have each relay write its profiles to a `folder` of its own in this one")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	chosen, atFullSize, err := choose(names)
	switch {
	case err != nil:
		return nil, err
	case flags.NArg() > 0:
		return nil, fmt.Errorf("read the command line: unexpected %q", flags.Arg(0))
	case o.rounds < 1:
		return nil, fmt.Errorf("read the command line: -rounds must be 1 or more, got %d", o.rounds)
	case inBrief && atFullSize:
		return nil, errors.New("read the command line: -brief contradicts full")
	case inBrief:
		o.mode, o.rounds = brief, 1
	case atFullSize:
		o.mode = full
	}
	o.scenarios = chosen
	return &o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o.binary, o.mode, func(format string, args ...any) {
		_, _ = fmt.Fprintf(stderr, format+"\n", args...)
	})
	if err != nil {
		return err
	}
	b.profiles = o.profiles
	m, err := b.measure(ctx, o)
	if m != nil {
		err = errors.Join(err, o.report(m, stdout))
	}
	return errors.Join(err, b.close())
}

// newBench starts the server and the receiver. Call close in the end.
func newBench(ctx context.Context, binary string, mode mode, progress func(string, ...any)) (*bench, error) {
	if !canMeasure {
		return nil, errors.New("measure processes: the benchmarks run on Linux only")
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("find the relay: %w", err)
	}
	dir, err := os.MkdirTemp("", "posthorn-bench-")
	if err != nil {
		return nil, err
	}
	receiver, err := newReceiver()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	// No checkpoint comes by itself within a measurement: that would befall
	// whoever is measured at the moment.
	settings := map[string]string{"max_wal_size": "8GB", "checkpoint_timeout": "1h"}
	if mode == brief {
		settings["fsync"] = "off"
	}
	server, err := postgres.Start(ctx, postgres.Options{Settings: settings})
	if err != nil {
		receiver.close()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &bench{server: server, receiver: receiver, binary: binary, dir: dir, mode: mode, progress: progress}, nil
}

// close ends the server and the receiver.
func (b *bench) close() error {
	err := b.server.Stop()
	b.receiver.close()
	return errors.Join(err, os.RemoveAll(b.dir))
}

// measure runs all rounds. A scenario that failed is not run again; what was
// measured comes with the error.
func (b *bench) measure(ctx context.Context, o *options) (*measured, error) {
	m, err := newMeasured(ctx, b, o.mode.String())
	if err != nil {
		return nil, err
	}
	var failures error
	failed := map[string]bool{}
	say := b.progress
	for round := range o.rounds {
		for _, s := range o.scenarios {
			if failed[s.name] || ctx.Err() != nil {
				continue
			}
			b.progress = func(format string, args ...any) {
				say("%s, round %d of %d: %s", s.name, round+1, o.rounds, fmt.Sprintf(format, args...))
			}
			got, err := s.run(ctx, b)
			if err != nil {
				failed[s.name] = true
				failures = errors.Join(failures, fmt.Errorf("%s: %w", s.name, err))
				b.progress("failed")
				continue
			}
			m.add(s, got)
		}
	}
	return m, errors.Join(failures, context.Cause(ctx))
}

// report prints the table and writes what the command line asks for.
func (o *options) report(m *measured, stdout io.Writer) error {
	err := m.writeTable(stdout)
	if o.json != "" {
		err = errors.Join(err, m.writeJSON(o.json))
	}
	if o.charts != "" {
		err = errors.Join(err, m.writeCharts(o.charts))
	}
	if o.markdown != "" {
		err = errors.Join(err, m.writeMarkdown(o.markdown))
	}
	return err
}
