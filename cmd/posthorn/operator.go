package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/relay"
)

// operator is what the operators' commands speak to: one on the spot, or the
// client of a relay's API.
type operator interface {
	Endpoints(ctx context.Context, removed bool) ([]relay.EndpointStatus, error)
	Pause(ctx context.Context, name, reason string, actor relay.Actor) (*relay.TurnedEndpoint, error)
	Resume(ctx context.Context, name, reason string, actor relay.Actor) (*relay.TurnedEndpoint, error)
	List(ctx context.Context, f relay.DeliveryFilter) ([]relay.Delivery, error)
	Show(ctx context.Context, id uuid.UUID) (*relay.DeliveryDetail, error)
	Retry(ctx context.Context, id uuid.UUID, actor relay.Actor) (again bool, err error)
	PreviewReplay(ctx context.Context, r relay.ReplayRequest) (*relay.ReplayPreview, error)
	StartReplay(ctx context.Context, r relay.ReplayRequest, actor relay.Actor) (*relay.Replay, error)
	NewestReplays(ctx context.Context, limit int) ([]relay.Replay, error)
	ShowReplay(ctx context.Context, id uuid.UUID) (*relay.Replay, error)
	EndReplay(ctx context.Context, id uuid.UUID, actor relay.Actor) (*relay.Replay, error)
}

// onSpot is the operator of the configuration's ledger, whoever's tenant.
type onSpot struct{ *relay.Operator }

func (o onSpot) NewestReplays(ctx context.Context, limit int) ([]relay.Replay, error) {
	return o.Replays(ctx, limit, relay.Cursor{}, "")
}

func (o onSpot) ShowReplay(ctx context.Context, id uuid.UUID) (*relay.Replay, error) {
	return o.Replay(ctx, id, "")
}

func (o onSpot) EndReplay(ctx context.Context, id uuid.UUID, actor relay.Actor) (*relay.Replay, error) {
	return o.CancelReplay(ctx, id, "", actor)
}

// withOperator calls do with an operator: of the configuration's ledger, or the
// API of --server, for which no configuration is read.
func (g *globals) withOperator(do func(operator) error) error {
	if g.remote() {
		c, err := g.client()
		if err != nil {
			return err
		}
		defer c.close()
		return do(c)
	}
	cfg, err := g.load()
	if err != nil {
		return err
	}
	o, err := relay.OpenOperator(cfg)
	if err != nil {
		return &exitError{exitConfig, err}
	}
	defer o.Close()
	return do(onSpot{o})
}

const serverHelp = `With --server it asks the HTTP API of a relay, as who the token belongs to, and
needs neither configuration nor database here. The token is in the file that
--token-file names, or in POSTHORN_TOKEN.`

// serverFlags lets cmd and its commands be about a relay elsewhere.
func (g *globals) serverFlags(cmd *cobra.Command) {
	cmd.Long = strings.TrimSpace(cmd.Long + "\n\n" + serverHelp)
	cmd.PersistentFlags().StringVar(&g.Server, "server", "", "the relay's `URL`, such as http://127.0.0.1:8080: ask its HTTP API")
	cmd.PersistentFlags().StringVar(&g.TokenFile, "token-file", "", "`file` that holds the token for --server (default: POSTHORN_TOKEN)")
}

// remote reports whether a relay elsewhere is meant.
func (g *globals) remote() bool { return g.Server != "" || g.TokenFile != "" }

// client returns the client of --server.
func (g *globals) client() (*client, error) {
	if g.Server == "" {
		return nil, usagef("--token-file is for --server")
	}
	u, err := url.Parse(g.Server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, usagef("--server is an http or https address without credentials, such as http://127.0.0.1:8080")
	}
	token, err := g.token()
	if err != nil {
		return nil, err
	}
	return newClient(u, token), nil
}

// maxToken bounds a token, in bytes.
const maxToken = 4 << 10

// token returns the token for --server. Errors do not hold it.
func (g *globals) token() (string, error) {
	token := g.getenv("POSTHORN_TOKEN")
	if g.TokenFile != "" {
		f, err := os.Open(g.TokenFile)
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		defer func() { _ = f.Close() }()
		text, err := io.ReadAll(io.LimitReader(f, maxToken+2))
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		token = strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	}
	switch {
	case token == "" && g.TokenFile != "":
		return "", fmt.Errorf("read the token: %s is empty", g.TokenFile)
	case token == "":
		return "", usagef("--server takes a token: in the file that --token-file names, or in POSTHORN_TOKEN")
	case len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("the token is no line of at most %d printable ASCII characters without spaces", maxToken)
	}
	return token, nil
}
