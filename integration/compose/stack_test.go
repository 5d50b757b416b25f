package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/posthorn/posthorn/integration/compose/record"
)

// endpoints are those of posthorn.yaml, by the path that the receiver sees.
var endpoints = []string{"/plain", "/ordered"}

// stack is one test's containers and networks.
type stack struct {
	t       testing.TB
	project string
	files   []string
	env     map[string]string
}

// newStack describes a stack that is not started yet. changes are variables of
// compose.yaml; files are further compose files. All of it is removed when the
// test ends.
func newStack(t testing.TB, changes map[string]string, files ...string) *stack {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	const superuser = "postgres://postgres:secret@postgres/postgres"
	s := &stack{
		t:       t,
		project: "posthorn-" + strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(t.Name(), "Test"), "/", "-")),
		files:   append([]string{"compose.yaml"}, files...),
		env: map[string]string{
			"RELAY_IMAGE": relayImage, "RELAY_B_IMAGE": relayImage, "PEER_IMAGE": peerImage, "POSTGRES_IMAGE": "postgres:17",
			"RELAY_CONFIG": filepath.Join(here, "posthorn.yaml"), "RELAY_DATABASE_URL": superuser, "RELAY_REPLICATION_URL": "",
			"APP_DATABASE_URL": superuser, "EVENTS": "1000", "RATE": "100", "TLS_FOLDER": t.TempDir(),
		},
	}
	maps.Copy(s.env, changes)
	s.remove() // what a run that was killed left
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.output(30))
		}
		s.remove()
	})
	return s
}

// remove removes the stack's containers, networks and volumes.
func (s *stack) remove() {
	if _, err := s.try("down", "--volumes", "--timeout", "0"); err != nil {
		s.t.Error(err)
	}
}

// output returns the last lines of what services' containers printed, by default
// of all.
func (s *stack) output(lines int, services ...string) string {
	s.t.Helper()
	return s.compose(append([]string{"logs", "--no-color", "--tail", strconv.Itoa(lines)}, services...)...)
}

// try runs Docker Compose on the stack.
func (s *stack) try(args ...string) (string, error) {
	command := append(slices.Clone(composeCommand), "--project-name", s.project)
	for _, file := range s.files {
		command = append(command, "--file", file)
	}
	return execute(s.env, append(command, args...)...)
}

