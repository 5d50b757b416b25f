package relay

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/route"
	"github.com/posthorn/posthorn/relay/internal/tail"
	"github.com/posthorn/posthorn/transforms"
)

// The rhythm of replays, and how many rows of the outbox they list at once.
const (
	replayLook   = time.Second            // for new ones
	replayAgain  = 5 * time.Second        // after a step that failed
	replayWait   = 200 * time.Millisecond // while rows may be in the stream still
	replaySteps  = 5                      // a second, of one replay
	maxReplaying = 100                    // deliveries of a step
	listedRows   = 20_000                 // of the outbox, for each replay
	idlePages    = 16                     // of rows that nothing is made of are recorded at once
)

// replayer goes on with the replays that run.
type replayer struct {
	*session
	operator *Operator
	jobs     map[uuid.UUID]*replaying
}

// replaying is a replay that runs.
type replaying struct {
	next time.Time      // when its next step is due
	rows *tail.Recent   // the rows of the outbox that are to be looked at; nil before
	page []*event.Event // the next of them
	idle int            // pages that are not recorded yet

	lists   int       // Recent.Lists when safe was read
	safe    event.LSN // once the stream is flushed up to here, the ledger knows what became of all rows that were listed
	waiting bool      // for that
}

// replay goes on with the replays that run, each at its rate, until ctx ends.
// Nothing that fails here stops the relay: it is logged and tried again.
func (s *session) replay(ctx context.Context) error {
	o, err := newOperator(s.relay.cfg, s.relay.databases)
	if err != nil {
		return err
	}
	r := &replayer{session: s, operator: o}
	wait, goesOn := replayLook, true
	for goesOn && pause(ctx, wait) == nil {
		var running []ledger.Replay
		if running, err = s.ledger.RunningReplays(ctx); err != nil && ctx.Err() == nil {
			s.relay.logger.LogAttrs(ctx, slog.LevelWarn, "replays cannot be read", slog.Any("err", err))
			wait = replayAgain
			continue
		}
		wait, goesOn = r.stepAll(ctx, running)
	}
	return nil
}

// stepAll makes a step of each replay that is due. It returns how long until the
// next one is, and whether the session goes on.
func (r *replayer) stepAll(ctx context.Context, running []ledger.Replay) (wait time.Duration, goesOn bool) {
	jobs := make(map[uuid.UUID]*replaying, len(running))
	wait = replayLook
	for i := range running {
		job := r.jobs[running[i].ID]
		if job == nil {
			job = &replaying{}
		}
		if now := time.Now(); !now.Before(job.next) {
			pace, goesOn := r.step(ctx, &running[i], job)
			if !goesOn {
				return 0, false
			}
			job.next = now.Add(pace)
		}
		jobs[running[i].ID] = job
		wait = min(wait, max(0, time.Until(job.next)))
	}
	r.jobs = jobs
	return wait, true
}

// step makes one step of a replay and returns how long after its begin the
// next one is due, and whether the session goes on.
func (r *replayer) step(ctx context.Context, job *ledger.Replay, at *replaying) (pace time.Duration, goesOn bool) {
	rate := max(1, min(job.Request.Rate, ledger.MaxReplayRate))
	most := max(1, min(rate/replaySteps, maxReplaying))
	var more bool
	err := r.operator.look(ctx)
	switch {
	case err != nil:
	case job.Listed:
		most, more, err = r.stepRows(ctx, job, at, most)
	default:
		more, err = r.ledger.StepReplay(ctx, ledger.ReplayStep{ID: job.ID, Most: most, Endpoint: r.operator.takesRetry, Original: r.operator.original})
		more = more || job.RowsUntil != nil
	}
	logger := r.relay.logger
	switch {
	case err == nil && at.waiting:
		return replayWait, true
	case errors.Is(err, ledger.ErrFenced) || ctx.Err() != nil:
		return 0, false
	case err != nil:
		*at = replaying{}
		logger.LogAttrs(ctx, slog.LevelWarn, "replay does not go on, it is tried again", slog.String("replay", job.ID.String()), slog.Any("err", err))
		if err := r.ledger.ReplayFailed(ctx, job.ID, err); err != nil {
			logger.LogAttrs(ctx, slog.LevelWarn, "ledger cannot be written", slog.Any("err", err))
		}
		return replayAgain, true
	case !more:
		logger.LogAttrs(ctx, slog.LevelInfo, "replay ended", slog.String("replay", job.ID.String()))
	}
	return time.Duration(most) * time.Second / time.Duration(rate), true
}

