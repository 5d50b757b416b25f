package host

import (
	"errors"
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// processAttributes puts a process into a group of its own, which a terminal's ^C
// does not reach, and has it killed when the thread ends that started it, with
// which the relay ends.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// keepFiles keeps plugins from inheriting files that the relay has inherited
// itself, from a shell or a service manager. Those that it opens they never do.
// Kernels before 5.11 cannot do it.
func keepFiles() { _ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) }

// reap waits for the end of the process, and kills what is left of its group
// while it is a zombie: its id cannot be another's then.
func (r *execRunner) reap() {
	for errors.Is(unix.Waitid(unix.P_PID, r.pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = syscall.Kill(-r.pid, syscall.SIGKILL)
	_ = r.cmd.Wait() // what it would say is in the state
	r.state = r.cmd.ProcessState
	r.alive = false
}
