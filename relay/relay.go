// Package relay runs the relay: it wires the stages of one event's way
// together and looks after their lives. The way itself is in the packages
// below: tail → route → lane → ledger, and back to tail.
package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/admin/dashboard"
	"github.com/posthorn/posthorn/relay/internal/tail"
	"github.com/posthorn/posthorn/relay/internal/trace"
)

// Relay is one relay process. Use New, then Run.
type Relay struct {
	// InitFirst makes Run prepare the databases first, as Init does, but waiting
	// for Postgres; each step is logged. Set it before Run.
	InitFirst bool

	setup     // what the present session is made of; changes between two
	version   string
	logger    *slog.Logger
	databases *databases
	keys      *keyring // of ledger.encryption_keys
	metrics   *admin.Metrics
	announcer *announcer
	api       *admin.API
	access    *admin.Access
	dashboard *dashboard.Dashboard
	control   *control            // of API and dashboard; nil where nobody may use them
	lease     *tail.Lease         // whether the slot is ours
	tracer    *trace.Tracer       // nil without traces, and before Run
	holder    string              // how the ledger names this process
	reloads   chan *config.Config // the newest one to change to
	delivered bool                // this process did, and no other since as far as it knows; deliver's own

	chains  atomic.Pointer[chains] // nil until the plugins run
	role    atomic.Value           // string, of admin's roles
	running atomic.Pointer[session]
	slot    atomic.Pointer[slotReading]
}

// slotReading is how the slot stood when it was looked at.
type slotReading struct {
	tail.SlotStatus
	at time.Time
}

// New returns a relay for a valid configuration. It connects to nothing.
func New(cfg *config.Config, version string, logger *slog.Logger) (*Relay, error) {
	r := &Relay{version: version, logger: logger, lease: tail.NewLease(), reloads: make(chan *config.Config, 1)}
	var err error
	if r.setup, err = newSetup(cfg, version, r.lease.Valid); err != nil {
		return nil, err
	}
	if r.keys, err = newKeyring(cfg); err != nil {
		return nil, err
	}
	if r.databases, err = openDatabases(cfg); err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	r.holder = fmt.Sprintf("%s/%d", host, os.Getpid())
	r.role.Store(admin.RoleConnecting)
	r.metrics = admin.NewMetrics(version, r.snapshot)
	r.announcer = newAnnouncer(r.databases.source, r.metrics, logger)
	if err := r.newAPI(cfg); err != nil {
		r.databases.close()
		return nil, err
	}
	return r, nil
}

