package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/plugins"
	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/transforms"
)

// transformInPlugin is the plugin that TestMain serves. It shows which file and
// process of it ran, and with which LABEL; some types it fails.
func transformInPlugin(_ context.Context, e *plugins.Event) error {
	switch e.Type {
	case "skip.why":
		return plugins.Skip("not wanted")
	case "skip.plain":
		return plugins.Skip("")
	case "fail.once":
		return errors.New("no luck")
	case "fail.final":
		return plugins.Reject(errors.New("never"))
	}
	path, err := os.Executable()
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	e.Payload, err = json.Marshal(shown{Label: os.Getenv("LABEL"), PID: os.Getpid(), Size: info.Size(), Was: e.Payload})
	return err
}

// shown is the payload that transformInPlugin makes.
type shown struct {
	Label string          `json:"label"`
	PID   int             `json:"pid"`
	Size  int64           `json:"size"`
	Was   json.RawMessage `json:"was"`
}

// program returns the path of a copy of the test binary, which is a plugin,
// with extra bytes at its end.
func program(t *testing.T, extra string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plugin")
	writeProgram(t, path, extra)
	return path
}

// writeProgram puts such a copy in path's place.
func writeProgram(t *testing.T, path, extra string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, io.MultiReader(from, strings.NewReader(extra)))
	if err = errors.Join(err, to.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// withPlugin is the configuration of a plugin p and one transform that uses it.
func withPlugin(path, label string) string {
	return fmt.Sprintf("plugins: {p: {path: '%s', env: {LABEL: '%s'}, timeout: 10s, start_timeout: 30s}}\ntransforms: [{match: ['*'], plugin: p}]\n", path, label)
}

// parsed returns a configuration that needs no database.
func parsed(t *testing.T, text string) *config.Config {
	t.Helper()
	return (&database{url: "postgres://h/d", slot: "s"}).config(t, text)
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// made returns chains that are closed when the test ends.
func made(t *testing.T, cfg *config.Config, keep *chains) *chains {
	t.Helper()
	c, err := newChains(t.Context(), cfg, silent(), keep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close(context.Background()) })
	return c
}

// apply runs one event through its chain.
func apply(t *testing.T, c *chains, eventType, payload string) *transforms.Message {
	t.Helper()
	m := &transforms.Message{Committed: eventType, Payload: []byte(payload)}
	m.Event = transforms.Event{ID: "01890a5d-ac96-774b-bcce-b302099a8057", Tenant: "acme", Key: "k", CreatedAt: time.Unix(1, 0)}
	m.SetType(eventType)
	if !c.For(eventType).Apply(t.Context(), []*transforms.Message{m}) {
		t.Fatal("the chain is retired")
	}
	return m
}

// shownBy returns what the plugin shows of itself.
func shownBy(t *testing.T, payload []byte) shown {
	t.Helper()
	var s shown
	if err := json.Unmarshal(payload, &s); err != nil {
		t.Fatalf("payload %s: %v", payload, err)
	}
	return s
}

// fakePlugin answers by a function.
type fakePlugin func(e *plugins.Event) error

func (f fakePlugin) Transform(_ context.Context, events []*plugins.Event) []error {
	errs := make([]error, len(events))
	for i, e := range events {
		errs[i] = f(e)
	}
	return errs
}

func TestWhatAPluginMadeBecomesTheMessage(t *testing.T) {
	headers := map[string]string{"a": "b"}
	payload := []byte(`{"n":1}`)
	cases := []struct {
		name string
		f    fakePlugin
		want transforms.Message
		same bool // the payload's bytes are the committed ones
	}{
		{
			"nothing changed", func(*plugins.Event) error { return nil },
			transforms.Message{Event: transforms.Event{Type: "a.b", Object: "a", Action: "b", Headers: headers}, Payload: payload}, true,
		},
		{
			"a copy of the same payload", func(e *plugins.Event) error { e.Payload = bytes.Clone(e.Payload); return nil },
			transforms.Message{Event: transforms.Event{Type: "a.b", Object: "a", Action: "b", Headers: headers}, Payload: payload}, true,
		},
		{
			"all changed", func(e *plugins.Event) error {
				e.Type, e.Payload = "c.d.e", json.RawMessage(`2`)
				e.Headers["a"] = "c" // in place
				e.ID, e.Tenant, e.Key = "other", "other", "other"
				return nil
			},
			transforms.Message{Event: transforms.Event{Type: "c.d.e", Object: "c.d", Action: "e", Headers: map[string]string{"a": "c"}}, Payload: []byte(`2`)}, false,
		},
		{
			"skipped", func(*plugins.Event) error { return plugins.Skip("not wanted") },
			transforms.Message{Event: transforms.Event{Type: "a.b", Object: "a", Action: "b", Headers: headers}, Payload: payload, Skipped: "not wanted"}, true,
		},
		{
			"skipped without a reason, wrapped", func(*plugins.Event) error { return fmt.Errorf("plugin p: %w", plugins.Skip("")) },
			transforms.Message{Event: transforms.Event{Type: "a.b", Object: "a", Action: "b", Headers: headers}, Payload: payload, Skipped: "skipped without a reason"}, true,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := &transforms.Message{Payload: payload}
			m.Event.Headers = headers
			m.SetType("a.b")
			(&pluginTransform{name: "p", plugin: c.f}).Transform(t.Context(), []*transforms.Message{m})
			if diff := cmp.Diff(&c.want, m); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			if same := &m.Payload[0] == &payload[0]; same != c.same {
				t.Errorf("the very same bytes: %t", same)
			}
			if headers["a"] != "b" {
				t.Error("the event's own headers were changed")
			}
		})
	}
}

