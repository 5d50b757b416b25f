package host

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/posthorn/posthorn/plugins"
)

// What one event does to its plugin must not be another event's misfortune, and
// the plugin must run again.
func TestOneEventsMisdeedIsItsOwn(t *testing.T) {
	tests := []struct {
		name    string
		kind    string
		do      order
		timeout time.Duration
		want    []string // in the error of the culprit
		final   bool
		stays   bool // the process is not replaced
	}{
		{name: "panic", do: order{Do: "panic"}, want: []string{"its process ended with exit status 2"}},
		{name: "exit", do: order{Do: "exit"}, want: []string{"its process ended with exit status 3"}},
		{name: "hang", do: order{Do: "hang"}, timeout: 2 * time.Second, want: []string{"did not answer within 2s"}},
		{name: "leak", do: order{Do: "leak"}, want: []string{"its process ended with exit status "}},
		{name: "close sockets", do: order{Do: "close"}, want: []string{"its process could no longer be reached and was killed"}},
		{name: "hang up", do: order{Do: "hang up"}, want: []string{"its process could no longer be reached and was killed"}},
		{name: "heed the deadline", do: order{Do: "wait"}, timeout: 2 * time.Second, want: []string{"context deadline exceeded"}, stays: true},
		{name: "payload that is not JSON", do: order{Do: "payload", Text: "{"}, want: []string{"not JSON"}, stays: true},
		{name: "results for half of the events", kind: "raw", do: order{Do: "half"}, want: []string{"answered with 0 results for 1 events"}},
		{name: "too many results", kind: "raw", do: order{Do: "twice"}, want: []string{"answered with 2 results for 1 events"}},
		{name: "garbage", kind: "raw", do: order{Do: "garbage"}, want: []string{"no message of the protocol"}},
		{name: "an error of the call", kind: "raw", do: order{Do: "status"}, want: []string{"answered with an error: no tenant for event 0"}, stays: true},
		{name: "answer above the limit", kind: "raw", do: order{Do: "huge"}, want: []string{"answered with an error", "larger than max"}, stays: true},
		{name: "neither change nor skip nor failure", kind: "raw", do: order{Do: "nothing"}, want: []string{"neither change nor skip nor failure"}, stays: true},
		{name: "payload not UTF-8", kind: "raw", do: order{Do: "payload not UTF-8"}, want: []string{"payload that is not UTF-8"}, stays: true},
		{name: "type not UTF-8", kind: "raw", do: order{Do: "type not UTF-8"}, want: []string{"texts are not UTF-8"}, stays: true},
		{name: "type not printable", kind: "raw", do: order{Do: "type", Text: "a\x1b[2J"}, want: []string{"type that is not printable"}, stays: true},
		{name: "not JSON, raw", kind: "raw", do: order{Do: "payload", Text: "{"}, want: []string{"payload that is not JSON"}, stays: true},
		{name: "empty payload", kind: "raw", do: order{Do: "payload"}, want: []string{"payload that is not JSON"}, stays: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t, tt.kind)
			if tt.timeout != 0 {
				o.Timeout = tt.timeout
			}
			p := start(t, o)
			before := p.pids()[0]
			events := orders(order{Do: "pid"}, order{Do: "pid"}, tt.do, order{Do: "pid"}, order{Do: "pid"})
			errs := p.Transform(t.Context(), events)
			for i, e := range events {
				if i == 2 {
					if !isAbout(errs[i], tt.want...) || plugins.IsRejected(errs[i]) != tt.final {
						t.Errorf("the culprit's error: %v", errs[i])
					}
					if e.Type != "test.made" || answered(t, e) != tt.do {
						t.Errorf("the culprit was changed: %s %s", e.Type, e.Payload)
					}
				} else if errs[i] != nil || answered(t, e).Pid == 0 {
					t.Errorf("event %d: %v %s", i, errs[i], e.Payload)
				}
			}
			eventually(t, "the plugin runs", func() bool { return p.Status().Running == 1 })
			if after := mustDo(t, p, "pid").Pid; (after == before) != tt.stays {
				t.Errorf("process %d is now %d", before, after)
			}
			if !tt.stays && !gone(before) {
				t.Errorf("process %d is left", before)
			}
		})
	}
}

// As when the system is out of memory.
func TestAKilledProcessIsReplaced(t *testing.T) {
	o := options(t, "")
	o.Instances = 2
	p := start(t, o)
	for range 3 {
		pids := p.pids()
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		for _, pid := range pids {
			eventually(t, "it is gone", func() bool { return gone(pid) })
		}
		mustDo(t, p, "pid") // waits for a process
		eventually(t, "both run", func() bool { return p.Status().Running == 2 })
	}
	if got := p.Status().Restarts; got != 6 {
		t.Errorf("restarts: %d", got)
	}
}

func TestAStoppedProcessFailsItsHealthCheck(t *testing.T) {
	p := start(t, options(t, ""))
	pid := p.pids()[0]
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it was killed", func() bool { return gone(pid) })
	if after := mustDo(t, p, "pid").Pid; after == pid {
		t.Errorf("process is still %d", pid)
	}
}

func TestAFloodOfOutputHurtsNobody(t *testing.T) {
	for _, where := range []string{"stderr", "fd 2"} {
		t.Run(where, func(t *testing.T) {
			log := &records{}
			o := options(t, "")
			o.Logger = log.logger()
			o.Timeout = time.Minute
			p := start(t, o)
			events := orders(order{Do: "pid"}, order{Do: where}, order{Do: "pid"})
			begun := time.Now()
			for i, err := range p.Transform(t.Context(), events) {
				if err != nil {
					t.Errorf("event %d: %v", i, err)
				}
			}
			seconds := int(time.Since(begun)/time.Second) + 2
			eventually(t, "what was dropped is told", func() bool { return log.dropped() > 1e6 })
			if got := log.count("INFO plugin output plugin=tester line="); got == 0 || got > seconds*linesASecond {
				t.Errorf("%d lines in %d s", got, seconds)
			}
		})
	}
}

