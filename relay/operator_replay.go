package relay

import (
	"context"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// PreviewReplay counts the deliveries that a replay would be about.
func (o *Operator) PreviewReplay(ctx context.Context, r ReplayRequest) (*ReplayPreview, error) {
	if err := ledger.CheckVersion(ctx, o.databases.ledger); err != nil {
		return nil, hinted(err)
	}
	return o.ledger.PreviewReplay(ctx, r)
}

// StartReplay begins to make deliveries again, which the active relay does over
// time, with or without this process. An endpoint that there is not is
// ErrUnknownEndpoint. actor stands in the audit.
func (o *Operator) StartReplay(ctx context.Context, r ReplayRequest, actor Actor) (*Replay, error) {
	if err := o.look(ctx); err != nil {
		return nil, err
	}
	if r.Endpoint != "" {
		e, err := o.directory.find(r.Endpoint, r.Scope)
		if err != nil {
			return nil, err
		}
		r.EndpointID = e.ID
	}
	return o.ledger.StartReplay(ctx, r, actor)
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