func TestPluginsErrorsSayWhetherARetryMakesSense(t *testing.T) {
	for _, c := range []struct {
		err       error
		want      string // without the plugin's name, which the rule's has
		retryable bool
	}{
		{fmt.Errorf("plugin p: %w", errors.New("no luck")), "no luck", true},
		{fmt.Errorf("plugin p: %w", plugins.Reject(errors.New("never"))), plugins.Reject(errors.New("never")).Error(), false},
		{fmt.Errorf("plugin p: %w", errors.New("plugin p: no luck")), "plugin p: no luck", true}, // its own words
		{errors.New("no luck"), "no luck", true},
	} {
		m := &transforms.Message{Payload: []byte(`1`)}
		(&pluginTransform{name: "p", plugin: fakePlugin(func(*plugins.Event) error { return c.err })}).Transform(t.Context(), []*transforms.Message{m})
		if m.Err == nil || m.Err.Error() != c.want || transforms.IsRetryable(m.Err) != c.retryable {
			t.Errorf("%v becomes %v, retryable %t", c.err, m.Err, transforms.IsRetryable(m.Err))
		}
	}
}

func TestChainsRunBuiltInsAndPluginsInTheirOrder(t *testing.T) {
	path := program(t, "")
	c := made(t, parsed(t, fmt.Sprintf(`
plugins:
  p: {path: '%s', env: {LABEL: x}, start_timeout: 30s, timeout: 10s, instances: 2}
  unused: {path: '%s'}
transforms:
  - {match: ["a.*"], set: {v: 1}}
  - {match: ["a.*", "skip.*", "fail.*"], plugin: p}
  - {match: ["a.*"], remove: [pid, size]}
`, path, path)), nil)
	if c.For("b.c") != nil {
		t.Error("a type that nothing matches has a chain")
	}
	if n := c.For("a.b").Parallel(); n != 4 {
		t.Errorf("%d batches at once, want two for each process", n)
	}
	if m := apply(t, c, "a.b", `{"n":1}`); m.Err != nil || string(m.Payload) != `{"label":"x","was":{"n":1,"v":1}}` {
		t.Errorf("payload %s, %v", m.Payload, m.Err)
	}
	if m := apply(t, c, "skip.why", `1`); m.Skipped != "transforms[1] (plugin p): not wanted" {
		t.Errorf("skipped: %q, %v", m.Skipped, m.Err)
	}
	if m := apply(t, c, "skip.plain", `1`); m.Skipped != "transforms[1] (plugin p): skipped without a reason" {
		t.Errorf("skipped: %q, %v", m.Skipped, m.Err)
	}
	m := apply(t, c, "fail.once", `1`)
	wants(t, m.Err, "transforms[1] (plugin p): ", "no luck")
	if !transforms.IsRetryable(m.Err) {
		t.Error("an ordinary error is final")
	}
	m = apply(t, c, "fail.final", `1`)
	wants(t, m.Err, "transforms[1] (plugin p): ", "never")
	if strings.Count(m.Err.Error(), "plugin p") != 1 {
		t.Errorf("the plugin's name stands more than once: %v", m.Err)
	}
	if transforms.IsRetryable(m.Err) {
		t.Error("a rejection can be retried")
	}
	want := []admin.Plugin{{Name: "p", Running: 2}}
	got := c.statuses()
	if len(got) == 1 {
		got[0].Calls = 0 // how many there were is the host's
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plugins (-want +got):\n%s", diff)
	}
}

