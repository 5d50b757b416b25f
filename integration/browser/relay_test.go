package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Whose tokens the relays of the tests know.
const (
	adminToken    = "admin-0123456789abcdef-of-the-test"
	operatorToken = "operator-0123456789abcdef-of-the-test"
	viewerToken   = "viewer-0123456789abcdef-of-the-test"
)

// relay is one process of the binary, with a database of its own.
type relay struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed once it ended
	pool *pgxpool.Pool // of its database
	base string        // its address, without a path

	mu  sync.Mutex
	log bytes.Buffer
}

// startRelay runs the relay with a product's configuration as it is in
// examples, but for what env overrides. It returns once the relay delivers.
func startRelay(t testing.TB, example string, env ...string) *relay {
	t.Helper()
	url, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	tokens, err := json.Marshal([]map[string]string{
		{"name": "root", "role": "admin", "token": adminToken},
		{"name": "ops", "role": "operator", "token": operatorToken},
		{"name": "status-page", "role": "viewer", "token": viewerToken},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, cmd: exec.Command(binary, "run", "--init", "--config", filepath.Join("..", "..", "examples", example)), done: make(chan struct{}), pool: pool}
	r.cmd.Env = append([]string{
		"DATABASE_URL=" + url,
		"POSTHORN_SOURCE__SLOT=slot_" + pool.Config().ConnConfig.Database, // slots belong to the whole server
		"POSTHORN_HTTP__LISTEN=127.0.0.1:0",
		"POSTHORN_HTTP__TOKENS=" + string(tokens),
		`POSTHORN_LEDGER__ENCRYPTION_KEYS=["0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]`,
		`POSTHORN_EGRESS__ALLOW=["127.0.0.0/8"]`,
		"POSTHORN_LOG__FORMAT=json",
	}, env...)
	r.cmd.Stdout, r.cmd.Stderr, r.cmd.SysProcAttr, r.cmd.WaitDelay = r, r, sysProcAttr(), 10*time.Second
	r.start()
	r.base = "http://" + r.logged(`"msg":"posthorn starts".*"listen":"([^"]+)"`)
	r.logged(`"msg":"(slot acquired, delivering)"`)
	return r
}

// start starts the process and has it stopped when the test ends.
func (r *relay) start() {
	r.t.Helper()
	started := make(chan error)
	go func() {
		// The kernel ends the child with the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := r.cmd.Start()
		started <- err
		if err == nil {
			_ = r.cmd.Wait() // ProcessState says how it ended
			close(r.done)
		}
	}()
	if err := <-started; err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.stop)
}

// stop ends the process, which must end well.
func (r *relay) stop() {
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		r.t.Errorf("stop the relay: %v", err)
	}
	select {
	case <-r.done:
	case <-time.After(within):
		_ = r.cmd.Process.Kill()
		<-r.done
	}
	if code := r.cmd.ProcessState.ExitCode(); code != 0 {
		r.t.Errorf("the relay ended with %d", code)
	}
	if r.t.Failed() {
		text := r.text()
		r.t.Logf("the end of the relay's log:\n%s", text[max(0, len(text)-4000):])
	}
}

// Write takes what the process prints.
func (r *relay) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(b)
}

func (r *relay) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// logged returns what the first group of a pattern matches of the log, once it
// does.
func (r *relay) logged(pattern string) (found string) {
	r.t.Helper()
	p := regexp.MustCompile(pattern)
	eventually(r.t, func() error {
		groups := p.FindStringSubmatch(r.text())
		if groups != nil {
			found = groups[1]
			return nil
		}
		select {
		case <-r.done:
			r.t.Fatalf("the relay ended:\n%s", r.text())
		default:
		}
		return fmt.Errorf("the relay's log has no %s", pattern)
	})
	return found
}

// publish commits an event, as a host application does.
func (r *relay) publish(eventType, tenant, payload string) uuid.UUID {
	r.t.Helper()
	id := uuid.New()
	if _, err := r.pool.Exec(r.t.Context(), `INSERT INTO posthorn.outbox (id, type, tenant, payload) VALUES ($1, $2, nullif($3, ''), $4::text::json)`, id, eventType, tenant, payload); err != nil {
		r.t.Fatalf("publish %s: %v", eventType, err)
	}
	return id
}

// delivery returns the id of the event's delivery to an endpoint, once it is in
// a state after so many attempts.
func (r *relay) delivery(event uuid.UUID, endpoint, state string, attempts int) (id uuid.UUID) {
	r.t.Helper()
	eventually(r.t, func() error {
		var got string
		var made int
		err := r.pool.QueryRow(r.t.Context(), `SELECT id, state, attempts FROM (
			SELECT id, event_id, endpoint_id, state::text, attempts FROM posthorn.pending UNION ALL SELECT id, event_id, endpoint_id, state::text, attempts FROM posthorn.deliveries) AS d
			WHERE event_id = $1 AND endpoint_id = $2`, event, endpoint).Scan(&id, &got, &made)
		if err == nil && (got != state || made != attempts) {
			err = fmt.Errorf("delivery %s is %s after %d attempts, not %s after %d", id, got, made, state, attempts)
		}
		return err
	})
	return id
}

// portalToken mints a token for a tenant's portal, as a host application does,
// and returns the address that it leads its customer to.
func (r *relay) portalToken(tenant, profile string) string {
	r.t.Helper()
	body, err := json.Marshal(map[string]string{"tenant": tenant, "subject": "jo@" + tenant, "profile": profile})
	if err != nil {
		r.t.Fatal(err)
	}
	q, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.base+"/api/v1/portal-tokens", bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+adminToken)
	q.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: within}
	res, err := client.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct{ URL, Detail string }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.URL == "" {
		r.t.Fatalf("mint a portal token: %s %s: %v", res.Status, answer.Detail, err)
	}
	return answer.URL
}

// find returns the id and the state of an event's delivery to an endpoint once
// its first attempt is recorded.
func (r *relay) find(event uuid.UUID, endpoint string) (id uuid.UUID, state string, err error) {
	err = r.pool.QueryRow(r.t.Context(), `SELECT id, state FROM (
		SELECT id, event_id, endpoint_id, state::text, attempts FROM posthorn.pending UNION ALL SELECT id, event_id, endpoint_id, state::text, attempts FROM posthorn.deliveries) AS d
		WHERE event_id = $1 AND endpoint_id = $2 AND attempts > 0 AND state <> 'sending'`, event, endpoint).Scan(&id, &state)
	return id, state, err
}