func TestNothingIsLeftOfAProcesssGroup(t *testing.T) {
	p := start(t, options(t, ""))
	for _, end := range []string{"exit", ""} {
		grandchild, err := strconv.Atoi(mustDo(t, p, "grandchild").Text)
		if err != nil {
			t.Fatal(err)
		}
		if end == "" {
			p.Close(t.Context())
		} else {
			do(t, p, order{Do: end})
		}
		eventually(t, "the grandchild has ended", func() bool { return ended(grandchild) })
	}
}

// Several calls share a process: none but the culprit's event may fail for good,
// and most of the others do not fail at all.
func TestCallsBesideAMisdeedSucceed(t *testing.T) {
	o := options(t, "")
	p := start(t, o)
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := 0
	for i := range 4 {
		wg.Go(func() {
			for j := range 20 {
				what := order{Do: "pid"}
				if i == 0 && j%5 == 2 {
					what.Do = "exit"
				}
				errs := p.Transform(t.Context(), orders(order{Do: "pid"}, what, order{Do: "pid"}))
				for k, err := range errs {
					switch {
					case err == nil:
					case k == 1 && what.Do == "exit" && isAbout(err, "exit status 3"):
					default:
						mu.Lock()
						failed++
						mu.Unlock()
						t.Logf("event %d of call %d/%d: %v", k, i, j, err)
					}
				}
			}
		})
	}
	wg.Wait()
	if failed > 0 {
		t.Errorf("%d innocent events failed", failed)
	}
	eventually(t, "the plugin runs", func() bool { return p.Status().Running == 1 })
}

// Where every event fails and takes long, one speaks for its batch.
func TestAPluginThatAlwaysHangsIsNotAskedForEachEvent(t *testing.T) {
	o := options(t, "")
	o.Timeout = 300 * time.Millisecond
	p := start(t, o)
	var all []order
	for range 100 {
		all = append(all, order{Do: "hang"})
	}
	calls := func() uint64 {
		before := p.Status().Calls
		for i, err := range p.Transform(t.Context(), orders(all...)) {
			if !isAbout(err, "did not answer within") && !isAbout(err, "no process is running") {
				t.Fatalf("event %d: %v", i, err)
			}
		}
		return p.Status().Calls - before
	}
	if first := calls(); first > 1+11 {
		t.Errorf("the first batch took %d calls", first)
	}
	if later := calls(); later > 1 {
		t.Errorf("a later batch took %d calls", later)
	}
	eventually(t, "the plugin runs", func() bool { return p.Status().Running == 1 })
	mustDo(t, p, "pid")
	if errs := p.Transform(t.Context(), orders(order{Do: "pid"}, order{Do: "pid"})); errs[0] != nil || errs[1] != nil {
		t.Errorf("when it is well again: %v", errs)
	}
}

// Events that end the process now and then are the only ones that fail, however
// many stand in a row.
func TestPoisonousEventsFailAlone(t *testing.T) {
	o := options(t, "")
	o.Timeout = time.Second
	p := start(t, o)
	const n = 1000
	poisonous := func(i int) bool { return i%250 == 37 || i >= 500 && i < 503 }
	var wg sync.WaitGroup
	for half := range 2 {
		wg.Go(func() {
			var all []order
			for i := half * n / 2; i < (half+1)*n/2; i++ {
				what := order{Do: "pid"}
				if poisonous(i) {
					what.Do = "exit"
				}
				all = append(all, what)
			}
			for i, err := range p.Transform(t.Context(), orders(all...)) {
				if i += half * n / 2; (err != nil) != poisonous(i) {
					t.Errorf("event %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestTheLogHasWhatThePluginWrites(t *testing.T) {
	log := &records{}
	o := options(t, "")
	o.Logger = log.logger()
	p := start(t, o)
	mustDo(t, p, "log")
	for _, want := range []string{
		"WARN plugin output plugin=tester line=hello fields.n=3 fields.secret=false",
		"INFO plugin output plugin=tester line=printed",
		"INFO plugin output plugin=tester line=complained",
		"INFO plugin process started plugin=tester sha256=" + p.Sum(),
	} {
		eventually(t, want, func() bool { return log.has(want) })
	}
	do(t, p, order{Do: "panic"})
	eventually(t, "the end with its reason", func() bool {
		return log.has("WARN plugin process ended plugin=tester reason=ended with exit status 2 stderr=") && log.has("ERROR plugin output plugin=tester line=panic: boom")
	})
}

func TestErrorsForTheLedgerDoNotQuoteStderr(t *testing.T) {
	dir := t.TempDir()
	o := options(t, "")
	o.Path = dir + "/plugin"
	o.Timeout = 100 * time.Millisecond
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Runs until there is a file, and then says a secret.
	script := fmt.Sprintf("#!/bin/sh\n[ -e %s/broken ] && { echo s3cret; echo s3cret >&2; exit 4; }\nexec %s\n", dir, self)
	if err := os.WriteFile(o.Path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	p := start(t, o)
	if err := os.WriteFile(dir+"/broken", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(p.pids()[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a second start", func() bool { return p.Status().Restarts >= 2 })
	_, err = do(t, p, order{Do: "pid"})
	if !isAbout(err, "no process is running") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("error: %v", err)
	}
}
