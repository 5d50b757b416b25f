package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	s := newStackOf(t, append([]string{"compose.yaml"}, files...), changes)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	const superuser = "postgres://postgres:secret@postgres/postgres"
	for name, value := range map[string]string{
		"RELAY_IMAGE": relayImage(t), "RELAY_B_IMAGE": relayImage(t), "PEER_IMAGE": peerImage, "POSTGRES_IMAGE": "postgres:17",
		"RELAY_CONFIG": filepath.Join(here, "posthorn.yaml"), "RELAY_DATABASE_URL": superuser, "RELAY_REPLICATION_URL": "",
		"APP_DATABASE_URL": superuser, "RATE": "100", "TLS_FOLDER": folder(t),
	} {
		if _, changed := changes[name]; !changed {
			s.env[name] = value
		}
	}
	s.remove() // what a run that was killed left
	return s
}

// newStackOf is newStack for compose files of others, with the variables that
// they have.
func newStackOf(t testing.TB, files []string, env map[string]string) *stack {
	t.Helper()
	s := &stack{
		t: t, files: files, env: maps.Clone(env),
		project: "posthorn-" + strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(t.Name(), "Test"), "/", "-")),
	}
	if s.env == nil {
		s.env = map[string]string{}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.output(30))
		}
		s.remove()
	})
	return s
}

