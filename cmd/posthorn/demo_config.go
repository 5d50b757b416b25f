package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/examples"
)

// demoProducts are the examples that the demo runs in one relay.
var demoProducts = []struct{ file, urlVariable, secretVariable string }{
	{"byro/posthorn.yaml", "BYRO_WEBHOOK_URL", "BYRO_WEBHOOK_SECRET"},
	{"danbyte/posthorn.toml", "DANBYTE_WEBHOOK_URL", "DANBYTE_WEBHOOK_SECRET"},
	{"bindbee/posthorn.json", "BINDBEE_WEBHOOK_URL", "BINDBEE_SIGNATURE_KEY"},
	{"offly/posthorn.yaml", "OFFLY_WEBHOOK_URL", "OFFLY_WEBHOOK_SECRET"},
}

// demoSchedule is instead of the products' own, which go on for a day.
var demoSchedule = []time.Duration{
	200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond,
	2 * time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second,
}

// demoHeader carries the event's id, by which the receiver tells events apart:
// not every product's requests hold one.
const demoHeader = "Posthorn-Demo-Event"

// demoConfig returns the products' examples as one configuration, whose
// enabled endpoints send to paths of their own below receiver.
func demoConfig(ctx context.Context, database, receiver string) (*config.Config, error) {
	dir, err := os.MkdirTemp("", "posthorn-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the configuration: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // four small files in the temporary folder
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	var all *config.Config
	for i, product := range demoProducts {
		cfg, err := loadExample(dir, product.file, []string{
			"DATABASE_URL=" + database,
			fmt.Sprintf("%s=%s/%d", product.urlVariable, receiver, i),
			product.secretVariable + "=" + rand.Text(),
			"POSTHORN_HTTP__LISTEN=" + address,
			`POSTHORN_EGRESS__ALLOW=["127.0.0.0/8"]`,
			"POSTHORN_EGRESS__REQUIRE_HTTPS=false",
		})
		if err != nil {
			return nil, err
		}
		for j := range cfg.Endpoints {
			adaptEndpoint(&cfg.Endpoints[j])
		}
		if all == nil {
			all = cfg
			continue
		}
		all.Endpoints = append(all.Endpoints, cfg.Endpoints...)
	}
	return all, nil
}

func adaptEndpoint(ep *config.Endpoint) {
	headers := map[string]string{demoHeader: "{{ .Event.ID }}"}
	for name, value := range ep.Headers {
		headers[name] = value
	}
	ep.Headers = headers
	if len(ep.Retry.Schedule) > 0 {
		ep.Retry.Schedule = demoSchedule
	}
}

// loadExample reads one of the examples through a file in dir.
func loadExample(dir, name string, environ []string) (*config.Config, error) {
	data, err := examples.Configurations.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read example: %w", err)
	}
	path := filepath.Join(dir, filepath.Base(name))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return nil, fmt.Errorf("write example: %w", err)
	}
	cfg, err := config.Load(path, environ)
	if err != nil {
		return nil, fmt.Errorf("load example %s: %w", name, err)
	}
	return cfg, nil
}

// freeAddress returns a loopback address that nobody listens on at the moment.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	socket, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return socket.Addr().String(), socket.Close()
}
