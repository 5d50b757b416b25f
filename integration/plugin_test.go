package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
)

// variables are a plugin's environment.
type variables map[string]string

// pluginOf returns a plugin's configuration in YAML: the test binary as a
// program of programs. settings is further keys, such as "timeout: 1s".
func pluginOf(program string, env variables, settings ...string) string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	env = maps.Clone(env)
	if env == nil {
		env = variables{}
	}
	env[programVariable] = program
	return pluginAt(path, env, settings...)
}

// pluginAt is pluginOf for any program.
func pluginAt(path string, env variables, settings ...string) string {
	text, err := json.Marshal(env) // which is YAML, too
	if err != nil {
		panic(err)
	}
	settings = append(settings, fmt.Sprintf("path: %q", path), "env: "+string(text))
	return "{" + strings.Join(settings, ", ") + "}"
}

// writeScript puts a shell script at path in one step.
func writeScript(t testing.TB, path, script string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// configured is a relay whose configuration's file a test changes.
type configured struct {
	*relay
	file string
}

// startConfigured is startRelay with the file, and with more in the relay's
// environment.
func startConfigured(t testing.TB, db *database, rcv *receiver, config string, env ...string) *configured {
	t.Helper()
	c := &configured{file: filepath.Join(t.TempDir(), "posthorn.yaml")}
	c.relay = &relay{t: t}
	c.write(config)
	env = append(append(commonEnv(db), "RECEIVER="+rcv.url(), "SECRET="+secret), env...)
	c.relay = startProcess(t, env, "run", "--init", "--config", c.file)
	return c
}

// write puts another configuration in the place of the file's.
func (c *configured) write(config string) {
	c.t.Helper()
	if err := os.WriteFile(c.file+".new", []byte(config), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(c.file+".new", c.file); err != nil {
		c.t.Fatal(err)
	}
}

const (
	msgReloaded  = "configuration reloaded"
	msgRefused   = "the running one stays" // because the new one is invalid, or cannot be used
	msgUnchanged = "configuration is unchanged"
)

// hangUp has the relay read its configuration again, and returns once it said
// msg about it.
func (c *configured) hangUp(msg string) logLine {
	c.t.Helper()
	n := len(c.logged(msg))
	c.signal(syscall.SIGHUP)
	return c.waitLog(msg, n+1)
}

// reload is write and hangUp for a configuration that is applied.
func (c *configured) reload(config string) {
	c.t.Helper()
	c.write(config)
	c.hangUp(msgReloaded)
}

// pluginUp returns how many processes of a plugin run, as the metrics say it.
func (r *relay) pluginUp(name string) float64 {
	r.t.Helper()
	return r.metrics()[fmt.Sprintf("posthorn_plugin_up{plugin=%q}", name)]
}

func (r *relay) waitPluginUp(name string, want float64) {
	r.t.Helper()
	eventually(r.t, time.Minute, func() error {
		if got := r.pluginUp(name); got != want {
			return fmt.Errorf("plugin %s has %g processes, not %g", name, got, want)
		}
		return nil
	})
}

// process is one as the kernel shows it.
type process struct {
	pid, parent int
	state       string // Z: ended, and not waited for
}

// processes returns all of the system's, by their ids.
func processes(t testing.TB) map[int]process {
	t.Helper()
	all := map[int]process{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err != nil {
			continue // it has just ended
		}
		// The name, in parentheses, may hold anything.
		rest := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		parent, err := strconv.Atoi(rest[1])
		if err != nil {
			t.Fatalf("/proc/%d/stat: %q", pid, stat)
		}
		all[pid] = process{pid: pid, parent: parent, state: rest[0]}
	}
	return all
}

// descendants returns the processes that r started, and those that they did.
func (r *relay) descendants() []process {
	r.t.Helper()
	all := processes(r.t)
	var found []process
	for _, p := range all {
		for up := p.parent; up != 0; up = all[up].parent {
			if up == r.cmd.Process.Pid {
				found = append(found, p)
				break
			}
		}
	}
	return found
}

// waitNoZombies returns once r has waited for all of its processes that ended.
func (r *relay) waitNoZombies() {
	r.t.Helper()
	eventually(r.t, 10*time.Second, func() error {
		for _, p := range r.descendants() {
			if p.state == "Z" {
				return fmt.Errorf("process %d is a zombie", p.pid)
			}
		}
		return nil
	})
}

// resident returns a process's memory in bytes, 0 if it is gone.
func resident(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	var size, pages int
	if n, _ := fmt.Sscan(string(text), &size, &pages); n != 2 {
		return 0
	}
	return pages * os.Getpagesize()
}

// kept is the requests that an endpoint got.
type kept struct {
	mu  sync.Mutex
	all []*request
}

// keep has an endpoint keep its requests, which it answers with 200.
func keep(e *endpoint) *kept {
	k := &kept{}
	e.answers(func(q *request) int {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.all = append(k.all, q)
		return 200
	})
	return k
}

// of returns the requests of one event once there are n of them. Their ids are
// the deliveries', of which each event has one.
func (k *kept) of(t testing.TB, db *database, event uuid.UUID, n int) []*request {
	t.Helper()
	var found []*request
	eventually(t, time.Minute, func() error {
		var delivery string
		if err := db.pool.QueryRow(t.Context(), `SELECT id FROM posthorn.deliveries WHERE event_id = $1`, event).Scan(&delivery); err != nil {
			return fmt.Errorf("delivery of event %s: %w", event, err)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		found = nil
		for _, q := range k.all {
			if q.Header.Get("webhook-id") == delivery {
				found = append(found, q)
			}
		}
		if len(found) != n {
			return fmt.Errorf("%d requests of event %s, not %d", len(found), event, n)
		}
		return nil
	})
	return found
}

// marks is what mark says in a payload.
type marks struct {
	N   int    `json:"n"`
	By  string `json:"by"`
	PID int    `json:"pid"`
}

func marksOf(body []byte) (m marks) {
	_ = json.Unmarshal(body, &m) // then it has none
	return m
}

const oneMarked = `
plugins: {marker: %s}
transforms: [{match: ["*"], plugin: marker}]
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"], secret: "${SECRET}"}
`

func TestPluginSeesOnlyWhatItIsGiven(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/a")
	got := keep(rcv.endpoints["/a"])
	// t.TempDir's path is longer than a socket's may be.
	sockets, err := os.MkdirTemp("", "posthorn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	folder, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(here, binary)
	if err != nil {
		t.Fatal(err)
	}
	env := variables{programVariable: "marker", "Given": "as it is: ü $HOME"}
	config := fmt.Sprintf(oneMarked, pluginAt(relative, env, fmt.Sprintf("dir: %q, socket_dir: %q, args: [--one, \"two three\"]", folder, sockets)))
	// Nothing can be made in the system's temporary folder.
	r := startConfigured(t, db, rcv, config, "DATABASE_URL="+db.url, "HOME=/root", "TMPDIR=/nowhere")
	r.waitReady()
	var in surroundings
	q := got.of(t, db, db.publish(t, "test.made", "", `{"do":"environment"}`), 1)[0]
	if err := json.Unmarshal(q.Body, &in); err != nil {
		t.Fatalf("%s: %v", q.Body, err)
	}

	seen := variables{}
	for _, variable := range in.Environment {
		name, value, _ := strings.Cut(variable, "=")
		seen[name] = value
		if name != "Given" && strings.Contains(value, db.slot) || strings.Contains(value, "postgres://") {
			t.Errorf("the plugin sees something of the database in %s", name)
		}
	}
	for name, value := range env {
		if seen[name] != value {
			t.Errorf("%s is %q, not %q", name, seen[name], value)
		}
	}
	want := append(slices.Collect(maps.Keys(env)), "POSTHORN_PLUGIN", "POSTHORN_PLUGIN_MAX_MESSAGE", "POSTHORN_PLUGIN_PARENT",
		"PLUGIN_CLIENT_CERT", "PLUGIN_MAX_PORT", "PLUGIN_MIN_PORT", "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_UNIX_SOCKET_DIR")
	slices.Sort(want)
	if names := slices.Sorted(maps.Keys(seen)); !slices.Equal(names, want) {
		t.Errorf("the plugin sees the variables\n%v, not\n%v", names, want)
	}
	if in.Folder != folder || !slices.Equal(in.Arguments, []string{"--one", "two three"}) {
		t.Errorf("the plugin runs in %s with the arguments %q", in.Folder, in.Arguments)
	}
	if filepath.Dir(seen["PLUGIN_UNIX_SOCKET_DIR"]) != sockets {
		t.Errorf("its socket is in %s, not in %s", seen["PLUGIN_UNIX_SOCKET_DIR"], sockets)
	}
	if code, _ := r.stop(); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
	if left, err := os.ReadDir(sockets); err != nil || len(left) > 0 {
		t.Errorf("left in the socket folder: %v (%v)", left, err)
	}
	t.Logf("FIGURE environment: the plugin sees %d variables of its own and %d of the protocol, none else", len(env), len(want)-len(env))
}

// alive returns those of the processes that run.
func alive(t testing.TB, started []process) (left []int) {
	t.Helper()
	now := processes(t)
	for _, p := range started {
		if is, ok := now[p.pid]; ok && is.state != "Z" { // init may be slow to wait for orphans
			left = append(left, p.pid)
		}
	}
	return left
}

func TestNoPluginOutlivesTheRelay(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "wrapped")
	writeScript(t, script, fmt.Sprintf("%q\nexit $?", path)) // its process stands between
	calls := filepath.Join(t.TempDir(), "calls")
	config := fmt.Sprintf(`
stop_timeout: 3s
plugins:
  three: %s
  wrapped: %s
  busy: %s
transforms:
  - {match: ["test.*"], plugin: three}
  - {match: ["test.*"], plugin: wrapped}
  - {match: ["busy.*"], plugin: busy}
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"], secret: "${SECRET}"}
`, pluginOf("marker", nil, "instances: 3"), pluginAt(script, variables{programVariable: "marker"}),
		pluginOf("marker", variables{callsVariable: calls}, "timeout: 5m"))
	const processesOfPlugins = 3 + 2 + 1

	type busy struct {
		*relay
		db *database
	}
	start := func(t *testing.T) (busy, []process) {
		db, rcv := newDatabase(t), newReceiver(t, "/a")
		r := startRelay(t, db, rcv, config)
		r.waitReady()
		db.mustWrite(t, bulk{From: 1, To: 100}, 10)
		rcv.endpoints["/a"].waitDelivered(100, time.Minute)
		started := r.descendants()
		if len(started) != processesOfPlugins {
			t.Fatalf("the relay has %d processes, not %d: %v", len(started), processesOfPlugins, started)
		}
		return busy{r, db}, started
	}
	t.Run("killed", func(t *testing.T) {
		r, started := start(t)
		r.kill()
		killed := time.Now()
		eventually(t, 10*time.Second, func() error {
			if left := alive(t, started); len(left) > 0 {
				return fmt.Errorf("%d processes outlive the relay: %s", len(left), list(left))
			}
			return nil
		})
		t.Logf("FIGURE the relay was killed: its %d plugin processes were gone %s later", len(started), time.Since(killed).Round(time.Millisecond))
	})
	t.Run("stopped", func(t *testing.T) {
		r, started := start(t)
		code, took := r.stop()
		now := processes(t)
		for _, p := range started {
			if is, ok := now[p.pid]; ok {
				t.Errorf("process %d is there after the relay's end: %+v", p.pid, is)
			}
		}
		if code != 0 || took > 3*time.Second+stopSlack {
			t.Errorf("stopped with %d after %s", code, took)
		}
		t.Logf("FIGURE the relay was stopped: after %s it and its %d plugin processes were gone", took.Round(time.Millisecond), len(started))
	})
	t.Run("stopped while a plugin is busy", func(t *testing.T) {
		r, started := start(t)
		r.db.publish(t, "busy.made", "", `{"n":1000,"do":"hang"}`)
		eventually(t, time.Minute, func() error { return atLeast(len(readLines(t, calls)), 1) })
		code, took := r.stop()
		if left := alive(t, started); len(left) > 0 {
			t.Errorf("of %d processes %d outlive the relay", len(started), len(left))
		}
		if code != 0 || took > 3*time.Second+stopSlack {
			t.Errorf("stopped with %d after %s", code, took)
		}
		t.Logf("FIGURE the relay was stopped while a plugin hung: gone after %s of stop_timeout 3s", took.Round(time.Millisecond))
	})
}

// readLines returns a file's lines, none if there is no file.
func readLines(t testing.TB, name string) []string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}
