package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"

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

// demoTokens are for the relay's API and dashboard, by whose they are.
type demoTokens struct {
	visitor  string // who watches the demo; admin
	platform string // the demo's own; admin
	support  string // the demo's own; operator
}

func newDemoTokens() *demoTokens {
	return &demoTokens{visitor: rand.Text(), platform: rand.Text(), support: rand.Text()}
}

// environ returns the settings that open API and dashboard.
func (t *demoTokens) environ() ([]string, error) {
	tokens, err := json.Marshal([]map[string]string{
		{"name": "demo", "role": "admin", "token": t.visitor},
		{"name": "platform", "role": "admin", "token": t.platform},
		{"name": "support", "role": "operator", "token": t.support},
	})
	if err != nil {
		return nil, fmt.Errorf("write the demo's tokens: %w", err)
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	return []string{
		"POSTHORN_HTTP__TOKENS=" + string(tokens),
		`POSTHORN_LEDGER__ENCRYPTION_KEYS=["` + hex.EncodeToString(key) + `"]`,
		"POSTHORN_LEDGER__BODIES=all", // for its pages to show
	}, nil
}

// demoConfig returns the products' examples as one configuration, whose
// enabled endpoints send to paths of their own below receiver. Without tokens it
// has no API.
func demoConfig(ctx context.Context, database, receiver string, tokens *demoTokens) (*config.Config, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	environ := []string{
		"DATABASE_URL=" + database,
		"POSTHORN_HTTP__LISTEN=" + address,
		`POSTHORN_EGRESS__ALLOW=["127.0.0.0/8"]`,
		"POSTHORN_EGRESS__REQUIRE_HTTPS=false",
		"POSTHORN_SOURCE__RETENTION=1h", // one that nobody ends must not fill the disk
		"POSTHORN_LEDGER__RETENTION=24h",
	}
	if tokens != nil {
		access, err := tokens.environ()
		if err != nil {
			return nil, err
		}
		environ = append(environ, access...)
	}
	for i, product := range demoProducts {
		environ = append(environ, fmt.Sprintf("%s=%s/%d", product.urlVariable, receiver, i), product.secretVariable+"="+rand.Text())
	}
	document, err := demoDocument()
	if err != nil {
		return nil, err
	}
	return loadDemo(document, environ)
}

// demoDocument returns the products' examples as one document.
func demoDocument() (map[string]any, error) {
	all := map[string]any{}
	for _, product := range demoProducts {
		example, err := readExample(product.file)
		if err != nil {
			return nil, err
		}
		for key, value := range example {
			all[key] = together(all[key], value)
		}
	}
	profiles, _ := all["profiles"].(map[string]any)
	for _, profile := range profiles {
		adaptProfile(profile.(map[string]any))
	}
	return all, nil
}

// together returns what stands in a and in b: of maps all keys, of lists all
// items, of anything else a if there is one.
func together(a, b any) any {
	switch a := a.(type) {
	case nil:
		return b
	case map[string]any:
		if b, ok := b.(map[string]any); ok {
			for key, value := range b {
				a[key] = together(a[key], value)
			}
		}
	case []any:
		if b, ok := b.([]any); ok {
			return append(a, b...)
		}
	}
	return a
}

// adaptProfile changes a profile as the demo needs it.
func adaptProfile(profile map[string]any) {
	profile["headers"] = together(map[string]any{demoHeader: "{{ .Event.ID }}"}, profile["headers"])
	retry, _ := profile["retry"].(map[string]any)
	if retry == nil {
		retry = map[string]any{}
		profile["retry"] = retry
	}
	if schedule, given := retry["schedule"].([]any); given && len(schedule) == 0 {
		return // it has no retries
	}
	retry["schedule"] = demoSchedule
}

// readExample returns what one of the examples holds.
func readExample(name string) (document map[string]any, err error) {
	data, err := examples.Configurations.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read example: %w", err)
	}
	if filepath.Ext(name) == ".toml" {
		err = toml.Unmarshal(data, &document)
	} else {
		err = yaml.Unmarshal(data, &document) // of which JSON is a part
	}
	if err != nil {
		return nil, fmt.Errorf("read example %s: %w", name, err)
	}
	return document, nil
}

// loadDemo loads a document as a file.
func loadDemo(document map[string]any, environ []string) (_ *config.Config, err error) {
	data, err := yaml.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("write the demo's configuration: %w", err)
	}
	dir, err := os.MkdirTemp("", "posthorn-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the configuration: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "posthorn.yaml")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return nil, fmt.Errorf("write the demo's configuration: %w", err)
	}
	cfg, err := config.Load(path, environ)
	if err != nil {
		return nil, fmt.Errorf("load the demo's configuration: %w", err)
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
