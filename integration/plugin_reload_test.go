package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const reloadConfig = `
plugins: {marker: %s}
transforms: [{match: ["*"], plugin: marker}]
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"], secret: "${SECRET}", retry: {schedule: [100ms, 1s, 5s], jitter: 0}}
`

// labels counts, by label, the events that an endpoint got.
type labels struct {
	mu    sync.Mutex
	count map[string]int
}

// labelled has an endpoint count labels.
func labelled(e *endpoint) *labels {
	l := &labels{count: map[string]int{}}
	e.answers(func(q *request) int {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.count[marksOf(q.Body).By]++
		return 200
	})
	return l
}

func (l *labels) of(label string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[label]
}

// all returns the counts by label.
func (l *labels) all() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.count)
}

// checkNext holds that the next events, of which there are ten, are labelled so.
func (l *labels) checkNext(t *testing.T, db *database, label string) {
	t.Helper()
	before := l.of(label)
	for range 10 {
		db.publish(t, "test.made", "", `{}`)
	}
	eventually(t, time.Minute, func() error {
		if got := l.of(label) - before; got < 10 {
			return fmt.Errorf("%d of 10 events are labelled %q: %v", got, label, l.all())
		}
		return nil
	})
}

func TestPluginIsSwappedWithoutLosingAnEvent(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/a")
	a := rcv.endpoints["/a"]
	got := labelled(a)
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "program")
	version := func(v string) { writeScript(t, script, fmt.Sprintf("%s=%s exec %q", labelVariable, v, binary)) }
	version("file-1")
	marker := func(settings ...string) string {
		return fmt.Sprintf(reloadConfig, pluginAt(script, variables{programVariable: "marker"}, settings...))
	}
	r := startConfigured(t, db, rcv, marker())
	r.waitReady()

	stop := load(t, db, 1)
	more := func() {
		enough := a.counts().Delivered + 200
		eventually(t, time.Minute, func() error { return atLeast(a.counts().Delivered, enough) })
	}
	more()
	swaps := max(3, scaled(20))
	for i := range swaps { // the file alone
		version(fmt.Sprintf("file-%d", i+2))
		r.hangUp(msgReloaded)
		more()
	}
	last := fmt.Sprintf("file-%d", swaps+1)

	// The configuration's file alone, which the relay looks at now and then.
	reloaded := len(r.logged(msgReloaded))
	r.write(marker("batch: 16"))
	r.waitLog(msgReloaded, reloaded+1)
	more()

	// Storms of signals while nothing changed.
	for range 20 {
		r.signal(syscall.SIGHUP)
	}
	r.waitLog(msgUnchanged, 1)
	more()
	tried, failed := stop()
	n := checkCommitted(t, db, a)
	if d := a.counts(); d.Duplicates > 0 || d.Again > 0 {
		t.Errorf("%d events arrived again, %d were tried again", d.Duplicates, d.Again)
	}
	for i := range swaps + 1 {
		if label := fmt.Sprintf("file-%d", i+1); got.of(label) == 0 {
			t.Errorf("no event is labelled %s", label)
		}
	}
	t.Logf("FIGURE a plugin was swapped %d times by its file and once by the configuration under load (%d transactions, %d failed): %d events, 0 lost, 0 doubled, by version %v",
		swaps, tried, failed, n, got.all())
	got.checkNext(t, db, last)
	if failed := db.deliveries(t, "failed"); failed > 0 {
		t.Errorf("%d deliveries failed", failed)
	}
	r.waitNoZombies()
	if started := r.descendants(); len(started) != 1 {
		t.Errorf("the relay has %d processes, not 1", len(started))
	}
	if code, _ := r.stop(); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
}

