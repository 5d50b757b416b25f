package tail

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// userTimeout makes the kernel give up a connection whose status updates are
// not acknowledged, so that a relay that the network cut off knows it before
// the server gives its slot away.
func userTimeout(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		// Unix sockets have no such option, and need none.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int((SenderTimeout - margin).Milliseconds()))
	})
}
