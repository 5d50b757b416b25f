package main

import (
	"context"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay"
)

// PreviewReplay is as relay.Operator's.
func (c *client) PreviewReplay(ctx context.Context, r relay.ReplayRequest) (*relay.ReplayPreview, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	p := &relay.ReplayPreview{}
	return p, c.ask(ctx, http.MethodPost, "/replays/preview", nil, r, p)
}

// StartReplay is as relay.Operator's.
func (c *client) StartReplay(ctx context.Context, r relay.ReplayRequest, _ relay.Actor) (*relay.Replay, error) {
	return c.replay(ctx, http.MethodPost, "/replays", r)
}

// NewestReplays returns at most limit replays, the newest first.
func (c *client) NewestReplays(ctx context.Context, limit int) ([]relay.Replay, error) {
	list, err := pages[replayJSON](ctx, c, "replays", url.Values{}, limit)
	all := make([]relay.Replay, len(list))
	for i := range list {
		all[i] = list[i].replay()
	}
	return all, err
}

// ShowReplay returns a replay.
func (c *client) ShowReplay(ctx context.Context, id uuid.UUID) (*relay.Replay, error) {
	return c.replay(ctx, http.MethodGet, "/replays/"+id.String(), nil)
}

// EndReplay ends a replay where it is.
func (c *client) EndReplay(ctx context.Context, id uuid.UUID, _ relay.Actor) (*relay.Replay, error) {
	return c.replay(ctx, http.MethodPost, "/replays/"+id.String()+"/cancel", nil)
}

// replay asks an operation that answers with a replay.
func (c *client) replay(ctx context.Context, method, path string, body any) (*relay.Replay, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var out replayJSON
	if err := c.ask(ctx, method, path, nil, body, &out); err != nil {
		return nil, err
	}
	r := out.replay()
	return &r, nil
}