func TestReloadThatFailsLeavesPluginWorking(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/a")
	a := rcv.endpoints["/a"]
	got := labelled(a)
	dir := t.TempDir()
	script := filepath.Join(dir, "program")
	marker := func(label string) string {
		return fmt.Sprintf(reloadConfig, pluginOf("marker", variables{labelVariable: label}))
	}
	r := startConfigured(t, db, rcv, marker("old"))
	r.waitReady()
	got.checkNext(t, db, "old")
	before := r.descendants()

	failures := []struct{ name, config, text string }{
		{"no YAML", "endpoints: [", "posthorn.yaml"},
		{"a mistake", marker("new") + "typo: 1\n", "typo"},
		{"a plugin that is missing", fmt.Sprintf(reloadConfig, pluginAt(filepath.Join(dir, "nowhere"), variables{"A": "b"})), "marker"},
		{"a plugin that does not start", fmt.Sprintf(reloadConfig, pluginAt(script, variables{"A": "b"})), "plugin marker: ended with exit status 7"},
	}
	writeScript(t, script, "exit 7")
	for _, f := range failures {
		r.write(f.config)
		if line := r.hangUp(msgRefused); !strings.Contains(line.Text, f.text) {
			t.Errorf("%s: the log does not say %q: %s", f.name, f.text, line.Text)
		}
		if up := r.metrics()["posthorn_config_last_reload_success"]; up != 0 {
			t.Errorf("%s: posthorn_config_last_reload_success is %g", f.name, up)
		}
		got.checkNext(t, db, "old")
	}
	if after := r.descendants(); len(after) != 1 || after[0].pid != before[0].pid {
		t.Errorf("the relay has the processes %v, not the one that it had: %v", after, before)
	}

	// What is right again is taken.
	r.reload(marker("new"))
	if up := r.metrics()["posthorn_config_last_reload_success"]; up != 1 {
		t.Errorf("posthorn_config_last_reload_success is %g", up)
	}
	got.checkNext(t, db, "new")
	t.Logf("FIGURE %d configurations that could not be used were refused, the plugin went on", len(failures))
}

func TestEndpointsChangeByReload(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/a", "/b")
	a, b := rcv.endpoints["/a"], rcv.endpoints["/b"]
	with := func(endpoints string) string { return fmt.Sprintf(reloadConfig, pluginOf("marker", nil)) + endpoints }
	r := startConfigured(t, db, rcv, with(""))
	r.waitReady()
	stop := load(t, db, 1)
	more := func(e *endpoint) {
		enough := e.counts().Delivered + 100
		eventually(t, time.Minute, func() error { return atLeast(e.counts().Delivered, enough) })
	}
	more(a)
	pid := r.descendants()[0].pid
	r.reload(with("  - {name: b, url: \"${RECEIVER}/b\", events: [\"*\"], secret: \"${SECRET}\"}\n"))
	first := db.count(t, `SELECT max((payload->>'n')::int) FROM posthorn.outbox`) + 5 // an insert may be under way
	more(b)
	more(a)
	tried, _ := stop()
	n := checkCommitted(t, db, a)
	var later []int
	for _, number := range a.delivered() {
		if number > first {
			later = append(later, number)
		}
	}
	eventually(t, time.Minute, func() error {
		if missing := b.missing(later); len(missing) > 0 {
			return fmt.Errorf("the new endpoint lacks %d events that came after it: %s", len(missing), list(missing))
		}
		return nil
	})
	for _, e := range []*endpoint{a, b} {
		if d := e.counts(); d.Duplicates > 0 {
			t.Errorf("%s got %d events again", e.path, d.Duplicates)
		}
	}
	if now := r.descendants(); len(now) != 1 || now[0].pid != pid {
		t.Errorf("the plugin that did not change was started again: %v, not process %d", now, pid)
	}
	if code, _ := r.stop(); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
	t.Logf("FIGURE an endpoint was added under load (%d transactions): %d events at the old one, 0 lost, 0 doubled; all %d that came later at the new one, too", tried, n, len(later))
}

// TestReloadDoesNotWaitForPluginThatHangs replaces a plugin in which an event
// hangs.
func TestReloadDoesNotWaitForPluginThatHangs(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/a")
	got := labelled(rcv.endpoints["/a"])
	calls := filepath.Join(t.TempDir(), "calls")
	marker := func(label string) string {
		return "stop_timeout: 3s" + fmt.Sprintf(reloadConfig, pluginOf("marker", variables{labelVariable: label, callsVariable: calls}, "timeout: 5m"))
	}
	r := startConfigured(t, db, rcv, marker("old"))
	r.waitReady()
	db.publish(t, "test.made", "", `{"do":"hang"}`)
	eventually(t, time.Minute, func() error { return atLeast(len(readLines(t, calls)), 1) })
	r.write(marker("new"))
	r.signal(syscall.SIGHUP)
	eventually(t, time.Minute, func() error {
		db.publish(t, "test.made", "", `{}`)
		return atLeast(got.of("new"), 1)
	})
	got.checkNext(t, db, "new")
	started := r.descendants()
	if len(started) != 2 {
		t.Errorf("the relay has %d processes, not 2", len(started))
	}
	if code, took := r.stop(); code != 0 || took > 3*time.Second+stopSlack {
		t.Errorf("stopped with %d after %s", code, took)
	}
	if left := alive(t, started); len(left) > 0 {
		t.Errorf("%d processes outlive the relay", len(left))
	}
}
