package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/integration/postgres"
	"github.com/posthorn/posthorn/relay"
)

const (
	demoEvents = 2000 // where nobody is there to press Ctrl-C
	// demoGrace is how long all but the writing may take.
	demoGrace = 70 * time.Second
	// demoDrain is how long what was written may take to arrive.
	demoDrain = 30 * time.Second
)

// demoOptions are the flags of posthorn demo.
type demoOptions struct {
	events    int // 0 for no end
	rate      float64
	seed      uint64
	dashboard bool          // with a token for it, and people who use it
	step      time.Duration // how long those think
}

func newDemoCommand(g *globals) *cobra.Command {
	o := demoOptions{step: demoStep}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the relay at work on a private Postgres",
		Long: `Show the relay at work. The demo starts a private Postgres, a small host
application that writes events of four products in its own transactions and
rolls some of them back, the relay, and a receiver that verifies every
signature and fails a share of the requests. It ends with a summary, and leaves
nothing behind.

The relay runs the configurations in examples/, with these differences: events
go to the demo's receiver; requests carry one more header, by which it tells
events apart; retries come after fractions of a second instead of hours.
Danbyte's document knows no retries, so its requests are not failed.

On a terminal it goes on until Ctrl-C, and begins with the dashboard's address
and a token. Besides the four products' endpoints there are those of customers
then, made through the relay's API: one is slow, one fails most of the time,
one is paused now and then, one was given up. Operators test, pause, resume,
retry, replay and rotate secrets. The summary is not about these endpoints.
With --events, or without a terminal, the demo ends by itself, and has none of
that unless --dashboard asks for it. The exit code is 0 only if every committed event arrived,
no event that was rolled back did, and every signature was right.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.events < 0 || o.rate < 0 {
				return usagef("--events and --rate are 0 or more")
			}
			if terminal := isTerminal(g.stdout); !cmd.Flags().Changed("events") {
				if !terminal {
					o.events = demoEvents
				}
				o.dashboard = o.dashboard || terminal && !cmd.Flags().Changed("dashboard")
			}
			return runDemo(cmd.Context(), g, o)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.events, "events", 0, "write `n` events and end; 0 for no end (default: 2000 without a terminal)")
	f.BoolVar(&o.dashboard, "dashboard", false, "say where the dashboard is, and keep its pages alive (default: on a terminal without --events)")
	f.Float64Var(&o.rate, "rate", 250, "write `n` events a second; 0 for as many as possible")
	f.Uint64Var(&o.seed, "seed", 1, "`number` that decides what is written, rolled back and failed")
	return cmd
}

// demo is a running demo.
type demo struct {
	tracker  *tracker
	receiver *demoReceiver
	host     *demoHost
	relay    *relay.Relay
	progress *progress
	life     *demoLife // nil without the dashboard
	log      *logTail  // the relay's, and life's
}

// runDemo runs the demo and prints its summary. ctx ends the writing.
func runDemo(ctx context.Context, g *globals, o demoOptions) (err error) {
	started := time.Now()
	whole, cancel := o.limit(context.WithoutCancel(ctx))
	defer cancel()
	// writing ends with the whole, too.
	writing, stopWriting := context.WithCancelCause(whole)
	defer context.AfterFunc(ctx, func() { stopWriting(errors.New("demo was interrupted while it started")) })()

	_, _ = fmt.Fprintln(g.stderr, "Starting a private Postgres")
	server, err := postgres.Start(writing, postgres.Options{})
	if err != nil {
		return cmp.Or(context.Cause(writing), err)
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	d, err := newDemo(writing, g, o, server)
	if err != nil {
		return cmp.Or(context.Cause(writing), err)
	}
	defer d.host.close()
	err = d.run(whole, writing)
	if err == nil {
		err = context.Cause(whole)
	}
	s := d.tracker.summarize(time.Since(started))
	s.OK = s.OK && err == nil
	if err := s.print(g); err != nil {
		return err
	}
	if err = errors.Join(err, s.problem()); err != nil {
		_, _ = fmt.Fprintf(g.stderr, "The end of the relay's log:\n%s", d.log)
	}
	return err
}

// limit returns a context for the whole demo: one that is to end by itself has
// a limit, so that it cannot hang.
func (o demoOptions) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if o.events == 0 {
		return context.WithCancel(ctx)
	}
	limit := demoGrace
	if o.rate > 0 {
		limit += time.Duration(float64(o.events) / o.rate * float64(time.Second))
	}
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("demo did not end within %s", limit.Round(time.Second)))
}

// newDemo prepares the database and puts the demo's parts together.
func newDemo(ctx context.Context, g *globals, o demoOptions, server *postgres.Server) (*demo, error) {
	database, err := server.Database(ctx)
	if err != nil {
		return nil, err
	}
	d := &demo{log: &logTail{}}
	if d.receiver, err = newDemoReceiver(ctx, o.seed); err != nil {
		return nil, err
	}
	var tokens *demoTokens
	if o.dashboard {
		tokens = newDemoTokens()
	}
	cfg, err := demoConfig(ctx, database, d.receiver.url, tokens)
	if err != nil {
		return nil, errors.Join(err, d.receiver.socket.Close())
	}
	if err := d.assemble(ctx, g, o, cfg, tokens); err != nil {
		return nil, errors.Join(err, d.receiver.socket.Close())
	}
	return d, nil
}

func (d *demo) assemble(ctx context.Context, g *globals, o demoOptions, cfg *config.Config, tokens *demoTokens) error {
	if err := relay.Init(ctx, cfg, relay.InitOptions{}); err != nil {
		return err
	}
	d.tracker = newTracker(cfg.Endpoints)
	if err := d.receiver.receiveFor(cfg.Endpoints, d.tracker); err != nil {
		return err
	}
	var err error
	if d.host, err = newDemoHost(ctx, cfg.Database.URL.Reveal(), d.tracker, o); err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(d.log, nil))
	if d.relay, err = relay.New(cfg, version, logger); err != nil {
		d.host.close()
		return err
	}
	d.progress = newProgress(g, d.tracker, cfg.HTTP.Listen)
	base := &url.URL{Scheme: "http", Host: cfg.HTTP.Listen}
	_, _ = fmt.Fprintf(g.stderr, "Relaying; its metrics are at %s\n", base.JoinPath("metrics"))
	if tokens != nil {
		d.life = newDemoLife(base, tokens, d.receiver.url, o.step, logger)
		_, _ = fmt.Fprintf(g.stderr, "\n  Dashboard  %s\n  Token      %s\n\n", base.JoinPath("admin/webhooks"), tokens.visitor)
	}
	return nil
}

// run writes until writing or the events end, waits for them to arrive, and
// stops everything in the order in which events come through.
func (d *demo) run(ctx, writing context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	relayContext, stopRelay := context.WithCancel(ctx)
	receiverContext, stopReceiver := context.WithCancel(ctx)
	living, stopLiving := context.WithCancel(ctx)
	group.Go(func() error {
		defer stopRelay()
		defer stopLiving()
		if err := d.host.write(ctx, writing); err != nil {
			return err
		}
		stopLiving()
		d.tracker.drain(ctx)
		return nil
	})
	if d.life != nil {
		group.Go(func() error {
			d.life.run(living)
			return nil
		})
	}
	group.Go(func() error {
		defer stopReceiver()
		return d.relay.Run(relayContext)
	})
	group.Go(func() error { return d.receiver.run(receiverContext) })
	group.Go(func() error {
		d.progress.run(receiverContext)
		return nil
	})
	return group.Wait()
}
