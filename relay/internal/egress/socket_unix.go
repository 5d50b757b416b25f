//go:build unix

package egress

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket tells whether something waits to be read.
type socket struct {
	raw   syscall.RawConn
	look  func(fd uintptr)
	asked [1]unix.PollFd
	found bool
}

// newSocket returns nil if c is none.
func newSocket(c net.Conn) *socket {
	has, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := has.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{raw: raw}
	s.look = func(fd uintptr) {
		s.asked[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		n, err := unix.Poll(s.asked[:], 0)
		s.found = n > 0 && err == nil
	}
	return s
}

// pending reports whether the other end sent something or closed, or the
// socket is of no use any more. It does not wait.
func (s *socket) pending() bool {
	return s.raw.Control(s.look) != nil || s.found
}