// folder returns a temporary folder that any user of a container may read.
func folder(t testing.TB) string {
	t.Helper()
	path := t.TempDir()
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// write writes a file that any user of a container may read, and returns its
// path.
func write(t testing.TB, folder, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := errors.Join(os.WriteFile(path, content, 0o600), os.Chmod(path, 0o644)); err != nil {
		t.Fatal(err)
	}
	return path
}

// remove removes the stack's containers, networks and volumes.
func (s *stack) remove() {
	if _, err := s.try("down", "--volumes", "--remove-orphans", "--timeout", "0"); err != nil {
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

// write has the applications commit events, rate a second each, until check.
func (s *stack) write(rate int, apps ...string) {
	s.t.Helper()
	s.env["RATE"] = strconv.Itoa(rate)
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
	return s.inspect(service, fmt.Sprintf(`{{(index .NetworkSettings.Networks "%s_%s").IPAddress}}`, s.project, network))
}

// role is a relay's role, as it says itself.
func (s *stack) role(relay string) (string, error) {
	s.t.Helper()
	text, err := execute(nil, "docker", "exec", s.container(relay), "posthorn", "health", "--output", "json")
	if err != nil {
		return "", err
	}
	var health struct{ Role string }
	err = json.Unmarshal([]byte(text), &health)
	return health.Role, err
}

// waitRole waits until a relay has the role.
func (s *stack) waitRole(relay, role string) {
	s.t.Helper()
	eventually(s.t, time.Minute, func() error {
		got, err := s.role(relay)
		if err == nil && got != role {
			err = fmt.Errorf("%s is %s, waiting for %s", relay, got, role)
		}
		return err
	})
}

// waitPair waits until one of two relays delivers and the other stands by.
func (s *stack) waitPair(relay, other string) {
	s.t.Helper()
	eventually(s.t, time.Minute, func() error {
		first, err := s.role(relay)
		second, err2 := s.role(other)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if (first != "active" || second != "standby") && (first != "standby" || second != "active") {
			return fmt.Errorf("%s is %s and %s is %s, waiting for one active and one standby", relay, first, other, second)
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

// mustQuery is query where Postgres is there.
func (s *stack) mustQuery(sql string) int {
	s.t.Helper()
	n, err := s.query(sql)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

const committed = `SELECT count(*) FROM posthorn.outbox`

// waitMore waits until n more events than now are committed, so that what the
// test does next falls into the writing.
func (s *stack) waitMore(n int) {
	s.t.Helper()
	goal := -1
	eventually(s.t, 2*time.Minute, func() error {
		got, err := s.query(committed)
		if err != nil {
			return err
		}
		if goal < 0 {
			goal = got + n
		}
		if got < goal {
			return fmt.Errorf("%d events are committed, waiting for %d", got, goal)
		}
		return nil
	})
}

// received returns the requests that the receiver ever got, from all relays or
// from the one at the address.
func (s *stack) received(from ...string) (requests []record.Request) {
	s.t.Helper()
	args := append([]string{"exec", s.container("receiver"), "/peer", "received"}, from...)
	decoder := json.NewDecoder(strings.NewReader(docker(s.t, args...)))
	for decoder.More() {
		var r record.Request
		if err := decoder.Decode(&r); err != nil {
			s.t.Fatal(err)
		}
		requests = append(requests, r)
	}
	return requests
}

// standsFor fails the test if anything is delivered between a second from now
// and then.
func (s *stack) standsFor(d time.Duration) {
	s.t.Helper()
	time.Sleep(time.Second) // what was under way
	before := len(s.received())
	time.Sleep(d - time.Second)
	if after := len(s.received()); after != before {
		s.t.Errorf("%d requests arrived while the network was cut", after-before)
	}
}

// figures are what came of all events.
type figures struct {
	committed  int // events
	delivered  int // events, at both endpoints together
	lost       int // likewise
	duplicates int // requests that brought a delivery again
	disordered int // events of the ordered endpoint that came before another of their key
}

func (f figures) String() string {
	return fmt.Sprintf("%d events committed, %d deliveries, %d lost, %d duplicates, %d out of their key's order",
		f.committed, f.delivered, f.lost, f.duplicates, f.disordered)
}

// check stops the applications, waits until every event they committed is
// delivered, and fails the test unless each endpoint got each of them, in the
// order of its key where that was asked for, and nothing that was rolled back.
func (s *stack) check(apps ...string) figures {
	s.t.Helper()
	for _, app := range apps {
		id := s.container(app)
		if state := s.inspect(app, "{{.State.Running}}"); state != "true" {
			s.t.Errorf("%s ended before it was stopped", app)
		}
		docker(s.t, "stop", id)
		if code := s.inspect(app, "{{.State.ExitCode}}"); code != "0" {
			s.t.Errorf("%s ended with %s", app, code)
		}
	}
	f := figures{committed: s.mustQuery(committed)}
	eventually(s.t, 2*time.Minute, func() error {
		recorded, err := s.query(`SELECT count(*) FROM posthorn.deliveries WHERE state = 'delivered'`)
		if err == nil && recorded != len(endpoints)*f.committed {
			err = fmt.Errorf("ledger: %d of %d deliveries are delivered", recorded, len(endpoints)*f.committed)
		}
		return err
	})
	seen := map[string]map[string]bool{} // endpoint → "key seq"
	for _, path := range endpoints {
		seen[path] = map[string]bool{}
	}
	last := map[string]int{} // of the ordered endpoint: key → seq
	for _, r := range s.received() {
		event := fmt.Sprint(r.Event.Key, " ", r.Event.Seq)
		switch {
		case r.Problem != "" || seen[r.Path] == nil || r.Event.RolledBack:
			s.t.Errorf("the receiver got %+v", r)
			continue
		case seen[r.Path][event]:
			f.duplicates++
			continue
		}
		seen[r.Path][event] = true
		f.delivered++
		if r.Path == "/ordered" {
			if r.Event.Seq != last[r.Event.Key]+1 {
				f.disordered++
			}
			last[r.Event.Key] = r.Event.Seq
		}
	}
	// The counts are of the events that were committed, and have no gaps: what
	// is missing at an endpoint is lost, and what is there beyond was made up.
	counted := s.mustQuery(`SELECT sum(seq) FROM counts`)
	for _, path := range endpoints {
		f.lost += counted - len(seen[path])
	}
	if counted != f.committed || f.committed == 0 || f.lost != 0 || f.disordered != 0 {
		s.t.Errorf("%s; the applications counted %d", f, counted)
	}
	return f
}

// inspect returns what Docker knows of a service's container.
func (s *stack) inspect(service, format string) string {
	s.t.Helper()
	return strings.TrimSpace(docker(s.t, "inspect", "--format", format, s.container(service)))
}

// takeover returns how long after since the relay at the address made its first
// request.
func (s *stack) takeover(address string, since time.Time) time.Duration {
	s.t.Helper()
	var first time.Time
	eventually(s.t, time.Minute, func() error {
		for _, r := range s.received(address) {
			if r.Time.After(since) {
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