// stepRows makes deliveries of the next rows of the outbox, from before the
// replay's endpoint had any. It returns how many.
func (r *replayer) stepRows(ctx context.Context, job *ledger.Replay, at *replaying, most int) (made int, more bool, err error) {
	step := &ledger.MissedRows{ID: job.ID, At: *job.RowsUntil, Last: true}
	ep, wants, err := r.wanting(job)
	if err != nil {
		return 0, false, err
	}
	if wants == nil {
		return 0, false, r.ledger.StepRows(ctx, step)
	}
	if step.Last, err = r.nextRows(ctx, job, at); err != nil || at.waiting {
		return 0, true, err
	}
	step.Endpoint = ep.ID
	for len(at.page) > 0 && len(step.Records) < most {
		e := at.page[0]
		at.page, step.At = at.page[1:], e.CommittedAt
		if !asksFor(&job.Request, e) {
			continue
		}
		wanted, err := wants(e)
		switch {
		case err != nil:
			step.Skipped++
		case wanted:
			step.Records = append(step.Records, missed(ep, e))
		}
	}
	if len(step.Records)+step.Skipped == 0 && !step.Last {
		if at.idle++; at.idle < idlePages { // a transaction for each would be in the writer's way
			return 0, true, nil
		}
	}
	at.idle = 0
	return len(step.Records), !step.Last, r.ledger.StepRows(ctx, step)
}

// nextRows reads the next page of rows where all of the last one were looked at.
// It returns whether there are none. The page is not to be looked at while at is
// waiting: some of it may be in flight, or was not even read in the stream.
func (r *replayer) nextRows(ctx context.Context, job *ledger.Replay, at *replaying) (none bool, err error) {
	if at.waiting = r.ledger.Flushed() < at.safe; at.waiting {
		r.ledger.FlushSoon()
		return false, nil
	}
	if len(at.page) > 0 {
		return false, nil
	}
	if at.rows == nil {
		from := job.Request.From
		if job.RowsAt != nil { // some rows of that moment may be left
			from = *job.RowsAt
		}
		if at.rows, err = r.relay.databases.source.Between(ctx, from, *job.RowsUntil, listedRows); err != nil {
			return false, err
		}
	}
	if at.page, err = at.rows.Next(ctx); err != nil || len(at.page) == 0 {
		return err == nil, err
	}
	if at.lists != at.rows.Lists {
		source := r.relay.databases.source
		if at.safe, err = source.Position(ctx); err == nil {
			err = source.EmitHeartbeat(ctx) // else nothing may come after it for long
		}
		at.lists, at.waiting = at.rows.Lists, true
	}
	return false, err
}

// missed returns the record of a delivery that an endpoint has not had.
func missed(ep *entry, e *event.Event) *ledger.Record {
	record := &ledger.Record{ID: event.DeliveryID(e.ID, ep.ID), Endpoint: ep.ID, Event: e, State: ledger.Pending, Reason: "replayed"}
	if hash, ok := e.KeyHash(); ok && ep.config.Ordering == "key" {
		record.KeyHash = &hash
	}
	return record
}

// wanting returns a replay's endpoint and what tells whether it wants an event;
// nil when it gets none: it is unknown, disabled, broken, or another tenant's.
func (r *replayer) wanting(job *ledger.Replay) (*entry, func(*event.Event) (bool, error), error) {
	ep, err := r.operator.directory.find(job.Request.EndpointRef(), job.Request.Scope)
	var refused *ledger.RefusedError
	switch {
	case errors.Is(err, ErrUnknownEndpoint), errors.As(err, &refused), err == nil && (!ep.Enabled || ep.defined != nil && ep.defined.broken != ""):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	}
	rules := route.Endpoint{ID: ep.ID, Tenant: ep.Tenant, Patterns: patterns(ep.config)}
	if ep.config.Filter != "" {
		if rules.Filter, err = transforms.ParseFilter(ep.config.Filter); err != nil {
			return nil, nil, err
		}
	}
	return ep, func(e *event.Event) (bool, error) { return route.Match(rules, e) }, nil
}

// asksFor reports whether a request is about an event.
func asksFor(q *ledger.ReplayRequest, e *event.Event) bool {
	return (q.Type == "" || q.Type == e.Type) && (q.Tenant == "" || q.Tenant == e.Tenant) && (q.Scope == "" || q.Scope == e.Tenant) && (q.Event == uuid.Nil || q.Event == e.ID)
}
