package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/config"
)

// healthTimeout bounds the whole question: probes have limits of their own.
const healthTimeout = 3 * time.Second

// healthLimit bounds the answer that is read.
const healthLimit = 64 << 10

func newHealthCommand(g *globals) *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running relay whether it is healthy, for container probes",
		Long: `Ask /healthz at http.listen of the configuration, or at --url. The exit code is 0
when a relay answers that it is healthy, whether it is active or waits for the
slot, and 4 otherwise.

A configuration that cannot be used says nothing of a relay, which runs on with
the one that it has: then POSTHORN_HTTP__LISTEN or the default address is asked.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var unusable error
			if address == "" {
				listen := cmp.Or(g.getenv("POSTHORN_HTTP__LISTEN"), config.Default().HTTP.Listen)
				cfg, err := g.load()
				if err == nil {
					listen = cfg.HTTP.Listen
				}
				unusable = err
				if address, err = healthURL(listen); err != nil {
					return &exitError{exitConfig, err}
				}
			} else if u, err := url.Parse(address); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
				return usagef("--url is an http or https address, such as http://127.0.0.1:8080/healthz")
			}
			status, err := askHealth(cmd.Context(), address)
			if err != nil {
				return &exitError{exitFinding, errors.Join(err, unusable)}
			}
			if g.Output == "json" {
				return g.printJSON(status)
			}
			g.printf("%s: %s\n", status.Status, status.Role)
			return nil
		},
	}
	cmd.Flags().StringVar(&address, "url", "", "ask this `address` instead of http.listen's /healthz")
	return cmd
}

// healthURL returns where a relay that listens at listen is asked from the
// same machine: an address that stands for all of them is asked at loopback.
func healthURL(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("read http.listen: %w", err)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.Is6() {
			host = "::1"
		}
	}
	return "http://" + net.JoinHostPort(host, port) + "/healthz", nil
}

// healthStatus is what /healthz answers.
type healthStatus struct {
	Status           string `json:"status"`
	Role             string `json:"role"`
	LedgerUnwritable bool   `json:"ledger_unwritable,omitempty"`
}

func askHealth(ctx context.Context, address string) (*healthStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	// Not through a proxy: it is this machine that is asked.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the relay: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the relay: %s answered %s", address, res.Status)
	}
	var status healthStatus
	if err := json.NewDecoder(io.LimitReader(res.Body, healthLimit)).Decode(&status); err != nil || status.Status == "" {
		return nil, errors.New("ask the relay: something else answers at " + address)
	}
	if status.Status != "ok" {
		return nil, fmt.Errorf("the relay is not healthy: %s", status.Status)
	}
	return &status, nil
}
