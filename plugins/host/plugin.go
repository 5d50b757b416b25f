// Package host starts the user's plugins, keeps them running, and sends them
// events.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options is one plugin. Everything but SHA256, Dir, SocketDir, Env, Args and
// Logger is required.
type Options struct {
	Name string
	// Path is the program. A relative one is to the relay's working folder,
	// whatever Dir is; it is never searched for in PATH.
	Path         string
	Args         []string
	SHA256       string        // hex of the file's sum; empty for any file
	Dir          string        // the program's working folder; empty for the relay's
	SocketDir    string        // where the folders of its sockets are made; empty for the system's temporary folder
	Env          []string      // KEY=value: all that it inherits, beside what the protocol needs
	Timeout      time.Duration // one call, with the wait for a process
	StartTimeout time.Duration // from the program's start to a successful health check
	Instances    int           // processes
	Batch        int           // events in a call, at most
	MaxMessage   int           // bytes of one message, both ways
	Logger       *slog.Logger  // nil for none
}

// patience is for how long the events of a batch are tried by themselves.
func (o *Options) patience() time.Duration { return max(o.Timeout, min(10*o.Timeout, maxPatience)) }

// Plugin is a plugin whose processes run. It is safe for concurrent use.
type Plugin struct {
	options Options
	logger  *slog.Logger
	output  *output

	mu      sync.Mutex
	running []*process
	changed chan struct{} // closed when running grows, and by Close
	last    string        // why there may be no process: how the last one ended or did not start
	closed  bool

	// alone is held by the batch whose events are sent by themselves.
	alone    chan struct{}
	careful  atomic.Bool // a call failed as a whole: events are sent by themselves
	hopeless atomic.Bool // they all failed: the first of a batch speaks for all

	restarts, calls, failures atomic.Uint64

	stop        context.CancelFunc // ends starts and waits
	supervisors sync.WaitGroup
}

// Start starts a plugin's processes. Each of them has passed a health check when
// it returns. An error is one line that begins with "plugin NAME: " and says what
// is wrong; nothing runs then. ctx bounds the start, not the plugin's life, which
// [Plugin.Close] ends.
func Start(ctx context.Context, o Options) (*Plugin, error) {
	if err := o.prepare(); err != nil {
		return nil, fmt.Errorf("plugin %s: %w", o.Name, err)
	}
	logger := o.Logger.With(slog.String("plugin", o.Name))
	p := &Plugin{options: o, logger: logger, output: &output{logger: logger},
		changed: make(chan struct{}), alone: make(chan struct{}, 1)}

	processes, err := p.startAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", o.Name, err)
	}
	var life context.Context
	life, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, proc := range processes {
		p.add(proc)
		p.supervisors.Go(func() { p.supervise(life, proc) })
	}
	return p, nil
}

// startAll starts all processes at once. At the first error it ends those that
// run.
func (p *Plugin) startAll(ctx context.Context) ([]*process, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	processes := make([]*process, p.options.Instances)
	var wg sync.WaitGroup
	for i := range processes {
		wg.Go(func() {
			var err error
			if processes[i], err = p.start(ctx); err != nil {
				cancel(err) // only the first is kept
			}
		})
	}
	wg.Wait()
	if ctx.Err() == nil {
		return processes, nil
	}
	for _, proc := range processes {
		if proc != nil {
			proc.runner.kill()
			proc.release()
		}
	}
	return nil, context.Cause(ctx)
}

