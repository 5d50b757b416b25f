//go:build !linux

package host

import "syscall"

// processAttributes puts a process into a group of its own, which a terminal's ^C
// does not reach. That it ends with the relay is for the plugin to see to.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// keepFiles does nothing: the system has no means to keep files that the relay
// has inherited itself from plugins. Those that it opens they never inherit.
func keepFiles() {}

// reap waits for the end of the process and kills what is left of its group.
func (r *execRunner) reap() {
	_ = r.cmd.Wait() // what it would say is in the state
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = syscall.Kill(-r.pid, syscall.SIGKILL)
	r.state = r.cmd.ProcessState
	r.alive = false
}
