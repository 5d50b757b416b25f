package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The types of event of a chaos test, less ".made". Event n is of kind
// n%len(kinds); the first has no plugin, the others one of their name.
var kinds = []string{"plain", "marker", "loud", "raw"}

const chaosConfig = `
plugins:
  marker: %s
  loud: %s
  raw: %s
transforms:
  - {match: ["marker.*"], plugin: marker}
  - {match: ["loud.*"], plugin: loud}
  - {match: ["raw.*"], plugin: raw}
profiles:
  eager: {retry: {schedule: [100ms, 500ms], jitter: 0}}
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"], secret: "${SECRET}", profile: eager}
  - {name: b, url: "${RECEIVER}/b", events: ["*"], secret: "${SECRET}", profile: eager}
`

// steady is a load of one event of each kind in a transaction, again and again.
type steady struct {
	db *database

	mu     sync.Mutex
	last   int // number that was taken
	plain  []int
	began  map[int]time.Time        // before a plain event's insert
	delays map[bool][]time.Duration // of plain events until they arrived; by calm
	calm   bool
}

// take returns the first of n numbers, which is of the first kind.
func (s *steady) take(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.last + len(kinds) - s.last%len(kinds)
	s.last = first + n - 1
	return first
}

func (s *steady) insert(ctx context.Context) error {
	first := s.take(len(kinds))
	s.mu.Lock()
	s.began[first] = time.Now()
	s.mu.Unlock()
	_, err := s.db.pool.Exec(ctx, `INSERT INTO posthorn.outbox (type, payload)
SELECT ($1::text[])[1 + n % cardinality($1::text[])] || '.made', json_build_object('n', n) FROM generate_series($2::int, $2 + cardinality($1::text[]) - 1) AS n`, kinds, first)
	if err == nil {
		s.mu.Lock()
		s.plain = append(s.plain, first)
		s.mu.Unlock()
	}
	return err
}

// start writes a transaction each 10 ms until stop.
func (s *steady) start(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := s.insert(context.WithoutCancel(ctx)); err != nil {
				t.Errorf("write events: %v", err)
				return
			}
		}
	}()
	return sync.OnceFunc(func() { cancel(); <-done })
}

// commit writes ten events of a kind in one transaction, the fifth of which has
// its plugin do something, and returns their numbers.
func (s *steady) commit(t *testing.T, kind, do string) (numbers []int) {
	t.Helper()
	const size = 10
	first := s.take(size*len(kinds)) + slices.Index(kinds, kind)
	for i := range size {
		numbers = append(numbers, first+i*len(kinds))
	}
	s.db.exec(t, `INSERT INTO posthorn.outbox (type, payload)
SELECT $1, json_build_object('n', n, 'do', CASE WHEN n = $3 THEN $4::text ELSE '' END) FROM unnest($2::int[]) AS n`,
		kind+".made", numbers, numbers[4], do)
	return numbers
}

// arrived takes note of a request.
func (s *steady) arrived(q *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.began[q.Event.N]; ok && q.Try == 1 {
		s.delays[s.calm] = append(s.delays[s.calm], time.Since(at))
	}
}

func (s *steady) setCalm(calm bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calm = calm
}

// written returns the plain events so far.
func (s *steady) written() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clip(s.plain)
}

// missing returns which of the events were not answered with success.
func (e *endpoint) missing(numbers []int) (missing []int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range numbers {
		if n >= len(e.events) || !e.events[n].delivered {
			missing = append(missing, n)
		}
	}
	return missing
}

// chaos is a relay under a steady load.
type chaos struct {
	*steady
	r           *relay
	rcv         *receiver
	gate, speak string // files that hold plugins' starts, and raise their version
}

// gateOf returns the file that keeps the plugin of a kind from starting.
func (c *chaos) gateOf(kind string) string { return c.gate + "." + kind }

// flows returns once 30 plain events that are yet to be written arrived at both
// endpoints.
func (c *chaos) flows(t *testing.T) {
	t.Helper()
	begin := len(c.written())
	eventually(t, time.Minute, func() error {
		plain := c.written()[begin:]
		if err := atLeast(len(plain), 30); err != nil {
			return err
		}
		for path, e := range c.rcv.endpoints {
			if missing := e.missing(plain[:30]); len(missing) > 0 {
				return fmt.Errorf("%s lacks %s", path, list(missing))
			}
		}
		return nil
	})
}

// works returns once the plugin of a kind has transformed an event that is yet
// to be written.
func (c *chaos) works(t *testing.T, kind string) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		numbers := c.commit(t, kind, "")
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		missing := numbers
		for tries := 0; tries < 300 && len(missing) > 0; tries++ {
			<-ticker.C
			missing = c.rcv.endpoints["/a"].missing(numbers)
		}
		if len(missing) > 0 {
			return fmt.Errorf("plugin %s has not transformed %s", kind, list(missing))
		}
		return nil
	})
}

