package postgres

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// drainDelay is how long a process that ended may keep its output open
// through children of its own before the output is cut off.
const drainDelay = 5 * time.Second

// process is a child that does not outlive us, not even when we are killed.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has ended and is reaped
	err  error         // how it ended; read after done
}

// startProcess starts cmd, whose SysProcAttr is sysProcAttr's. The goroutine
// that it starts ends with the child.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.WaitDelay = drainDelay
	started := make(chan error)
	go func() {
		// The parent-death signal fires when the forking thread ends, not the
		// process: the thread is held until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		release, err := startGuarded(cmd)
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		release()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	return p, nil
}

// startGuarded starts cmd, with a guard where the kernel offers none. What it
// returns dismisses the guard.
func startGuarded(cmd *exec.Cmd) (release func(), err error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if diesWithParent {
		return func() {}, nil
	}
	release, err = guard(cmd.Process.Pid, cmd.SysProcAttr)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	return release, nil
}

// guardScript waits for the end of its input, which comes when the process
// that holds the other end of the pipe is gone, for whatever reason.
const guardScript = `read -r _; kill -QUIT "$0"`

// guard starts a shell that sends SIGQUIT to the process pid when we are
// gone. What it returns dismisses the shell, and returns when it has ended.
func guard(pid int, attr *syscall.SysProcAttr) (release func(), err error) {
	cmd := exec.Command("/bin/sh", "-c", guardScript, strconv.Itoa(pid))
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("open the guard's pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	return func() {
		_ = cmd.Process.Kill() // ends by this signal: neither error says more
		_ = cmd.Wait()
	}, nil
}

// wait returns when the child has ended. When ctx is done first it kills the
// child's process group, waits for the end and returns ctx's error.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may just have ended
		<-p.done
		return context.Cause(ctx)
	}
}

// end sends sig and waits for the child to end, at most for limit. It reports
// whether the child ended.
func (p *process) end(sig syscall.Signal, limit time.Duration) bool {
	_ = p.cmd.Process.Signal(sig) // it may have ended already
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// tail is a writer that keeps the end of what is written and passes all of it
// on. It is safe for concurrent use and never fails: a writer that fails must
// not cost the server its log.
type tail struct {
	mu   sync.Mutex
	next io.Writer // nil: none
	kept []byte
}

// tailSize is how many bytes a tail keeps at most.
const tailSize = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	if extra := len(t.kept) - tailSize; extra > 0 {
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
	if t.next != nil {
		_, _ = t.next.Write(b)
	}
	return len(b), nil
}

// String returns what is kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}
