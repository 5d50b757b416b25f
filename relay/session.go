package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/lane"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/route"
	"github.com/posthorn/posthorn/relay/internal/tail"
	"github.com/posthorn/posthorn/transforms"
)

// session is the time for which the slot is ours: one epoch. All that it knows
// of events is gone with it, and comes back from stream and ledger.
type session struct {
	relay   *Relay
	ledger  *ledger.Ledger
	tracker *tail.Tracker
	reader  *tail.Reader
	router  *route.Router
	lanes   *lane.Set
	roster  *roster
	columns tail.Columns
}

// newSession fences the relays before and puts the stages of the way together.
// conn must be streaming.
func (r *Relay) newSession(ctx context.Context, led *ledger.Ledger, conn *tail.Conn, columns tail.Columns) (*session, error) {
	place, err := led.Acquire(ctx, r.holder, conn.SystemID, conn.Timeline)
	if err != nil {
		return nil, err
	}
	stop := conn.KeepAlive(place.Flushed) // what follows may take longer than the server waits
	defer stop()
	s := &session{relay: r, ledger: led, tracker: tail.NewTracker(place.Flushed), roster: newRoster(r, led), columns: columns}
	endpoints, routes, standings, err := s.roster.begin(ctx)
	if err != nil {
		return nil, err
	}
	backlogs, err := led.Backlogs(ctx)
	if err != nil {
		return nil, err
	}
	s.lanes = lane.NewSet(lane.Options{
		Endpoints: endpoints, Store: led, Sender: r.client, Permit: r.lease.Valid,
		Buffer: int64(r.cfg.Source.Buffer), MaxHold: r.cfg.Source.MaxHold, Meter: r.metrics, Tracer: r.tracer, Logger: r.logger,
		Chains: func(eventType string) *transforms.Chain { return r.chains.Load().For(eventType) },
		Tell:   r.tellEndpoint,
	}, backlogs, standings)
	if err := s.lanes.LoadKeys(ctx); err != nil {
		return nil, err
	}
	if place.Flushed > place.Recorded.LSN {
		s.lanes.Passed() // all that was recorded is behind us
	}
	s.router = route.New(route.Options{
		Endpoints: routes, Lanes: s.lanes, Positions: s.tracker, Store: led, Recorded: place.Recorded, Logger: r.logger,
		Refresh: func(ctx context.Context, revision int64) ([]route.Endpoint, error) {
			return s.roster.refresh(ctx, s.lanes, revision)
		},
	})
	s.reader = tail.NewReader(conn, tail.Options{
		Schema: r.databases.source.Table.Schema, Table: r.databases.source.Table.Name, Columns: columns, Messages: r.cfg.Source.Messages,
		Tracker: s.tracker, Sink: countedSink{s.router, r.metrics}, Lease: r.lease, Flushed: led.Flushed, FlushSoon: led.FlushSoon,
		Reopen: s.reopen, Logger: r.logger,
	})
	r.logger.LogAttrs(ctx, slog.LevelInfo, "slot acquired, delivering", slog.String("slot", r.cfg.Source.Slot), slog.Int64("epoch", place.Epoch),
		slog.String("from", place.Flushed.String()), slog.String("recorded", place.Recorded.String()))
	return s, nil
}

// reopen gets the stream back after it was lost. What is in memory stays good
// as long as nobody else held the slot meanwhile.
func (s *session) reopen(ctx context.Context) (*tail.Conn, error) {
	r := s.relay
	r.role.Store(admin.RoleConnecting)
	var conn *tail.Conn
	err := r.untilConnected(ctx, func() (err error) {
		if _, err = r.checkDatabases(ctx); err != nil {
			return err
		}
		if conn, err = r.connect(ctx, s.ledger); err != nil {
			return err
		}
		place, err := s.ledger.Place(ctx)
		if err == nil && place.Epoch != s.ledger.Epoch() {
			err = errTakenOver
		}
		if err != nil {
			conn.Close()
		}
		return err
	})
	if err == nil {
		r.role.Store(admin.RoleActive)
	}
	return conn, err
}

// run delivers until ctx ends, then stops gracefully and returns nil. It
// returns errTakenOver when another relay has the slot, and any other error
// when something is wrong for good. Nothing that it started outlives it.
func (s *session) run(ctx context.Context) error {
	all, cancelAll := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelAll()
	g, all := errgroup.WithContext(all)
	delivering, stopDelivering := context.WithCancel(all)
	defer stopDelivering()
	reading, stopReading := context.WithCancel(all)
	defer stopReading()

	counted := s.relay.metrics.Totals() // before anything is
	written := make(chan struct{})
	g.Go(func() error {
		defer close(written)
		err := s.ledger.Run(all, s.tracker, s.reader.Reset)
		if errors.Is(err, ledger.ErrFenced) {
			return errTakenOver
		}
		return err
	})
	g.Go(func() error { return s.lanes.Run(delivering) })
	g.Go(func() error { return s.router.Run(delivering) })
	g.Go(func() error { return s.reader.Run(reading) })
	g.Go(func() error { return s.watchEndpoints(delivering) })
	g.Go(func() error { return s.keepHouse(delivering) })
	g.Go(func() error { return s.replay(delivering) })
	g.Go(func() error { return s.sample(delivering, counted) })
	g.Go(func() error {
		select {
		case <-all.Done():
			return nil
		case <-ctx.Done():
		}
		if !s.stop(all, stopDelivering, written) {
			cancelAll()
		}
		stopReading() // reports the last position
		return nil
	})
	err := g.Wait()
	if ctx.Err() != nil && !errors.Is(err, errTakenOver) && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	if err == nil {
		err = errors.New("a stage ended without a reason")
	}
	return err
}