// prepare checks o and makes its paths absolute.
func (o *Options) prepare() error {
	switch {
	case o.Path == "":
		return fmt.Errorf("path: is required")
	case o.Timeout <= 0 || o.StartTimeout <= 0:
		return fmt.Errorf("timeout and start_timeout: must be above 0")
	case o.Instances < 1 || o.Batch < 1 || o.MaxMessage < 1:
		return fmt.Errorf("instances, batch and max_message: must be above 0")
	}
	for _, variable := range o.Env {
		name, _, ok := strings.Cut(variable, "=")
		if !ok || name == "" || strings.ContainsRune(variable, 0) {
			return fmt.Errorf("env: must be of the form NAME=value, without zero bytes")
		}
		if strings.HasPrefix(name, "PLUGIN_") || strings.HasPrefix(name, "POSTHORN_PLUGIN") {
			return fmt.Errorf("env: %s is set by Posthorn: names must not begin with PLUGIN_ or POSTHORN_PLUGIN", name)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.SHA256 = strings.ToLower(o.SHA256)
	if o.SocketDir == "" {
		o.SocketDir = os.TempDir()
	}
	for _, path := range []*string{&o.Path, &o.Dir, &o.SocketDir} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("find the working folder: %w", err)
		}
		*path = absolute
	}
	return nil
}

// Sum returns the hex SHA-256 of the file that runs. It is empty while processes
// run different files: one was restarted after the file had been replaced.
func (p *Plugin) Sum() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := ""
	for i, proc := range p.running {
		if i > 0 && proc.sum != sum {
			return ""
		}
		sum = proc.sum
	}
	return sum
}

// Status is what a plugin is at and has done.
type Status struct {
	Name               string
	Running, Instances int    // processes that run, and that should
	Restarts           uint64 // starts beside the first, whether they succeeded or not
	Calls, Failures    uint64 // calls, and those of them that failed as a whole
}

// Status returns what p is at.
func (p *Plugin) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Status{
		Name:      p.options.Name,
		Running:   len(p.running),
		Instances: p.options.Instances,
		Restarts:  p.restarts.Load(),
		Calls:     p.calls.Load(),
		Failures:  p.failures.Load(),
	}
}

// Close ends the calls in flight and asks the processes to stop. What is left of
// them after 5 s, or when ctx ends, is killed. It returns when no process is left.
func (p *Plugin) Close(ctx context.Context) {
	p.mu.Lock()
	p.closed = true
	running := slices.Clone(p.running)
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
	p.stop()

	for _, proc := range running {
		p.remove(proc, "is being stopped")
		p.supervisors.Go(func() { proc.stop(ctx) })
	}
	p.supervisors.Wait()
	p.output.flush()
}

// add puts a process into service, and returns false if p is closed.
func (p *Plugin) add(proc *process) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.running = append(p.running, proc)
	close(p.changed)
	p.changed = make(chan struct{})
	return true
}

// remove takes a process out of service and ends its calls; reason says what
// became of it. Only the first call for a process does something.
func (p *Plugin) remove(proc *process, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := slices.Index(p.running, proc)
	if at < 0 {
		return
	}
	p.running = slices.Delete(p.running, at, at+1)
	p.last = "the last one " + reason
	proc.why = reason
	proc.shared = len(proc.calls) > 1
	ended := &endedError{reason: reason}
	for c := range proc.calls {
		c.cancel(ended)
	}
}

// fail takes a process out of service and kills it.
func (p *Plugin) fail(proc *process, reason string) {
	p.remove(proc, reason)
	proc.runner.kill()
}

var errStopping = errors.New("is being stopped")

// call is a call in flight.
type call struct {
	cancel context.CancelCauseFunc
}

// acquire returns the running process with the fewest calls in flight, and
// registers c with it. It waits for one until ctx ends.
func (p *Plugin) acquire(ctx context.Context, c *call) (*process, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, errStopping
		}
		if len(p.running) > 0 {
			proc := slices.MinFunc(p.running, func(a, b *process) int { return len(a.calls) - len(b.calls) })
			proc.calls[c] = struct{}{}
			p.mu.Unlock()
			return proc, nil
		}
		changed, last := p.changed, p.last
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("no process is running: %s", last)
		}
	}
}

// release ends c, and reports whether other calls were in flight on the process
// when it ended.
func (p *Plugin) release(proc *process, c *call) (shared bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(proc.calls, c)
	return proc.shared
}
