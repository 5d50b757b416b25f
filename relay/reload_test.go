package relay

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/admin"
)

// running is a relay that runs until the test ends, or stop.
type running struct {
	*Relay
	log     logLines
	address string // of health and metrics
	stop    func()
}

func start(t *testing.T, cfg *config.Config) *running {
	t.Helper()
	log := make(logLines, 10_000)
	r, err := New(cfg, "test", slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	address := regexp.MustCompile(`listen=(\S+)`).FindStringSubmatch(log.waitFor(t, "posthorn starts"))[1]
	return &running{Relay: r, log: log, address: address, stop: stop}
}

// arrival is a request that a receiver got.
type arrival struct{ path, event, body string }

// receiver is an endpoint's server.
type receiver struct {
	url      string
	arrivals chan arrival
	seen     []arrival // what next returned
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{arrivals: make(chan arrival, 100_000)}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		r.arrivals <- arrival{q.URL.Path, q.Header.Get("X-Event"), string(body)}
	}))
	t.Cleanup(s.Close)
	r.url = s.URL
	return r
}

// next returns the next arrival.
func (r *receiver) next(t *testing.T) arrival {
	t.Helper()
	select {
	case a := <-r.arrivals:
		r.seen = append(r.seen, a)
		return a
	case <-time.After(30 * time.Second):
		t.Fatal("nothing arrives")
		return arrival{}
	}
}

// await returns the next arrival of an event.
func (r *receiver) await(t *testing.T, event string) arrival {
	t.Helper()
	for {
		if a := r.next(t); a.event == event {
			return a
		}
	}
}

// config returns the configuration of an endpoint for each path of the
// receiver, with what extra adds.
func (r *receiver) config(t *testing.T, db *database, extra string, paths ...string) *config.Config {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%segress: {allow: [127.0.0.0/8]}\nprofiles:\n  p: {headers: {X-Event: '{{ .Event.ID }}'}}\n%s\nendpoints:\n", anyPort, extra)
	for _, path := range paths {
		fmt.Fprintf(&b, "  - {name: %s, url: '%s/%s', events: ['*'], profile: p}\n", path, r.url, path)
	}
	return db.config(t, b.String())
}

// publish commits an event and returns its id.
func (db *database) publish(t *testing.T, eventType, payload string) string {
	t.Helper()
	id := uuid.NewString()
	if _, err := db.pool.Exec(context.Background(), `INSERT INTO posthorn.outbox (id, type, payload) VALUES ($1, $2, $3)`, id, eventType, payload); err != nil {
		t.Error(err)
	}
	return id
}

// publishAlways commits an event each 5 ms, which any relay keeps up with, until
// stop is called, which returns their ids.
func (db *database) publishAlways(t *testing.T) (stop func() []string) {
	quit, done := make(chan struct{}), make(chan struct{})
	var ids []string
	go func() {
		defer close(done)
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				return
			case <-ticker.C:
				ids = append(ids, db.publish(t, "load.event", `{"n":1}`))
			}
		}
	}()
	return func() []string {
		close(quit)
		<-done
		return ids
	}
}

// wantOnce waits until all events arrived at path, stops the relay, and fails
// the test where one arrived twice.
func (r *receiver) wantOnce(t *testing.T, relay *running, path string, ids []string) {
	t.Helper()
	times := make(map[string]int, len(ids))
	for _, id := range ids {
		times[id] = 0
	}
	left := len(ids)
	count := func(a arrival) {
		if n, ok := times[a.event]; ok && a.path == "/"+path {
			if n == 0 {
				left--
			}
			times[a.event]++
		}
	}
	for _, a := range r.seen {
		count(a)
	}
	for left > 0 {
		count(r.next(t))
	}
	relay.stop()
	for len(r.arrivals) > 0 {
		count(<-r.arrivals)
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("event %s arrived %d times", id, n)
		}
	}
}