// compose runs Docker Compose on the stack.
func (s *stack) compose(args ...string) string {
	s.t.Helper()
	text, err := s.try(args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// up starts services, or makes them anew where what they are made of changed.
func (s *stack) up(services ...string) {
	s.t.Helper()
	s.compose(append([]string{"up", "--detach", "--no-deps"}, services...)...)
}

// start starts Postgres and the receiver, and relay-a, and waits until it
// delivers.
func (s *stack) start() {
	s.t.Helper()
	s.up("postgres", "receiver", "relay-a")
	s.waitRole("relay-a", "active")
}

// write has the applications commit events, rate a second each, and returns
// while they do.
func (s *stack) write(events, rate int, apps ...string) {
	s.t.Helper()
	s.env["EVENTS"], s.env["RATE"] = strconv.Itoa(events), strconv.Itoa(rate)
	s.up(apps...)
}

// container returns the id of a service's container.
func (s *stack) container(service string) string {
	s.t.Helper()
	ids := strings.Fields(docker(s.t, "ps", "--all", "--quiet",
		"--filter", "label=com.docker.compose.project="+s.project, "--filter", "label=com.docker.compose.service="+service))
	if len(ids) != 1 {
		s.t.Fatalf("%s has %d containers", service, len(ids))
	}
	return ids[0]
}

// kill ends a service's container as a power cut would, and returns when.
func (s *stack) kill(service string) time.Time {
	s.t.Helper()
	id, now := s.container(service), time.Now()
	docker(s.t, "kill", id)
	return now
}

// revive starts a container that was killed.
func (s *stack) revive(service string) {
	s.t.Helper()
	docker(s.t, "start", s.container(service))
}

// cut takes a service off a network, and returns when.
func (s *stack) cut(service, network string) time.Time {
	s.t.Helper()
	id, now := s.container(service), time.Now()
	docker(s.t, "network", "disconnect", s.project+"_"+network, id)
	return now
}

// mend puts a service into a network again.
func (s *stack) mend(service, network string) {
	s.t.Helper()
	docker(s.t, "network", "connect", "--alias", service, s.project+"_"+network, s.container(service))
}

// address returns a service's address in a network.
func (s *stack) address(service, network string) string {
	s.t.Helper()
	return strings.TrimSpace(docker(s.t, "inspect", "--format",
		fmt.Sprintf(`{{(index .NetworkSettings.Networks "%s_%s").IPAddress}}`, s.project, network), s.container(service)))
}

// waitRole waits until a relay has the role, as it says itself.
func (s *stack) waitRole(relay, role string) {
	s.t.Helper()
	id := s.container(relay)
	eventually(s.t, time.Minute, func() error {
		text, err := execute(nil, "docker", "exec", id, "posthorn", "health", "--output", "json")
		if err != nil {
			return err
		}
		var health struct{ Role string }
		if err := json.Unmarshal([]byte(text), &health); err != nil {
			return err
		}
		if health.Role != role {
			return fmt.Errorf("%s is %s, waiting for %s", relay, health.Role, role)
		}
		return nil
	})
}

// query returns the number that a query yields.
func (s *stack) query(sql string) (int, error) {
	text, err := execute(nil, "docker", "exec", s.container("postgres"), "psql", "-U", "postgres", "-tAc", sql)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(text))
}

// waitCommitted waits until n events are committed.
func (s *stack) waitCommitted(n int) {
	s.t.Helper()
	eventually(s.t, 2*time.Minute, func() error {
		committed, err := s.query(`SELECT count(*) FROM posthorn.outbox`)
		if err == nil && committed < n {
			err = fmt.Errorf("%d events are committed, waiting for %d", committed, n)
		}
		return err
	})
}

// received returns all requests that the receiver ever got.
func (s *stack) received() (requests []record.Request) {
	s.t.Helper()
	decoder := json.NewDecoder(strings.NewReader(docker(s.t, "exec", s.container("receiver"), "/peer", "received")))
	for decoder.More() {
		var r record.Request
		if err := decoder.Decode(&r); err != nil {
			s.t.Fatal(err)
		}
		requests = append(requests, r)
	}
	return requests
}

// figures is what check counted.
type figures struct {
	committed  int // events
	requests   int
	duplicates int // requests that brought a delivery again
}

func (f figures) String() string {
	return fmt.Sprintf("%d events committed, %d deliveries, 0 lost, %d duplicates, key order held", f.committed, len(endpoints)*f.committed, f.duplicates)
}

// check waits until the applications ended and every event they committed is
// delivered, and fails the test unless each endpoint got each of them, in the
// order of its key where that was asked for, and nothing that was rolled back.
func (s *stack) check(apps ...string) figures {
	s.t.Helper()
	for _, app := range apps {
		if code := strings.TrimSpace(docker(s.t, "wait", s.container(app))); code != "0" {
			s.t.Fatalf("%s ended with %s", app, code)
		}
	}
	committed, err := s.query(`SELECT count(*) FROM posthorn.outbox`)
	if err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, 2*time.Minute, func() error {
		left, err := s.query(fmt.Sprintf(`SELECT %d - count(*) FROM posthorn.deliveries WHERE state = 'delivered'`, len(endpoints)*committed))
		if err == nil && left != 0 {
			err = fmt.Errorf("ledger: %d of %d deliveries are not delivered", left, len(endpoints)*committed)
		}
		return err
	})
	f := figures{committed: committed}
	delivered := map[string]map[string]int{} // endpoint → "key seq" → requests
	next := map[string]int{}                 // of the ordered endpoint: key → seq
	for _, path := range endpoints {
		delivered[path] = map[string]int{}
	}
	for _, r := range s.received() {
		f.requests++
		event := fmt.Sprint(r.Event.Key, " ", r.Event.Seq)
		switch seen := delivered[r.Path]; {
		case r.Problem != "" || seen == nil || r.Event.RolledBack:
			s.t.Errorf("the receiver got %+v", r)
		case seen[event] > 0:
			f.duplicates++
		case r.Path == "/ordered" && r.Event.Seq != next[r.Event.Key]+1:
			s.t.Errorf("%s came after %d", event, next[r.Event.Key])
		case r.Path == "/ordered":
			next[r.Event.Key] = r.Event.Seq
		}
		if delivered[r.Path] != nil {
			delivered[r.Path][event]++
		}
	}
	// The counts table has each key's last number, and the numbers have no gaps.
	counted, err := s.query(`SELECT sum(seq) FROM counts`)
	if err != nil {
		s.t.Fatal(err)
	}
	for path, seen := range delivered {
		if len(seen) != committed || counted != committed {
			s.t.Errorf("%s got %d events, committed are %d, counted %d", path, len(seen), committed, counted)
		}
	}
	return f
}

// takeover returns how long after since the relay at the address made its first
// request.
func (s *stack) takeover(address string, since time.Time) time.Duration {
	s.t.Helper()
	var first time.Time
	eventually(s.t, time.Minute, func() error {
		for _, r := range s.received() {
			if r.From == address && r.Time.After(since) {
				first = r.Time
				return nil
			}
		}
		return fmt.Errorf("no request came from %s", address)
	})
	return first.Sub(since)
}

// docker runs a command of Docker.
func docker(t testing.TB, args ...string) string {
	t.Helper()
	text, err := execute(nil, append([]string{"docker"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// commandTimeout bounds a command; building images is the longest.
const commandTimeout = 15 * time.Minute

// execute returns what a command prints on its standard output.
func execute(env map[string]string, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = os.Environ()
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("run %s: %w\n%s", strings.Join(command, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// eventually returns when cond returns nil. It fails the test with cond's last
// error when it does not within timeout.
func eventually(t testing.TB, timeout time.Duration, cond func() error) {
	t.Helper()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(timeout)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", timeout, err)
		}
		<-ticker.C
	}
}