// fates returns the states and errors of an event's deliveries once all are
// final.
func (c *chaos) fates(t *testing.T, n int) (states, errors []string) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		rows := `SELECT coalesce(array_agg(d.state), '{}'), coalesce(array_agg(coalesce(d.error, '')), '{}')
FROM posthorn.deliveries AS d JOIN posthorn.outbox AS o ON o.id = d.event_id WHERE (o.payload->>'n')::int = $1`
		if err := c.db.pool.QueryRow(t.Context(), rows, n).Scan(&states, &errors); err != nil {
			return err
		}
		if len(states) != len(c.rcv.endpoints) {
			return fmt.Errorf("%d deliveries of event %d are final", len(states), n)
		}
		return nil
	})
	return states, errors
}

// chaosCase is something that a plugin does wrong.
type chaosCase struct {
	name, kind, do string
	ends           bool // its process ends by it, and the next one is held
	before, during func(*testing.T, *chaos)
	state          string   // what the event ends as that had it done; "" for either
	wants          []string // what its error says
}

var chaosCases = []chaosCase{
	{name: "panics", kind: "marker", do: "panic", state: "failed", wants: []string{"panicked"}},
	{name: "panics in a goroutine", kind: "marker", do: "panic in goroutine", ends: true, state: "failed", wants: []string{"exit status 2"}},
	{name: "exits", kind: "marker", do: "exit", ends: true, state: "failed", wants: []string{"exit status 3"}},
	{name: "sleeps past its deadline", kind: "marker", do: "hang", ends: true, state: "failed", wants: []string{"did not answer within 1s"}},
	{name: "leaks memory until it is killed", kind: "loud", do: "leak", ends: true, during: killLeaking},
	{name: "writes 100 MB to stderr", kind: "loud", do: "stderr"},
	{name: "makes a payload that is not UTF-8", kind: "loud", do: "not UTF-8", state: "failed"},
	{name: "answers half a batch", kind: "raw", do: "half a batch", ends: true, state: "failed", wants: []string{"results for"}},
	{name: "answers garbage", kind: "raw", do: "garbage", ends: true, state: "failed", wants: []string{"no message of the protocol"}},
	{name: "answers what is not UTF-8", kind: "raw", do: "not UTF-8", state: "failed", wants: []string{"not UTF-8"}},
	{name: "answers what is not JSON", kind: "raw", do: "not JSON", state: "failed", wants: []string{"not JSON"}},
	{name: "fails the call", kind: "raw", do: "status", state: "failed", wants: []string{"no luck with all of them"}},
	{name: "speaks another version after a restart", kind: "raw", do: "exit", ends: true, before: speakVersion2, during: hearVersion2, state: "failed"},
}

// killLeaking kills the plugin that has grown large.
func killLeaking(t *testing.T, c *chaos) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		for _, p := range c.r.descendants() {
			if resident(p.pid) > leaked {
				return syscall.Kill(p.pid, syscall.SIGKILL)
			}
		}
		return fmt.Errorf("no plugin has more than %d MiB", leaked>>20)
	})
}

func touch(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func speakVersion2(t *testing.T, c *chaos) {
	t.Helper()
	touch(t, c.speak)
	remove(t, c.gateOf("raw"))
}

// hearVersion2 returns once the relay refused the plugin's new process.
func hearVersion2(t *testing.T, c *chaos) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		for _, line := range c.r.logged("") {
			if strings.Contains(line.Text, "speaks protocol version 2, this Posthorn speaks version 1") {
				return nil
			}
		}
		return fmt.Errorf("the relay says nothing of the versions")
	})
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// run has the plugin do it, and holds that the other events flow meanwhile.
func (cc *chaosCase) run(t *testing.T, c *chaos) {
	gate := c.gateOf(cc.kind)
	if cc.ends {
		touch(t, gate)
	}
	if cc.before != nil {
		cc.before(t, c)
	}
	guilty := c.commit(t, cc.kind, cc.do)[4]
	if cc.during != nil {
		cc.during(t, c)
	}
	if cc.ends {
		c.r.waitPluginUp(cc.kind, 0)
	}
	c.flows(t)
	if up := c.r.pluginUp(cc.kind); cc.ends && up != 0 {
		t.Errorf("plugin %s runs already: nobody knows whether the other events waited for it", cc.kind)
	}
	remove(t, gate)
	if cc.before != nil { // the file is that case's, and others run beside it
		remove(t, c.speak)
	}
	c.r.waitPluginUp(cc.kind, 1)

	states, errors := c.fates(t, guilty)
	for i, state := range states {
		if cc.state != "" && state != cc.state {
			t.Errorf("event %d, which had it done, is %s (%s), not %s", guilty, state, errors[i], cc.state)
		}
		if state == "delivered" {
			continue
		}
		for _, want := range append(cc.wants, "plugin "+cc.kind) {
			if !strings.Contains(errors[i], want) {
				t.Errorf("the error %q does not say %q", errors[i], want)
			}
		}
	}
	c.works(t, cc.kind)
}

