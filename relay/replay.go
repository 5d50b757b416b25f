package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// The rhythm of replays.
const (
	replayLook   = time.Second     // for new ones
	replayAgain  = 5 * time.Second // after a step that failed
	replaySteps  = 5               // a second, of one replay
	maxReplaying = 100             // deliveries of a step
)

// replay goes on with the replays that run, each at its rate, until ctx ends.
// Nothing that fails here stops the relay: it is logged and tried again.
func (s *session) replay(ctx context.Context) error {
	o, err := newOperator(s.relay.cfg, s.relay.databases)
	if err != nil {
		return err
	}
	next := make(map[uuid.UUID]time.Time) // when a replay's next step is due
	wait := replayLook
	for pause(ctx, wait) == nil {
		wait = replayLook
		running, err := s.ledger.RunningReplays(ctx)
		if err != nil && ctx.Err() == nil {
			s.relay.logger.LogAttrs(ctx, slog.LevelWarn, "replays cannot be read", slog.Any("err", err))
		}
		due := make(map[uuid.UUID]time.Time, len(running))
		for i := range running {
			r := &running[i]
			at := next[r.ID]
			if now := time.Now(); !now.Before(at) {
				pace, err := s.stepReplay(ctx, o, r)
				if errors.Is(err, ledger.ErrFenced) || ctx.Err() != nil {
					return nil // the session ends
				}
				at = now.Add(pace)
			}
			due[r.ID] = at
			wait = min(wait, max(0, time.Until(at)))
		}
		next = due
	}
	return nil
}

// stepReplay makes one step of a replay and returns how long after its begin the
// next one is due.
func (s *session) stepReplay(ctx context.Context, o *Operator, r *ledger.Replay) (pace time.Duration, err error) {
	rate := max(1, min(r.Request.Rate, ledger.MaxReplayRate))
	most := max(1, min(rate/replaySteps, maxReplaying))
	more, err := s.ledger.StepReplay(ctx, ledger.ReplayStep{ID: r.ID, Most: most, Endpoint: o.takesRetry, Original: o.original})
	switch {
	case errors.Is(err, ledger.ErrFenced) || ctx.Err() != nil:
		return 0, err
	case err != nil:
		s.relay.logger.LogAttrs(ctx, slog.LevelWarn, "replay does not go on, it is tried again", slog.String("replay", r.ID.String()), slog.Any("err", err))
		if err := s.ledger.ReplayFailed(ctx, r.ID, err); err != nil {
			s.relay.logger.LogAttrs(ctx, slog.LevelWarn, "ledger cannot be written", slog.Any("err", err))
		}
		return replayAgain, nil
	case !more:
		s.relay.logger.LogAttrs(ctx, slog.LevelInfo, "replay ended", slog.String("replay", r.ID.String()))
	}
	return time.Duration(most) * time.Second / time.Duration(rate), nil
}

// PreviewReplay counts the deliveries that a replay would be about.
func (o *Operator) PreviewReplay(ctx context.Context, r ReplayRequest) (*ReplayPreview, error) {
	if err := ledger.CheckVersion(ctx, o.databases.ledger); err != nil {
		return nil, hinted(err)
	}
	return o.ledger.PreviewReplay(ctx, r)
}

// StartReplay begins to make deliveries again, which the active relay does over
// time, with or without this process. actor stands in the audit.
func (o *Operator) StartReplay(ctx context.Context, r ReplayRequest, actor Actor) (*Replay, error) {
	if err := ledger.CheckVersion(ctx, o.databases.ledger); err != nil {
		return nil, hinted(err)
	}
	if r.Endpoint != "" {
		if err := o.knows(ctx, r.Endpoint); err != nil {
			return nil, err
		}
	}
	return o.ledger.StartReplay(ctx, r, actor)
}

// knows returns ErrUnknownEndpoint for an endpoint that nobody knows.
func (o *Operator) knows(ctx context.Context, endpoint string) error {
	list, err := o.Endpoints(ctx, true)
	if err != nil {
		return err
	}
	for i := range list {
		if list[i].Name == endpoint || list[i].ID.String() == endpoint {
			return nil
		}
	}
	return fmt.Errorf("endpoint %s: %w", endpoint, ErrUnknownEndpoint)
}

// Replays returns the newest replays, those that a list has after before.
func (o *Operator) Replays(ctx context.Context, limit int, before ledger.Cursor, tenant string) ([]Replay, error) {
	if err := ledger.CheckVersion(ctx, o.databases.ledger); err != nil {
		return nil, hinted(err)
	}
	return o.ledger.Replays(ctx, limit, before, tenant)
}

// Replay returns a replay, or ErrUnknownReplay. With a tenant it is one of that
// tenant's.
func (o *Operator) Replay(ctx context.Context, id uuid.UUID, tenant string) (*Replay, error) {
	if err := ledger.CheckVersion(ctx, o.databases.ledger); err != nil {
		return nil, hinted(err)
	}
	return o.ledger.Replay(ctx, id, tenant)
}

// CancelReplay ends a replay where it is, or returns ErrUnknownReplay. actor
// stands in the audit.
func (o *Operator) CancelReplay(ctx context.Context, id uuid.UUID, tenant string, actor Actor) (*Replay, error) {
	if err := ledger.CheckVersion(ctx, o.databases.ledger); err != nil {
		return nil, hinted(err)
	}
	return o.ledger.CancelReplay(ctx, id, tenant, actor)
}

// ReplayRequest says which deliveries are made again.
type ReplayRequest = ledger.ReplayRequest

// ReplayPreview is how many deliveries a request is about.
type ReplayPreview = ledger.ReplayPreview

// Replay is a job of the active relay's.
type Replay = ledger.Replay

// ErrUnknownReplay reports that there is no replay of that id.
var ErrUnknownReplay = ledger.ErrUnknownReplay