func TestReloadKeepsPluginsThatAreTheSame(t *testing.T) {
	path := program(t, "")
	pidOf := func(c *chains) int { return shownBy(t, apply(t, c, "a.b", `1`).Payload).PID }
	first := made(t, parsed(t, withPlugin(path, "x")), nil)
	pid := pidOf(first)

	same := made(t, parsed(t, withPlugin(path, "x")+"log: {level: warn}"), first)
	if pidOf(same) != pid || !same.same(first) {
		t.Error("a plugin that is the same was started again")
	}
	otherEnv := made(t, parsed(t, withPlugin(path, "y")), same)
	if pidOf(otherEnv) == pid || otherEnv.same(same) {
		t.Error("another environment did not start the plugin again")
	}
	writeProgram(t, path, "another version")
	otherFile := made(t, parsed(t, withPlugin(path, "x")), same)
	if pidOf(otherFile) == pid || otherFile.same(same) {
		t.Error("another file did not start the plugin again")
	}
	if pidOf(same) != pid {
		t.Error("the plugin before does not run any more")
	}
	same.closeBut(t.Context(), otherFile)
	if pidOf(otherFile) == pid {
		t.Error("the closed plugin still answers")
	}
	wants(t, apply(t, same, "a.b", `1`).Err, "transforms[0] (plugin p): ")
}

func TestAllPluginsThatCannotStartAreNamed(t *testing.T) {
	folder := t.TempDir()
	broken := filepath.Join(folder, "no-plugin")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\nexit 7\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := parsed(t, fmt.Sprintf(`
plugins: {good: {path: '%s', start_timeout: 30s}, one: {path: '%s'}, two: {path: '%s'}}
transforms: [{match: ["*"], plugin: two}, {match: ["*"], plugin: good}, {match: ["*"], plugin: one}]`, program(t, ""), broken, broken))
	err := CheckPlugins(t.Context(), cfg, silent())
	var failed *PluginsError
	if !errors.As(err, &failed) || len(failed.Plugins) != 2 || failed.Plugins[0].Name != "one" || failed.Plugins[1].Name != "two" {
		t.Fatalf("error %v", err)
	}
	wants(t, failed.Plugins[0].Err, "plugin one: ")
	wants(t, err, "plugin one: ", "\nplugin two: ")
	if err := CheckPlugins(t.Context(), parsed(t, withPlugin(program(t, ""), "x")), silent()); err != nil {
		t.Error(err)
	}
}

