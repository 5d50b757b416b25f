package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/posthorn/posthorn/plugins"
	"github.com/posthorn/posthorn/plugins/internal/wire"
)

func TestAnEventIsChangedAsThePluginSays(t *testing.T) {
	p := start(t, options(t, ""))
	events := orders(
		order{Do: "type", Text: "test.renamed"}, order{Do: "payload", Text: "[1.0, 2]"}, order{Do: "headers", Text: "new"},
		order{Do: "error", Text: "no connection"}, order{Do: "reject", Text: "no such tenant"}, order{Do: "skip", Text: "not wanted"}, order{Do: "skip"},
		order{Do: "type", Text: "a\xff"})
	errs := p.Transform(t.Context(), events)
	for i, want := range []string{
		"<nil>", "<nil>", "<nil>", "plugin tester: no connection", "plugin tester: no such tenant", "plugin tester: skipped: not wanted",
		"plugin tester: skipped", "<nil>",
	} {
		if got := fmt.Sprint(errs[i]); got != want {
			t.Errorf("error %d: got %q, want %q", i, got, want)
		}
	}
	if got := events[0].Type; got != "test.renamed" {
		t.Errorf("type: %q", got)
	}
	if got := string(events[1].Payload); got != "[1.0, 2]" {
		t.Errorf("payload: %s", got)
	}
	if got := fmt.Sprint(events[2].Headers); got != "map[X-Text:new X-Was:there]" {
		t.Errorf("headers: %s", got)
	}
	var skip *plugins.SkipError
	if plugins.IsRejected(errs[3]) || !plugins.IsRejected(errs[4]) || !errors.As(errs[5], &skip) || skip.Reason != "not wanted" {
		t.Errorf("kinds of errors: %v", errs)
	}
	if got, want := p.Status(), (Status{Name: "tester", Running: 1, Instances: 1, Calls: 1}); got != want {
		t.Errorf("status: got %+v, want %+v", got, want)
	}
}

func TestAProcessInheritsOnlyWhatIsListed(t *testing.T) {
	t.Setenv("TEST_SECRET", "inherited")
	o := options(t, "")
	o.Env = append(o.Env, "GIVEN=yes")
	o.Args = []string{"-one", "two"}
	o.Dir = "/"
	p := start(t, o)

	var names []string
	for line := range strings.Lines(mustDo(t, p, "environment").Text) {
		// A certificate has lines, too; its last one is padded with "=".
		if name, _, ok := strings.Cut(line, "="); ok && strings.ToUpper(name) == name && len(name) < 40 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	want := []string{
		"GIVEN", "PLUGIN_CLIENT_CERT", "PLUGIN_MAX_PORT", "PLUGIN_MIN_PORT", "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_UNIX_SOCKET_DIR",
		wire.CookieKey, wire.EnvMaxMessage, wire.EnvParent, kindVariable,
	}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("environment: got %q, want %q", names, want)
	}
	for what, want := range map[string]string{"folder": "/", "arguments": "-one two", "stdin": "0 <nil>"} {
		if got := mustDo(t, p, what).Text; got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	pid := p.pids()[0]
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("process %d is in group %d (%v)", pid, group, err)
	}
}

// Linux kills a process with the thread that started it.
func TestAProcessOutlivesTheThreadThatCalledStart(t *testing.T) {
	o := options(t, "")
	var p *Plugin
	started := make(chan struct{})
	go func() {
		runtime.LockOSThread() // and ends with the goroutine, not being unlocked
		defer close(started)
		p = start(t, o)
	}()
	<-started
	if t.Failed() {
		return
	}
	pid := p.pids()[0]
	for range 50 {
		if got := mustDo(t, p, "pid").Pid; got != pid {
			t.Fatalf("process %d became %d", pid, got)
		}
	}
}

func TestNoProcessOutlivesAKilledRelay(t *testing.T) {
	dir, err := os.MkdirTemp("", "posthorn")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) // a relay that is killed leaves sockets
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	read, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	relay, err := os.StartProcess(path, []string{path}, &os.ProcAttr{Env: append(os.Environ(), relayVariable+"="+dir), Files: []*os.File{in, out, os.Stderr}})
	in.Close()
	out.Close()
	if err != nil {
		t.Fatal(err)
	}
	var pids [2]int
	if _, err := fmt.Fscan(read, &pids[0], &pids[1]); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if gone(pid) {
			t.Fatalf("process %d does not run", pid)
		}
	}
	if err := relay.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := relay.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("process %d is gone", pid), func() bool { return ended(pid) })
	}
}

// ended reports whether a process that is no child of ours has ended: whether
// its zombie is left is for whoever adopted it.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}

