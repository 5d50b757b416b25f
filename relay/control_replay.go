package relay

import (
	"context"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// PreviewReplay implements admin.Control.
func (c *control) PreviewReplay(ctx context.Context, who *admin.Caller, r ReplayRequest) (*ReplayPreview, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	r.Scope = who.Tenant
	return o.PreviewReplay(ctx, r)
}

// StartReplay implements admin.Control.
func (c *control) StartReplay(ctx context.Context, who *admin.Caller, r ReplayRequest) (*Replay, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	r.Scope = who.Tenant
	made, err := o.StartReplay(ctx, r, who.Actor())
	return replayFor(who, made, err)
}

// Replays implements admin.Control.
func (c *control) Replays(ctx context.Context, who *admin.Caller, limit int, before ledger.Cursor) ([]Replay, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	list, err := o.Replays(ctx, limit, before, who.Tenant)
	for i := range list {
		_, _ = replayFor(who, &list[i], nil)
	}
	return list, err
}

// Replay implements admin.Control.
func (c *control) Replay(ctx context.Context, who *admin.Caller, id uuid.UUID) (*Replay, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	made, err := o.Replay(ctx, id, who.Tenant)
	return replayFor(who, made, err)
}

// CancelReplay implements admin.Control.
func (c *control) CancelReplay(ctx context.Context, who *admin.Caller, id uuid.UUID) (*Replay, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	made, err := o.CancelReplay(ctx, id, who.Tenant, who.Actor())
	return replayFor(who, made, err)
}
