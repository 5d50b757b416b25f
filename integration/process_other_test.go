//go:build !linux

package integration

import "syscall"

// sysProcAttr has nothing that ends the relay with a test's process that is
// killed.
func sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