func TestPluginThatFailsHurtsNoOtherEvents(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/a", "/b")
	dir := t.TempDir()
	c := &chaos{
		steady: &steady{db: db, began: map[int]time.Time{}, delays: map[bool][]time.Duration{}, calm: true},
		rcv:    rcv, gate: filepath.Join(dir, "gate"), speak: filepath.Join(dir, "speak"),
	}
	for _, e := range rcv.endpoints {
		e.answers(func(q *request) int {
			if by := marksOf(q.Body).By; q.Event.N > 0 && (by == "plugin") != (q.Event.N%len(kinds) != 0) {
				e.complain("event %d of type %s arrived as made by %q", q.Event.N, kinds[q.Event.N%len(kinds)], by)
			}
			c.arrived(q)
			return 200
		})
	}
	program := func(name, kind string) string {
		return pluginOf(name, variables{labelVariable: "plugin", gateVariable: c.gateOf(kind), speakVariable: c.speak}, "timeout: 1s, start_timeout: 60s")
	}
	c.r = startRelay(t, db, rcv, fmt.Sprintf(chaosConfig, program("marker", "marker"), program("marker", "loud"), program("raw", "raw")))
	c.r.waitReady()

	stop := c.start(t)
	defer stop()
	for range 3 {
		c.flows(t)
	}
	c.setCalm(false)
	began := time.Now()
	t.Run("plugin", func(t *testing.T) {
		for _, kind := range kinds[1:] {
			t.Run(kind, func(t *testing.T) { // each in its order, both at once
				t.Parallel()
				for _, cc := range chaosCases {
					if cc.kind == kind {
						t.Run(cc.name, func(t *testing.T) { cc.run(t, c) })
					}
				}
			})
		}
	})
	took := time.Since(began)
	stop()
	c.account(t, took)
	if lines := len(c.r.logged("plugin output")); lines > 100*int(took.Seconds()+5)*len(kinds[1:]) {
		t.Errorf("%d lines of plugins are in the log", lines)
	}
	c.r.waitNoZombies()
}

// account holds that each event arrived or stands as failed, and says how many
// did.
func (c *chaos) account(t *testing.T, took time.Duration) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		finals, events := c.db.count(t, `SELECT count(*) FROM posthorn.deliveries`), c.db.count(t, `SELECT count(*) FROM posthorn.outbox`)
		if finals != events*len(c.rcv.endpoints) {
			return fmt.Errorf("%d deliveries of %d events to %d endpoints are final; %s", finals, events, len(c.rcv.endpoints), c.db.pending(t))
		}
		return nil
	})
	for _, kind := range kinds {
		const of = `SELECT count(*) FROM posthorn.deliveries WHERE type = $1 `
		all := c.db.count(t, of, kind+".made")
		delivered := c.db.count(t, of+`AND state = 'delivered'`, kind+".made")
		named := c.db.count(t, of+`AND state = 'failed' AND error LIKE '%plugin ' || $2 || '%'`, kind+".made", kind)
		if delivered+named != all || kind == "plain" && delivered != all {
			t.Errorf("of %d deliveries of type %s %d were delivered, %d failed by the plugin", all, kind, delivered, named)
		}
		if kind == "plain" {
			t.Logf("FIGURE chaos of plugins, %.1fs: without plugin %d deliveries, all made", took.Seconds(), all)
			continue
		}
		metrics := c.r.metrics()
		t.Logf("FIGURE chaos of plugins: %s: %d deliveries made, %d failed with an error that names the plugin, 0 lost, %g restarts",
			kind, delivered, named, metrics[fmt.Sprintf("posthorn_plugin_restarts_total{plugin=%q}", kind)])
	}
	plain := c.written()
	for path, e := range c.rcv.endpoints {
		if d := e.counts().Duplicates; d > 0 {
			t.Errorf("%s got %d events again after it had accepted them", path, d)
		}
		if missing := e.missing(plain); len(missing) > 0 {
			t.Errorf("%s: %d events without plugin are missing: %s", path, len(missing), list(missing))
		}
	}
	for _, calm := range []bool{true, false} {
		d := c.delays[calm]
		t.Logf("FIGURE chaos of plugins: events without plugin took, calm %t: median %s, p99 %s, longest %s (%d)", calm,
			percentile(d, 50).Round(time.Millisecond), percentile(d, 99).Round(time.Millisecond), percentile(d, 100).Round(time.Millisecond), len(d))
	}
	t.Logf("FIGURE chaos of plugins: %d lines of plugins' output in the relay's log, its memory peaked at %d MiB",
		len(c.r.logged("plugin output")), c.r.peakRSS()>>20)
}
