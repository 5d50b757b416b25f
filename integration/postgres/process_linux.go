package postgres

import "syscall"

// diesWithParent says that the kernel ends a child of sysProcAttr with us.
const diesWithParent = true

// sysProcAttr runs a child as cred (nil: as this process) in a process group
// of its own, so that Ctrl-C on the terminal reaches only us, and has the
// kernel shut it down at once when the thread that started it ends.
func sysProcAttr(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: cred, Pdeathsig: syscall.SIGQUIT}
}
