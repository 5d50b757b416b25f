package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/posthorn/posthorn/plugins/internal/wire"
)

const (
	maxHandshake = 16 << 10 // bytes of a plugin's first line
	// How long output is read after the process has ended, where something that
	// left its process group holds the other end.
	drainTime = 500 * time.Millisecond
)

// execRunner runs a plugin's program for go-plugin, which takes the handshake
// from its standard output. It is good for one process. Unlike go-plugin's own
// it inherits nothing, has the process killed with the relay where the system can
// do that, and kills whatever is in the process's group.
type execRunner struct {
	cmd            *exec.Cmd
	sockets        string // folder of the process's socket
	said           excerpt
	stdout, stderr *lines
	handshake      *io.PipeReader // the first line that it wrote, if that is a handshake

	pid      int
	started  bool
	startErr error
	line     string // the first, if it is no handshake
	lineErr  error
	exited   chan struct{} // closed when the process has ended
	done     chan struct{} // closed when its output has ended, too
	state    *os.ProcessState
	at       time.Time // of the end

	mu     sync.Mutex
	alive  bool // pid is that of the process, which may be a zombie
	killed bool
}

func newRunner(o *Options, out *output) *execRunner {
	r := &execRunner{cmd: exec.Command(o.Path, o.Args...), exited: make(chan struct{}), done: make(chan struct{})}
	r.cmd.Dir = o.Dir
	r.cmd.Env = append(r.cmd.Env, o.Env...)
	r.cmd.Env = append(r.cmd.Env,
		wire.EnvMaxMessage+"="+strconv.Itoa(o.MaxMessage),
		wire.EnvParent+"="+strconv.Itoa(os.Getpid()))
	r.cmd.SysProcAttr = processAttributes()
	r.stdout = &lines{out: out, runner: r}
	r.stderr = &lines{out: out, runner: r, said: &r.said}
	return r
}

// prepare adds what go-plugin wants the process to know.
func (r *execRunner) prepare(env []string, sockets string) {
	r.cmd.Env = append(r.cmd.Env, env...)
	r.sockets = sockets
}

// Start starts the process. Its standard input is empty.
func (r *execRunner) Start(context.Context) error {
	stdout, stdoutEnd, err := os.Pipe()
	if err != nil {
		return err
	}
	stderr, stderrEnd, err := os.Pipe()
	if err != nil {
		closeAll(stdout, stdoutEnd)
		return err
	}
	r.cmd.Stdout, r.cmd.Stderr = stdoutEnd, stderrEnd
	handshake, line := io.Pipe()
	r.handshake = handshake

	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the thread ends that
		// started the process: this one stays until that has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(r.done)
		defer closeAll(stdout, stderr)

		err := r.exec()
		closeAll(stdoutEnd, stderrEnd)
		if err != nil {
			started <- err
			return
		}
		var pumps sync.WaitGroup
		pumps.Go(func() { r.readStdout(stdout, line) })
		pumps.Go(func() { r.stderr.readFrom(stderr) })
		started <- nil

		r.reap()
		r.at = time.Now()
		close(r.exited)
		_ = stdout.SetReadDeadline(time.Now().Add(drainTime))
		_ = stderr.SetReadDeadline(time.Now().Add(drainTime))
		pumps.Wait()
	}()
	r.startErr = <-started
	r.started = r.startErr == nil
	return r.startErr
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// exec starts the process, unless it was killed before.
func (r *execRunner) exec() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed {
		return context.Canceled
	}
	keepFiles()
	if err := r.cmd.Start(); err != nil {
		return err
	}
	r.pid = r.cmd.Process.Pid
	r.alive = true
	return nil
}

// readStdout hands the first line over if it is a handshake. Everything after it
// goes to the log: it comes from programs in other languages, go-plugin's server
// redirects its own.
func (r *execRunner) readStdout(f *os.File, handshake *io.PipeWriter) {
	reader := bufio.NewReaderSize(f, maxHandshake)
	line, err := reader.ReadSlice('\n')
	switch {
	case len(line) == 0:
		r.lineErr = errNoHandshake
	case errors.Is(err, bufio.ErrBufferFull):
		r.line, r.lineErr = string(line), errOtherLine
	default:
		r.line, r.lineErr = string(line), checkHandshake(string(line))
	}
	if r.lineErr == nil {
		// Fails if nobody waits for it any more.
		_, _ = handshake.Write(line)
	}
	_ = handshake.Close()
	r.stdout.readFrom(reader)
}

// kill kills the process and its group; a process that was not started yet will
// not be.
func (r *execRunner) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killed = true
	if r.alive {
		_ = syscall.Kill(-r.pid, syscall.SIGKILL)
	}
}

// terminate asks the process to end by SIGTERM.
func (r *execRunner) terminate() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alive {
		_ = syscall.Kill(r.pid, syscall.SIGTERM)
	}
}

// wait returns when the process and its output have ended, if there was one.
func (r *execRunner) wait() {
	if r.started {
		<-r.done
	}
}

// endedAfter reports whether the process ran at some time after t.
func (r *execRunner) endedAfter(t time.Time) bool {
	select {
	case <-r.exited:
		return r.at.After(t)
	default:
		return true
	}
}

func (r *execRunner) removeSockets() {
	if r.sockets != "" {
		_ = os.RemoveAll(r.sockets)
	}
}

// end returns how a process ended that has, e.g. "ended with exit status 2".
func (r *execRunner) end() string {
	if r.state == nil { // where the relay inherited that ended processes are not waited for
		return "ended"
	}
	if ws, ok := r.state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return fmt.Sprintf("was killed by signal %d (%s)", ws.Signal(), ws.Signal())
	}
	return "ended with " + r.state.String()
}

// endedItself reports whether a process that has ended was not killed by us.
func (r *execRunner) endedItself() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.killed || r.state == nil {
		return !r.killed
	}
	ws, ok := r.state.Sys().(syscall.WaitStatus)
	return ok && (!ws.Signaled() || ws.Signal() != syscall.SIGKILL)
}

// What follows is for go-plugin.

// Wait returns when the process has ended.
func (r *execRunner) Wait(context.Context) error {
	<-r.done
	return nil
}

// Kill kills the process.
func (r *execRunner) Kill(context.Context) error {
	r.kill()
	return nil
}

// Stdout returns the handshake.
func (r *execRunner) Stdout() io.ReadCloser { return r.handshake }

// Stderr returns nothing: the runner reads it itself.
func (r *execRunner) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name returns the program.
func (r *execRunner) Name() string { return r.cmd.Path }

// ID returns the process id.
func (r *execRunner) ID() string { return strconv.Itoa(r.pid) }

// Diagnose returns nothing: startError says what is wrong.
func (r *execRunner) Diagnose(context.Context) string { return "" }

// PluginToHost returns the same address: plugin and relay see the same system.
func (r *execRunner) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

// HostToPlugin returns the same address.
func (r *execRunner) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