func TestSchemaThatWarnsNamesEventAndRule(t *testing.T) {
	log := make(logLines, 100)
	cfg := parsed(t, `
events: [{type: a.b, schema: {type: object, required: [n]}}]
transforms: [{match: ["*"], type: 'v2.{{ .Event.Type }}'}, {match: ["*"], schema: warn}]`)
	c, err := newChains(t.Context(), cfg, slog.New(slog.NewTextHandler(log, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if m := apply(t, c, "a.b", `{"m":"hidden"}`); m.Err != nil || m.Event.Type != "v2.a.b" {
		t.Errorf("message: %+v", m)
	}
	line := log.waitFor(t, "level=WARN", "payload does not fit its schema", "event=01890a5d-ac96-774b-bcce-b302099a8057", "type=a.b", `rule="transforms[1] (schema)"`)
	if strings.Contains(line, "hidden") {
		t.Errorf("the payload is logged: %s", line)
	}
}

func TestPluginsFileIsSwappedWhileEventsFlow(t *testing.T) {
	db, recv := newDatabase(t), newReceiver(t)
	path := program(t, "")
	cfg := recv.config(t, db, withPlugin(path, "x"), "a")
	if err := Init(t.Context(), cfg, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	r.log.waitFor(t, "slot acquired, delivering")
	stop := db.publishAlways(t)
	before := shownBy(t, []byte(recv.await(t, db.publish(t, "a.b", `1`)).body))

	writeProgram(t, path, "another version")
	r.Reload(cfg)
	r.log.waitFor(t, "configuration reloaded", "plugins_started=[p]")
	after := shownBy(t, []byte(recv.await(t, db.publish(t, "a.b", `1`)).body))
	if after.Size != before.Size+int64(len("another version")) || after.PID == before.PID {
		t.Errorf("after the reload %+v transforms, before %+v", after, before)
	}
	r.Reload(cfg)
	r.log.waitFor(t, "configuration is unchanged")
	again := shownBy(t, []byte(recv.await(t, db.publish(t, "a.b", `1`)).body))
	if again.PID != after.PID {
		t.Error("a plugin that is the same was started again")
	}
	if text := r.scrape(t); !strings.Contains(text, `posthorn_plugin_up{plugin="p"} 1`) || !strings.Contains(text, "posthorn_config_last_reload_success 1") {
		t.Error("the metrics do not show the plugin and the reload")
	}
	ids := stop()
	recv.wantOnce(t, r, "a", ids)
	if n := db.text(t, `SELECT count(*)::text FROM posthorn.attempts`); n != "0" {
		t.Errorf("%s attempts failed", n)
	}
}

func TestRunEndsWhereAPluginCannotStart(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "no-plugin")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\nexit 7\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := runToEnd(t, newDatabase(t).config(t, anyPort+withPlugin(broken, "x")), true)
	var failed *PluginsError
	if !errors.As(err, &failed) {
		t.Errorf("Run returns %v", err)
	}
	wants(t, err, "plugin p: ")
}

func TestStopWhilePluginsStartIsGraceful(t *testing.T) {
	slow := filepath.Join(t.TempDir(), "slow")
	if err := os.WriteFile(slow, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	start(t, newDatabase(t).config(t, anyPort+strings.Replace(withPlugin(slow, "x"), "30s", "5m", 1))).stop() // it wants no error
}

func TestSendTestGoesThroughTheTransforms(t *testing.T) {
	var got []byte
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { got, _ = io.ReadAll(q.Body) }))
	defer s.Close()
	cfg := parsed(t, fmt.Sprintf(`
egress: {allow: [127.0.0.0/8]}
plugins: {p: {path: '%s', env: {LABEL: x}, timeout: 10s, start_timeout: 30s}, never: {path: /bin/false}}
transforms:
  - {match: ["other.*"], plugin: never}
  - {match: ["*"], plugin: p}
  - {match: ["*"], remove: [pid, size]}
endpoints: [{name: a, url: '%s', events: ["*"]}]`, program(t, ""), s.URL))
	send := func(eventType string) (*TestResult, error) {
		return SendTest(t.Context(), cfg, "test", Sample{Endpoint: "a", Type: eventType, Payload: []byte(`{"n":1}`)})
	}
	if res, err := send("a.b"); err != nil || res.Status != 200 || string(got) != `{"label":"x","was":{"n":1}}` {
		t.Errorf("sent %s, %+v, %v", got, res, err)
	}
	_, err := send("skip.why")
	wants(t, err, "transforms[1] (plugin p)", "not wanted")
	_, err = send("fail.once")
	wants(t, err, "transforms[1] (plugin p)", "no luck")
	_, err = send("other.type")
	wants(t, err, "plugin never: ")
}
