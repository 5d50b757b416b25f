package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startLimit = time.Minute // until a process delivers
	stopLimit  = 15 * time.Second
	pollEvery  = 5 * time.Millisecond

	// queryEvery is how often the server is asked: that costs CPU of its.
	queryEvery = 100 * time.Millisecond
)

// secret is that of all signatures, the references' too.
const secret = "bench-0123456789abcdef0123456789abcdef"

// relayReady is in what the relay logs when it begins to deliver, and
// referenceReady is what a reference prints.
const (
	relayReady     = "slot acquired, delivering"
	referenceReady = "reference delivers"
)

// process is a relay or a reference.
type process struct {
	name   string
	cmd    *exec.Cmd
	output *output
	done   chan struct{} // closed once it ended
}

// startRelay runs the relay and returns once it delivers. config is in YAML,
// without the settings of the connection; ${RECEIVER} in it is the receiver's
// URL and ${SECRET} the secret.
func (b *bench) startRelay(ctx context.Context, o *outbox, config string) (*process, error) {
	args := []string{"run"}
	if b.profiles != "" {
		b.started++
		args = append(args, "--profile", filepath.Join(b.profiles, strconv.Itoa(b.started)))
		b.progress("the next relay's profiles: %s", args[2])
	}
	cmd, err := b.relayCommand(o, config, args...)
	if err != nil {
		return nil, err
	}
	return startProcess(ctx, "relay", cmd, relayReady)
}

// startReference runs a reference, which takes the events of the slot of its
// name or, where there is none, from the table of poll, and returns once it
// delivers them to path.
func (b *bench) startReference(ctx context.Context, o *outbox, name string, args ...string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the reference %s: %w", name, err)
	}
	cmd := exec.Command(program, append([]string{referenceCommand, name,
		"-slot=" + o.slotName(name), "-to=" + b.receiver.url() + path}, args...)...)
	cmd.Env = []string{"DATABASE_URL=" + o.url, "SECRET=" + secret}
	return startProcess(ctx, name, cmd, referenceReady)
}

// relayCommand returns a command of the relay's.
func (b *bench) relayCommand(o *outbox, config string, args ...string) (*exec.Cmd, error) {
	file := filepath.Join(b.dir, "posthorn.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("write the relay's configuration: %w", err)
	}
	cmd := exec.Command(b.binary, append(args, "--config", file)...)
	cmd.Env = []string{
		"POSTHORN_DATABASE__URL=" + o.url,
		"POSTHORN_SOURCE__SLOT=" + o.slotName(relaySlot),
		"POSTHORN_HTTP__LISTEN=127.0.0.1:0",
		`POSTHORN_EGRESS__ALLOW=["127.0.0.0/8"]`,
		"POSTHORN_LOG__FORMAT=json",
		"RECEIVER=" + b.receiver.url(), "SECRET=" + secret,
	}
	return cmd, nil
}

// startProcess starts cmd and returns once it printed ready.
func startProcess(ctx context.Context, name string, cmd *exec.Cmd, ready string) (*process, error) {
	p := &process{name: name, cmd: cmd, output: newOutput(ready), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.SysProcAttr = sysProcAttr()
	cmd.WaitDelay = stopLimit
	started := make(chan error)
	go func() {
		// The kernel ends the child with the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // ProcessState says how it ended
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	timer := time.NewTimer(startLimit)
	defer timer.Stop()
	var err error
	select {
	case <-p.output.found:
		return p, nil
	case <-p.done:
		err = p.ended()
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-timer.C:
		err = fmt.Errorf("%s does not deliver within %s:\n%s", name, startLimit, p.output)
	}
	_ = p.stop() // err says more
	return nil, err
}

// ended is the error of a process that is not there any more.
func (p *process) ended() error {
	return fmt.Errorf("%s ended, %s:\n%s", p.name, p.cmd.ProcessState, p.output)
}

// stop ends the process with SIGTERM, after 15 seconds with SIGKILL. It
// returns an error unless it ended with 0. Further calls do nothing and return
// the same.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	if !p.cmd.ProcessState.Success() {
		return p.ended()
	}
	return nil
}

// cpu returns the CPU time that the process used so far.
func (p *process) cpu() time.Duration { return cpuOf(p.cmd.Process.Pid) }

// rss returns the resident memory in bytes.
func (p *process) rss() int64 { return p.memory("VmRSS") }

// peak returns the most resident memory that there ever was, in bytes.
func (p *process) peak() int64 { return p.memory("VmHWM") }

// memory returns a field of the process' status in bytes, 0 once it ended.
func (p *process) memory(field string) int64 {
	value := fieldOf(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid), field)
	kib, err := strconv.ParseInt(strings.TrimSuffix(value, " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// serverCPU returns the CPU time of all the server's processes so far, those
// that ended included.
func (b *bench) serverCPU() time.Duration {
	// Of those that it waited for, the kernel tells only in /proc, in hundredths
	// of a second.
	const tick = 10 * time.Millisecond
	postmaster := b.server.PID()
	sum := cpuOf(postmaster)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", postmaster))
	if err != nil {
		return sum
	}
	// The fields after the name, which is in parentheses, begin with the third.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, field := range fields[16-3 : 18-3] { // cutime and cstime
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return sum
		}
		sum += time.Duration(ticks) * tick
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster))
	if err != nil {
		return sum
	}
	for _, field := range strings.Fields(string(children)) {
		if pid, err := strconv.Atoi(field); err == nil {
			sum += cpuOf(pid)
		}
	}
	return sum
}

// drained returns once the endpoints have n distinct events, all together, and
// how long it took from the first request to the last of them.
func (b *bench) drained(ctx context.Context, p *process, n int, limit time.Duration) (took time.Duration, err error) {
	err = b.await(ctx, p, limit, func() error {
		if got := b.receiver.distinct(); got < n {
			return fmt.Errorf("%d of %d events came", got, n)
		}
		return nil
	})
	return b.receiver.took(), err
}

// await returns once cond, which it asks again and again, returns nil. Else it
// returns an error when p ended, limit is over or ctx is done.
func (b *bench) await(ctx context.Context, p *process, limit time.Duration, cond func() error) error {
	return b.awaitEvery(ctx, pollEvery, p, limit, cond)
}

// awaitEvery is await for a cond that is costly to ask.
func (*bench) awaitEvery(ctx context.Context, every time.Duration, p *process, limit time.Duration, cond func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		err := cond()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-p.done:
			return fmt.Errorf("%w: %w", err, p.ended())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s for %s: %w: %w\n%s", p.name, limit, err, context.Cause(ctx), p.output)
		}
	}
}

// output keeps the end of what a process prints, and watches for a text.
type output struct {
	found chan struct{} // closed once the text was printed

	mu   sync.Mutex
	text []byte // watched for; nil once it was printed
	kept []byte
}

// keptOutput is how many bytes an output keeps.
const keptOutput = 4 << 10

func newOutput(text string) *output {
	return &output{found: make(chan struct{}), text: []byte(text)}
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = append(o.kept, b...)
	if o.text != nil && bytes.Contains(o.kept, o.text) {
		o.text = nil
		close(o.found)
	}
	if extra := len(o.kept) - keptOutput; extra > 0 {
		o.kept = append(o.kept[:0], o.kept[extra:]...)
	}
	return len(b), nil
}

// String returns what is kept.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.kept)
}
