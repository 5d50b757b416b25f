package browser

import "syscall"

// sysProcAttr has the kernel kill the relay when the test's process is gone.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
