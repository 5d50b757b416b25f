package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"
)

// demo is a running posthorn demo with its dashboard.
type demo struct {
	base    string // http://127.0.0.1:port
	token   string
	started time.Time
	cmd     *exec.Cmd
	said    *bytes.Buffer // by it, once it has ended
	read    chan struct{} // closed then
}

// maxSaid bounds what is kept of what the demo says, in bytes.
const maxSaid = 1 << 20

// startDemo starts the demo and returns when it has said where its dashboard is.
func startDemo(ctx context.Context, binary string) (*demo, error) {
	cmd := exec.CommandContext(ctx, binary, "demo", "--dashboard", "--events", "0")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the demo: %w", err)
	}
	d := &demo{started: time.Now(), cmd: cmd, said: &bytes.Buffer{}, read: make(chan struct{})}
	lines := bufio.NewScanner(stderr)
	for d.token == "" && lines.Scan() {
		fmt.Fprintln(d.said, lines.Text())
		switch words := strings.Fields(lines.Text()); {
		case len(words) > 1 && words[0] == "Dashboard":
			d.base = strings.TrimSuffix(words[1], dashboard)
		case len(words) > 1 && words[0] == "Token":
			d.token = words[1]
		}
	}
	go func() {
		defer close(d.read)
		_, _ = io.Copy(d.said, io.LimitReader(stderr, maxSaid))
		_, _ = io.Copy(io.Discard, stderr)
	}()
	if d.token == "" {
		return nil, errors.Join(errors.New("the demo does not say where its dashboard is"), d.stop())
	}
	return d, nil
}

// stop ends the demo as Ctrl-C does. An error has what it said.
func (d *demo) stop() error {
	_ = d.cmd.Process.Signal(os.Interrupt) // it may have ended
	<-d.read
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("the demo ended with %w:\n%s", err, d.said)
	}
	return nil
}

// ask asks the relay's API.
func (d *demo) ask(ctx context.Context, method, path string, body, out any) error {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.base+"/api/v1"+path, content)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s answers %s", method, path, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(out)
}

type endpoint struct {
	ID, Name, State string
	Failing         bool
}

func (d *demo) endpoints(ctx context.Context) (map[string]endpoint, error) {
	var answer struct{ Endpoints []endpoint }
	if err := d.ask(ctx, http.MethodGet, "/endpoints?limit=500", nil, &answer); err != nil {
		return nil, err
	}
	named := make(map[string]endpoint)
	for _, e := range answer.Endpoints {
		named[e.Name] = e
	}
	return named, nil
}

// ripen waits until the demo has run for so long, and an endpoint fails and
// another is paused: what the pages are for.
func (d *demo) ripen(ctx context.Context, after time.Duration) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-d.read:
			return errors.New("the demo has ended")
		case <-ticker.C:
		}
		if time.Since(d.started) < after {
			continue
		}
		named, err := d.endpoints(ctx)
		if err == nil && named["northwind-calendar"].Failing && named["hris-sync"].State == "paused" {
			return nil
		}
	}
}

// delivery returns the newest delivery that an endpoint has taken after more
// than one attempt.
func (d *demo) delivery(ctx context.Context, endpoint string) (id string, err error) {
	query := url.Values{"endpoint": {endpoint}, "state": {"delivered"}, "limit": {"500"}}
	var answer struct {
		Deliveries []struct {
			ID       string
			Attempts int
		}
	}
	if err := d.ask(ctx, http.MethodGet, "/deliveries?"+query.Encode(), nil, &answer); err != nil {
		return "", err
	}
	for _, delivery := range answer.Deliveries {
		if delivery.Attempts > 1 {
			return delivery.ID, nil
		}
	}
	return "", fmt.Errorf("no delivery to %s was retried", endpoint)
}

// replay returns a replay that has done something.
func (d *demo) replay(ctx context.Context) (id string, err error) {
	var answer struct {
		Replays []struct {
			ID   string
			Done int
		}
	}
	if err := d.ask(ctx, http.MethodGet, "/replays", nil, &answer); err != nil {
		return "", err
	}
	for _, r := range answer.Replays {
		if r.Done > 0 {
			return r.ID, nil
		}
	}
	return "", errors.New("no replay has done anything")
}

// portal returns a token for a tenant's portal.
func (d *demo) portal(ctx context.Context) (token string, err error) {
	var answer struct{ Token string }
	body := map[string]string{"tenant": "acme", "subject": "jo@acme.example", "profile": "byro"}
	err = d.ask(ctx, http.MethodPost, "/portal-tokens", body, &answer)
	return answer.Token, err
}