func TestCallsAreSpreadOverInstances(t *testing.T) {
	o := options(t, "")
	o.Instances = 3
	p := start(t, o)
	var mu sync.Mutex
	seen := map[int]bool{}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 50 {
				events := orders(order{Do: "pid"}, order{Do: "pid"})
				if err := errors.Join(p.Transform(t.Context(), events)...); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				seen[answered(t, events[1]).Pid] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, pid := range p.pids() {
		if !seen[pid] {
			t.Errorf("process %d was never called", pid)
		}
	}
	if len(seen) != 3 {
		t.Errorf("called: %v", seen)
	}
}

func TestCallsAreSplitByCountAndSize(t *testing.T) {
	o := options(t, "")
	o.Batch = 10
	p := start(t, o)

	var many []order
	for i := range 25 {
		many = append(many, order{Do: "echo", Text: fmt.Sprint(i)})
	}
	events := orders(many...)
	if err := errors.Join(p.Transform(t.Context(), events)...); err != nil {
		t.Fatal(err)
	}
	for i, e := range events {
		if got := answered(t, e).Text; got != fmt.Sprint(i) {
			t.Errorf("event %d became %s", i, got)
		}
	}
	if got := p.Status().Calls; got != 3 {
		t.Errorf("25 events by 10: %d calls", got)
	}

	half := strings.Repeat("x", 600<<10)
	events = orders(order{Do: "echo", Text: half}, order{Do: "echo", Text: half}, order{Do: "echo", Text: half + half}, order{Do: "echo"}, order{Do: "\xff"})
	events[4].Key = "\xff"
	errs := p.Transform(t.Context(), events)
	if errs[0] != nil || errs[1] != nil || errs[3] != nil {
		t.Errorf("events that fit: %v", errs)
	}
	if !isAbout(errs[2], "larger than max_message") || !plugins.IsRejected(errs[2]) {
		t.Errorf("event that does not fit: %v", errs[2])
	}
	if !isAbout(errs[4], "not UTF-8") || !plugins.IsRejected(errs[4]) {
		t.Errorf("event that is not UTF-8: %v", errs[4])
	}
	if got := p.Status(); got.Calls != 5 || got.Failures != 0 {
		t.Errorf("status: %+v", got)
	}
}

func TestAnswersThatAreTooLargeTogetherAreAskedForInParts(t *testing.T) {
	p := start(t, options(t, "raw"))
	var all []order
	for range 30 { // of 300 KiB each
		all = append(all, order{Do: "grow"})
	}
	events := orders(all...)
	for i, err := range p.Transform(t.Context(), events) {
		if err != nil || len(events[i].Payload) < 300<<10 {
			t.Fatalf("event %d: %v", i, err)
		}
	}
	if got := p.Status(); got.Restarts != 0 {
		t.Errorf("status: %+v", got)
	}
}

func TestACallThatIsGivenUpLeavesTheProcessAlone(t *testing.T) {
	p := start(t, options(t, ""))
	pid := mustDo(t, p, "pid").Pid
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Transform(ctx, orders(order{Do: "hang"}))[0]; !isAbout(err) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error: %v", err)
	}
	if got := mustDo(t, p, "pid").Pid; got != pid {
		t.Errorf("process %d became %d", pid, got)
	}
}

func TestCloseEndsCallsAndProcesses(t *testing.T) {
	o := options(t, "")
	o.Timeout = time.Hour
	o.Instances = 2
	p := start(t, o)
	pids := p.pids()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := p.Transform(t.Context(), orders(order{Do: "hang"}, order{Do: "hang"}))[0]; !isAbout(err, "is being stopped") {
				t.Errorf("call in flight: %v", err)
			}
		})
	}
	eventually(t, "four calls", func() bool { return p.Status().Calls == 4 })
	wg.Go(func() { p.Close(context.Background()) })
	p.Close(context.Background())
	wg.Wait()
	for _, pid := range pids {
		if !gone(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
	if _, err := do(t, p, order{Do: "pid"}); !isAbout(err, "is being stopped") {
		t.Errorf("call after Close: %v", err)
	}
}

func TestCloseKillsWhatDoesNotStop(t *testing.T) {
	p := start(t, options(t, ""))
	if err := syscall.Kill(p.pids()[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p.Close(ctx) // start's clean-up looks for what is left
}

// What is written in another language has neither go-plugin's services nor its
// redirected output.
func TestAPluginNeedsNoMoreThanTheProtocol(t *testing.T) {
	log := &records{}
	o := options(t, "foreign")
	o.Logger = log.logger()
	p := start(t, o)
	pid := p.pids()[0]
	if got := mustDo(t, p, "pid").Pid; got != pid {
		t.Errorf("process %d says that it is %d", pid, got)
	}
	eventually(t, "its output is logged", func() bool { return log.count("INFO plugin output plugin=tester line=at work") == 1 })
	proc := p.running[0]
	p.Close(t.Context())
	if got := proc.runner.end(); got != "was killed by signal 15 (terminated)" {
		t.Errorf("the process %s", got)
	}
}

func TestAChangedFileIsRefusedWhereItsSumIsPinned(t *testing.T) {
	o := options(t, "")
	original, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	o.Path = t.TempDir() + "/plugin"
	replace := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(o.Path+".new", content, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(o.Path+".new", o.Path); err != nil {
			t.Fatal(err)
		}
	}
	replace(original)
	if o.SHA256, err = Sum(o.Path); err != nil {
		t.Fatal(err)
	}
	o.Timeout = 100 * time.Millisecond
	p := start(t, o)
	if got := p.Sum(); got != o.SHA256 {
		t.Errorf("sum: got %s, want %s", got, o.SHA256)
	}
	replace(append(slices.Clone(original), "changed"...))
	found, err := Sum(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(p.pids()[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two refused starts", func() bool { return p.Status().Restarts >= 2 })
	if _, err := do(t, p, order{Do: "pid"}); !isAbout(err, "no process is running", "expected "+o.SHA256, "found "+found) {
		t.Errorf("error: %v", err)
	}
	replace(original)
	eventually(t, "a process of the original file", func() bool { return p.Status().Running == 1 })
}