func TestTransformsChangeWhileEventsFlow(t *testing.T) {
	db, recv := newDatabase(t), newReceiver(t)
	with := func(v int) *config.Config {
		return recv.config(t, db, fmt.Sprintf("transforms: [{match: ['*'], set: {v: %d}}]", v), "a")
	}
	first := with(0)
	if err := Init(t.Context(), first, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r := start(t, first)
	recv.await(t, db.publish(t, "a.b", `{}`))
	session := r.running.Load()
	stop := db.publishAlways(t)
	for v := 1; v <= 10; v++ {
		r.Reload(with(v))
		r.log.waitFor(t, "configuration reloaded", "changed=[transforms]")
		id := db.publish(t, "after.reload", `{"n":2}`)
		if a, want := recv.await(t, id), fmt.Sprintf(`{"n":2,"v":%d}`, v); a.body != want {
			t.Errorf("after reload %d the body is %s, want %s", v, a.body, want)
		}
	}
	if r.running.Load() != session {
		t.Error("the session began anew for a change of transforms")
	}
	recv.wantOnce(t, r, "a", stop())
}

func TestEndpointsChangeWithoutLossUnderLoad(t *testing.T) {
	db, recv := newDatabase(t), newReceiver(t)
	first := recv.config(t, db, "", "a")
	if err := Init(t.Context(), first, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r := start(t, first)
	r.log.waitFor(t, "slot acquired, delivering")
	stop := db.publishAlways(t)
	for n := range 4 {
		paths := []string{"a", "b"}[:2-n%2]
		r.Reload(recv.config(t, db, "", paths...))
		r.log.waitFor(t, "configuration reloaded", "changed=[endpoints]")
		r.log.waitFor(t, "slot acquired, delivering")
	}
	r.Reload(recv.config(t, db, "stop_timeout: 9s", "a", "b"))
	r.log.waitFor(t, "configuration reloaded", `changed="[stop_timeout endpoints]"`)
	r.log.waitFor(t, "slot acquired, delivering")
	ids := stop()
	id := db.publish(t, "after.reload", `{}`)
	at := []string{recv.await(t, id).path, recv.await(t, id).path}
	slices.Sort(at)
	if diff := cmp.Diff([]string{"/a", "/b"}, at); diff != "" {
		t.Errorf("an event after the last reload arrived at (-want +got):\n%s", diff)
	}
	recv.wantOnce(t, r, "a", ids)
	if n := db.text(t, `SELECT count(*)::text FROM posthorn.attempts`); n != "0" {
		t.Errorf("%s attempts failed", n)
	}
}

func TestWhatCannotBeUsedChangesNothing(t *testing.T) {
	db, recv := newDatabase(t), newReceiver(t)
	program := filepath.Join(t.TempDir(), "no-plugin")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit 0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	first := recv.config(t, db, "transforms: [{match: ['*'], set: {v: 1}}]", "a")
	if err := Init(t.Context(), first, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r := start(t, first)
	r.log.waitFor(t, "slot acquired, delivering")
	wantV1 := func() {
		t.Helper()
		db.publish(t, "a.b", `{}`)
		if a := recv.next(t); a.body != `{"v":1}` || a.path != "/a" {
			t.Errorf("arrived: %+v", a)
		}
	}

	r.RefuseReload(t.Context(), &config.Error{Problems: []config.Problem{{File: "f.yaml", Line: 3, Key: "log", Message: "one"}, {File: "f.yaml", Line: 4, Key: "http", Message: "two"}}})
	r.log.waitFor(t, "level=ERROR", "the new configuration is invalid, the running one stays", "file=f.yaml", "line=3", "key=log", "problem=one")
	r.log.waitFor(t, "level=ERROR", "problem=two")
	r.RefuseReload(t.Context(), errors.New("no such file"))
	r.log.waitFor(t, "level=ERROR", "no such file")

	broken := fmt.Sprintf("plugins: {p: {path: '%s'}}\ntransforms: [{match: ['*'], plugin: p}, {match: ['*'], set: {v: 2}}]", program)
	r.Reload(recv.config(t, db, broken, "a", "b"))
	r.log.waitFor(t, "level=ERROR", "the new configuration cannot be used, the running one stays", "plugin p: ")
	wantV1()

	r.Reload(recv.config(t, db, "transforms: [{match: ['*'], set: {v: 1}}]\nlog: {level: debug}\nsource: {publication: other}\ntraces: {url: 'http://127.0.0.1:4318'}", "a"))
	r.log.waitFor(t, "level=WARN", "takes effect after a restart", `changed="[source.publication log traces]"`)
	r.log.waitFor(t, "level=INFO", "configuration is unchanged")
	wantV1()

	r.Reload(first)
	r.log.waitFor(t, "configuration is unchanged")
	if got, want := r.reloadsCounted(t), map[string]float64{"refused": 3, "unchanged": 2}; !reflect.DeepEqual(got, want) {
		t.Errorf("reloads counted: %v, want %v", got, want)
	}
}

// reloadsCounted returns posthorn_config_reloads_total by outcome.
func (r *running) reloadsCounted(t *testing.T) map[string]float64 {
	t.Helper()
	counted := make(map[string]float64)
	for _, line := range strings.Split(r.scrape(t), "\n") {
		rest, ok := strings.CutPrefix(line, `posthorn_config_reloads_total{outcome="`)
		if !ok {
			continue
		}
		outcome, number, _ := strings.Cut(rest, `"} `)
		var n float64
		if err := json.Unmarshal([]byte(number), &n); err != nil {
			t.Fatal(err)
		}
		counted[outcome] = n
	}
	return counted
}

// scrape returns the relay's metrics.
func (r *running) scrape(t *testing.T) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + r.address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAnotherCAFileBeginsTheSessionAnew(t *testing.T) {
	db, recv := newDatabase(t), newReceiver(t)
	tls := httptest.NewUnstartedServer(nil)
	tls.StartTLS()
	defer tls.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw})
	path := filepath.Join(t.TempDir(), "ca.pem")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(string(ca))
	cfg := recv.config(t, db, "", "a")
	cfg.Endpoints[0].TLS.CAFile = path
	if err := Init(t.Context(), cfg, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	r.log.waitFor(t, "slot acquired, delivering")
	r.Reload(cfg)
	r.log.waitFor(t, "configuration is unchanged")
	write("another line\n" + string(ca))
	r.Reload(cfg)
	r.log.waitFor(t, "configuration reloaded", "changed=[tls.ca_file]")
	r.log.waitFor(t, "slot acquired, delivering")
}

func TestStandbyTakesTheNewestConfigurationOver(t *testing.T) {
	db, recv := newDatabase(t), newReceiver(t)
	first := recv.config(t, db, "", "a")
	if err := Init(t.Context(), first, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	active := start(t, first)
	active.log.waitFor(t, "slot acquired, delivering")
	standby := start(t, first)
	standby.log.waitFor(t, "waiting to take over")
	standby.Reload(recv.config(t, db, "transforms: [{match: ['*'], set: {v: 1}}]", "b"))
	standby.log.waitFor(t, "configuration reloaded", `changed="[endpoints transforms]"`)
	standby.log.waitFor(t, "waiting to take over")
	if role := standby.snapshot().Role; role != admin.RoleStandby {
		t.Errorf("role %s", role)
	}
	active.stop()
	standby.log.waitFor(t, "slot acquired, delivering")
	db.publish(t, "a.b", `{}`)
	if a := recv.next(t); a.path != "/b" || a.body != `{"v":1}` {
		t.Errorf("arrived: %+v", a)
	}
}

// TestEveryKeyIsInOneList keeps a key of the configuration from being forgotten
// by a reload.
func TestEveryKeyIsInOneList(t *testing.T) {
	silent := []string{"profiles", "tenants"} // endpoints have what they say
	var listed []string
	for _, parts := range [][]part{restartParts, sessionParts, chainParts} {
		for _, p := range parts {
			listed = append(listed, p.key)
		}
	}
	if len(slices.Compact(slices.Sorted(slices.Values(listed)))) != len(listed) {
		t.Errorf("a key is listed twice: %v", listed)
	}
	all := slices.Concat(restartParts, sessionParts, chainParts)
	check := func(key string, field func(c *config.Config) reflect.Value) {
		if slices.Contains(silent, key) {
			return
		}
		var a, b config.Config
		fill(t, field(&b))
		if keys := differing(all, &a, &b); len(keys) != 1 || keys[0] != key && !strings.HasPrefix(key, keys[0]+".") {
			t.Errorf("a change of %s is one of %v", key, keys)
		}
		if mixed := withParts(all, &a, &b); len(differing(all, mixed, &b)) != 0 {
			t.Errorf("%s is not taken over", key)
		}
	}
	top := reflect.TypeFor[config.Config]()
	for i := range top.NumField() {
		f := top.Field(i)
		key := f.Tag.Get("koanf")
		if key == "" {
			continue
		}
		if f.Type.Kind() != reflect.Struct {
			check(key, func(c *config.Config) reflect.Value { return reflect.ValueOf(c).Elem().Field(i) })
			continue
		}
		for j := range f.Type.NumField() {
			check(key+"."+f.Type.Field(j).Tag.Get("koanf"), func(c *config.Config) reflect.Value { return reflect.ValueOf(c).Elem().Field(i).Field(j) })
		}
	}
}

// fill gives v, and all that is in it, a value that is not zero.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Interface().(type) {
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix("10.0.0.0/8")))
		return
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(1, 0)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.Map:
		value := reflect.New(v.Type().Elem()).Elem()
		fill(t, value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("k"), value)
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Float64:
		v.SetFloat(1)
	default:
		t.Fatalf("no value of type %s", v.Type())
	}
}