// Run delivers until ctx ends, then stops gracefully, within the
// configuration's stop_timeout, and returns nil. While another relay holds the
// slot it waits, its plugins running already; health is answered from the
// beginning. It returns an error when something is wrong that trying again
// cannot mend: a *PluginsError where plugins cannot start.
func (r *Relay) Run(ctx context.Context) error {
	defer func() { // at once: either may have to wait for a server that is away
		var closing sync.WaitGroup
		closing.Go(r.databases.close)
		if r.control != nil {
			closing.Go(r.control.databases.close)
		}
		closing.Wait()
	}()
	defer func() { r.client.Close() }() // of the last setup
	server, err := admin.Listen(ctx, r.cfg.HTTP.Listen, r.metrics, r.snapshot, r.operators(), r.logger)
	if err != nil {
		return err
	}
	r.logger.LogAttrs(ctx, slog.LevelInfo, "posthorn starts", slog.String("version", r.version),
		slog.String("listen", server.Addr()), slog.Int("endpoints", len(r.endpoints.lanes)))

	// Health is answered until the stop is over, hence a context of its own.
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	g, background := errgroup.WithContext(background)
	g.Go(func() error { return server.Run(background) })
	g.Go(func() error { return r.watchSlot(background) })
	g.Go(func() error { r.announcer.run(background); return nil })
	g.Go(func() error {
		defer stopBackground()
		until, cancel := mergeDone(ctx, background)
		defer cancel()
		err := r.work(until)
		if until.Err() != nil && errors.Is(err, until.Err()) {
			return nil
		}
		return err
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	r.logger.LogAttrs(ctx, slog.LevelInfo, "posthorn stopped")
	return nil
}

// mergeDone returns a context that ends with either of two.
func mergeDone(a, b context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(a)
	stop := context.AfterFunc(b, cancel)
	return ctx, func() { stop(); cancel() }
}

// work starts the plugins, prepares the databases if it is to, then delivers
// whenever the slot is ours, until ctx ends.
func (r *Relay) work(ctx context.Context) error {
	var stopped atomic.Pointer[time.Time] // when ctx ended
	defer context.AfterFunc(ctx, func() { now := time.Now(); stopped.Store(&now) })()
	first, err := newChains(ctx, r.cfg, r.logger, nil)
	if err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	r.chains.Store(first)
	defer func() {
		end := time.Now()
		if at := stopped.Load(); at != nil {
			end = *at
		}
		last, cancel := context.WithDeadline(context.WithoutCancel(ctx), end.Add(r.cfg.StopTimeout))
		defer cancel()
		if r.tracer != nil {
			r.tracer.Close(last)
		}
		r.chains.Load().close(last)
	}()
	if r.tracer, err = startTracer(r.cfg, r.version, r.logger); err != nil {
		return err
	}
	if r.InitFirst {
		if err := r.initialise(ctx); err != nil {
			return err
		}
	}
	for {
		next, err := r.deliverUntilReload(ctx)
		if next == nil {
			return err
		}
		r.begin(ctx, next)
	}
}

// deliver delivers whenever the slot is ours, until ctx ends.
func (r *Relay) deliver(ctx context.Context) error {
	for {
		s, err := r.acquire(ctx)
		if err != nil {
			return err
		}
		if n, err := r.keys.reseal(ctx, s.ledger); err != nil {
			r.logger.LogAttrs(ctx, slog.LevelWarn, "secrets could not be encrypted anew with the first of ledger.encryption_keys", slog.Any("err", err))
		} else if n > 0 {
			r.logger.LogAttrs(ctx, slog.LevelInfo, "secrets encrypted anew with the first of ledger.encryption_keys", slog.Int("endpoints", n))
		}
		if standby := r.role.Load() == admin.RoleStandby; !r.delivered {
			r.tellTookOver(ctx, s, standby)
		}
		r.delivered = true
		r.running.Store(s)
		r.role.Store(admin.RoleActive)
		err = s.run(ctx)
		r.running.Store(nil)
		r.role.Store(admin.RoleConnecting)
		if !errors.Is(err, errTakenOver) {
			return err
		}
		r.delivered = false
		r.logger.LogAttrs(ctx, slog.LevelWarn, "another relay took the slot, waiting for it to be free")
	}
}

// initialise does what Init does, from the beginning again where Postgres could
// not be used meanwhile. Errors are those that trying again cannot mend.
func (r *Relay) initialise(ctx context.Context) error {
	progress := func(step string) { r.logger.LogAttrs(ctx, slog.LevelInfo, "init", slog.String("step", step)) }
	progress("connecting")
	i := &initializer{InitOptions: InitOptions{Progress: progress}, cfg: r.cfg, databases: r.databases}
	return r.untilConnected(ctx, func() error { return finalUnlessLost(i.run(ctx)) })
}

// slotEvery is how often the slot is looked at for metrics.
const slotEvery = 5 * time.Second

// watchSlot reads how the slot stands, on standbys too.
func (r *Relay) watchSlot(ctx context.Context) error {
	ticker := time.NewTicker(slotEvery)
	defer ticker.Stop()
	var risk slotRisk
	for {
		if status, err := r.databases.source.SlotStatus(ctx); err == nil && status.Exists {
			now := time.Now()
			r.slot.Store(&slotReading{SlotStatus: status, at: now})
			// Standbys leave it to the relay that holds the slot.
			if r.role.Load() != admin.RoleStandby && risk.worse(status, now) {
				r.tellSlot(ctx, status)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// snapshot is how the relay does now, for metrics and health.
func (r *Relay) snapshot() admin.Snapshot {
	role, _ := r.role.Load().(string)
	s := admin.Snapshot{Role: role}
	if slot := r.slot.Load(); slot != nil && time.Since(slot.at) < 6*slotEvery {
		s.SlotLag, s.SlotRetained, s.SlotKnown = slot.Lag, slot.Retained, true
	}
	if c := r.chains.Load(); c != nil {
		s.Plugins = c.statuses()
	}
	if running := r.running.Load(); running != nil {
		running.describe(&s)
	}
	return s
}

// databases are the pools of ordinary connections.
type databases struct {
	source *tail.Source
	ledger *pgxpool.Pool // the source's own when both are one database
}

// poolSize bounds each pool: the writer, the lanes' queries and housekeeping.
const poolSize = 8

// openDatabases returns pools of as many connections as a relay needs. It
// connects to nothing.
func openDatabases(cfg *config.Config) (*databases, error) { return openDatabasesBounded(cfg, 0) }

// openDatabasesBounded is openDatabases with at most so many connections a pool,
// if that is not 0.
func openDatabasesBounded(cfg *config.Config, connections int32) (*databases, error) {
	source, err := openPool(cfg.Database.URL.Reveal(), connections)
	if err != nil {
		return nil, fmt.Errorf("open database.url: %w", err)
	}
	d := &databases{ledger: source, source: &tail.Source{
		Pool: source, Table: tail.ParseTable(cfg.Source.Table), Publication: cfg.Source.Publication, Slot: cfg.Source.Slot, Mapped: cfg.Source.Columns,
	}}
	if cfg.Ledger.URL != cfg.Database.URL {
		if d.ledger, err = openPool(cfg.Ledger.URL.Reveal(), connections); err != nil {
			source.Close()
			return nil, fmt.Errorf("open ledger.url: %w", err)
		}
	}
	return d, nil
}

func openPool(url string, connections int32) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	if c.ConnConfig.RuntimeParams["application_name"] == "" {
		c.ConnConfig.RuntimeParams["application_name"] = "posthorn"
	}
	c.ConnConfig.DialFunc = tail.Dial
	if c.ConnConfig.ConnectTimeout == 0 {
		c.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	if c.MaxConns = max(poolSize, c.MaxConns); connections > 0 {
		c.MaxConns = connections
	}
	// Background connects; a pool does not wait for the server.
	return pgxpool.NewWithConfig(context.Background(), c)
}

func (d *databases) close() {
	if d.ledger != d.source.Pool {
		d.ledger.Close()
	}
	d.source.Pool.Close()
}