// stop ends the stages from the front: nothing more is read or started, what
// is in flight finishes and is recorded. It takes at most stop_timeout, and
// returns false when not everything was recorded by then.
func (s *session) stop(ctx context.Context, stopDelivering context.CancelFunc, written <-chan struct{}) bool {
	ctx, cancel := context.WithTimeout(ctx, s.relay.cfg.StopTimeout)
	defer cancel()
	s.relay.logger.LogAttrs(ctx, slog.LevelInfo, "stopping", slog.Int("in_flight", s.lanes.InFlight()))
	s.reader.StopReading()
	finish, cancelFinish := context.WithTimeout(ctx, s.relay.cfg.StopTimeout*3/4) // the rest is for recording
	defer cancelFinish()
	if err := s.lanes.Stop(finish); err != nil && s.lanes.InFlight() > 0 { // else a lane said what it cannot record
		s.relay.logger.LogAttrs(ctx, slog.LevelWarn, "requests in flight are cut off, they are made again after the next start", slog.Int("in_flight", s.lanes.InFlight()))
	}
	stopDelivering()
	s.ledger.Finish()
	select {
	case <-written:
		return true
	case <-ctx.Done():
		s.relay.logger.LogAttrs(ctx, slog.LevelWarn, "outcomes could not be recorded in time", slog.Int("outcomes", s.ledger.Backlog()))
		return false
	}
}

func (s *session) describe(snap *admin.Snapshot) {
	for _, l := range s.lanes.Statuses() {
		snap.Endpoints = append(snap.Endpoints, admin.Endpoint{
			Name: l.Endpoint, InFlight: l.InFlight, Waiting: l.Waiting, Pending: l.Pending, Failing: l.Failing, Overflow: l.Overflow, State: string(l.State),
		})
	}
	// What is being written counts as settled for the tracker, not for us.
	snap.OldestUnsettled = s.tracker.Oldest()
	if at := s.ledger.OldestUnwritten(); !at.IsZero() && (snap.OldestUnsettled.IsZero() || at.Before(snap.OldestUnsettled)) {
		snap.OldestUnsettled = at
	}
	snap.Flushed = s.ledger.Flushed().String()
	snap.Buffered = s.lanes.Buffered()
	snap.LedgerBacklog = s.ledger.Backlog()
	snap.LedgerDown = s.ledger.Unreachable()
}

// The rhythm of housekeeping.
const (
	heartbeatEvery  = 30 * time.Second
	cleanEvery      = time.Minute
	summarizeEvery  = time.Minute
	partitionsEvery = time.Hour
)

// keepHouse emits heartbeats, cleans the outbox and drops old partitions.
// Nothing that fails here stops the relay: it is logged and tried again.
func (s *session) keepHouse(ctx context.Context) error {
	r := s.relay
	cleaner := &tail.Cleaner{Source: r.databases.source, Columns: s.columns, Retention: r.cfg.Source.Retention}
	jobs := []*job{
		{every: heartbeatEvery, do: s.beat},
		{every: cleanEvery, do: func(ctx context.Context) error { return s.clean(ctx, cleaner) }},
		{every: partitionsEvery, do: s.turnPartitions},
		{every: time.Second, do: s.failOrphans},
		{every: summarizeEvery, do: s.ledger.Summarize},
	}
	for pause(ctx, time.Second) == nil {
		for _, j := range jobs {
			if time.Now().Before(j.next) {
				continue
			}
			j.next = time.Now().Add(j.every)
			if err := j.do(ctx); err != nil && ctx.Err() == nil {
				r.logger.LogAttrs(ctx, slog.LevelWarn, "housekeeping failed", slog.Any("err", err))
			}
		}
	}
	return nil
}

type job struct {
	every time.Duration
	next  time.Time
	do    func(context.Context) error
}

func (s *session) beat(ctx context.Context) error {
	if beat := s.reader.Beat(); !beat.IsZero() && time.Since(beat) > 4*heartbeatEvery {
		s.relay.logger.LogAttrs(ctx, slog.LevelWarn, "no heartbeat came back through the stream: it is far behind, or held up by a long transaction", slog.Time("newest", beat))
	}
	return s.relay.databases.source.EmitHeartbeat(ctx)
}

func (s *session) clean(ctx context.Context, c *tail.Cleaner) error {
	s.ledger.FlushSoon() // rows go once the flushed position passed them, which on a quiet slot is written seldom
	for {
		deleted, more, err := c.Clean(ctx, s.ledger.Flushed())
		if deleted > 0 {
			s.relay.logger.LogAttrs(ctx, slog.LevelInfo, "outbox cleaned", slog.Int64("rows", deleted))
		}
		if err != nil || !more {
			return err
		}
	}
}

func (s *session) turnPartitions(ctx context.Context) error {
	if err := s.ledger.PreparePartitions(ctx); err != nil {
		return err
	}
	dropped, err := s.ledger.DropPartitions(ctx, s.relay.cfg.Ledger.Retention)
	if err != nil {
		return fmt.Errorf("keep ledger.retention: %w", err)
	}
	if err := s.ledger.ForgetReplays(ctx, s.relay.cfg.Ledger.Retention); err != nil {
		return err
	}
	if len(dropped) > 0 {
		s.relay.logger.LogAttrs(ctx, slog.LevelInfo, "ledger partitions past retention dropped", slog.Any("partitions", dropped))
	}
	return nil
}

// ids returns the endpoints' ids, the disabled ones' too.
func (e *endpoints) ids() []uuid.UUID {
	ids := make([]uuid.UUID, len(e.recorded))
	for i, ep := range e.recorded {
		ids[i] = ep.ID
	}
	return ids
}
