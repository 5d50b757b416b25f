//go:build !linux

package postgres

import "syscall"

// diesWithParent says that the kernel does not end a child with us, so that
// it needs a guard.
const diesWithParent = false

// sysProcAttr runs a child as cred (nil: as this process) in a process group
// of its own, so that Ctrl-C on the terminal reaches only us.
func sysProcAttr(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: cred}
}
