//go:build !linux

package tail

import "syscall"

// userTimeout does nothing: this system has no such socket option.
func userTimeout(_, _ string, _ syscall.RawConn) error { return nil }