// TestConfigurationsThatSayTheSameDoNotDiffer: each is parsed anew.
func TestConfigurationsThatSayTheSameDoNotDiffer(t *testing.T) {
	const text = `
egress: {allow: [10.0.0.0/8, "fd00::/8"], proxy: "http://user:hidden@proxy.internal:3128"}
profiles: {p: {headers: {A: b, C: d}, retry: {schedule: [1s, 2s], stop_on: [404, 3xx]}, auth: {bearer: {token: t}}}}
tenants: {acme: {secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}}
transforms: [{match: ["*"], set: {b: 1, a: {c: [1]}}}, {match: ["*"], redact: {paths: [x], mode: hash, secret: 0123456789abcdef}}]
events: [{type: a.b, example: {z: 1, a: 2}, schema: {type: object}}]
endpoints:
  - name: a
    tenant: acme
    url: https://a.example/
    events: ["*"]
    profile: p
    secret: %s
    previous_secrets: [{secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, expires: 2027-01-31T01:00:00+01:00}]
`
	db := &database{url: "postgres://h/d", slot: "s"}
	all := slices.Concat(restartParts, sessionParts, chainParts)
	a := db.config(t, fmt.Sprintf(text, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"))
	b := db.config(t, "# something else\n"+fmt.Sprintf(text, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"))
	if keys := differing(all, a, b); len(keys) != 0 {
		t.Errorf("%v differ", keys)
	}
	c := db.config(t, fmt.Sprintf(text, "whsec_AAFVsBQIhrscChlQIMV+b5sSYspob7oD"))
	if keys := differing(all, a, c); len(keys) != 1 || keys[0] != "endpoints" {
		t.Errorf("with another secret %v differ", keys)
	}
	d := db.config(t, strings.Replace(fmt.Sprintf(text, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"), "token: t", "token: u", 1))
	if keys := differing(all, a, d); !slices.Equal(keys, []string{"endpoints", "profiles"}) {
		t.Errorf("with another token in the profile %v differ", keys)
	}
}
