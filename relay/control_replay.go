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
	return o.StartReplay(ctx, r, who.Actor())
}

// Replays implements admin.Control.
func (c *control) Replays(ctx context.Context, who *admin.Caller, limit int, before ledger.Cursor) ([]Replay, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	return o.Replays(ctx, limit, before, who.Tenant)
}

// Replay implements admin.Control.
func (c *control) Replay(ctx context.Context, who *admin.Caller, id uuid.UUID) (*Replay, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	return o.Replay(ctx, id, who.Tenant)
}

// CancelReplay implements admin.Control.
func (c *control) CancelReplay(ctx context.Context, who *admin.Caller, id uuid.UUID) (*Replay, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	return o.CancelReplay(ctx, id, who.Tenant, who.Actor())
}
