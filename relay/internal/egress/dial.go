package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// dialTimeout bounds what comes before the first byte of a request or of
	// TLS, where the attempt's own timeout is longer.
	dialTimeout = 30 * time.Second
	// fallbackDelay is how long one address may take before the next is tried
	// beside it. RFC 8305 calls it the Connection Attempt Delay.
	fallbackDelay = 300 * time.Millisecond
	// maxAddresses bounds how many addresses of one host are tried.
	maxAddresses = 8
)

// Resolver looks up the addresses of host; network is "ip". *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// dialer connects to hosts all of whose addresses may be reached.
type dialer struct {
	resolver Resolver
	guard    *guard
	reach    reach
}

// reach connects to one address. It ends soon after ctx does.
type reach func(ctx context.Context, target netip.AddrPort) (net.Conn, error)

// withinAttempt returns a context that ends with the attempt that ctx is for,
// and after dialTimeout.
func withinAttempt(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	attempt, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return ctx, cancel
	}
	stop := context.AfterFunc(attempt, cancel)
	return ctx, func() { stop(); cancel() }
}

// dialTLS connects by TLS. A transport's own handshakes outlive their attempts,
// as its dials do.
func (d *dialer) dialTLS(ctx context.Context, config *tls.Config, address string) (*tls.Conn, error) {
	ctx, cancel := withinAttempt(ctx)
	defer cancel()
	conn, err := d.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(address) // dial took it apart as well
	}
	t := timingsOf(ctx)
	start := t.now()
	secure := tls.Client(conn, config)
	err = secure.HandshakeContext(ctx)
	t.tls.Store(t.now() - start)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// dial is a transport's DialContext.
func (d *dialer) dial(ctx context.Context, _, address string) (net.Conn, error) {
	ctx, cancel := withinAttempt(ctx)
	defer cancel()
	t := timingsOf(ctx)
	host, port, err := splitHostPort(address)
	if err != nil {
		return nil, err
	}
	start := t.now()
	addrs, err := d.resolve(ctx, host)
	resolved := t.now()
	if _, isName := netip.ParseAddr(host); isName != nil {
		t.dns.Store(resolved - start)
	}
	if err != nil {
		return nil, err
	}
	conn, err := race(ctx, addrs, port, d.reach)
	t.connect.Store(t.now() - resolved)
	return conn, err
}

// resolve returns the addresses of host in the order in which to try them. If
// one of them may not be reached it returns a *BlockedError: a name that leads
// to both worlds is not one that a receiver of webhooks needs. Nothing looks
// the name up again, so no later answer can lead elsewhere.
func (d *dialer) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs, err := lookUp(ctx, d.resolver, host)
	if err != nil {
		return nil, err
	}
	for _, addr := range addrs {
		if err := d.guard.judge(addr); err != nil {
			return nil, err
		}
	}
	return addrs, nil
}

// lookUp returns at least one address of host, which may be one itself, or a
// *resolveError.
func lookUp(ctx context.Context, resolver Resolver, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	if err := checkName(host); err != nil {
		return nil, &resolveError{host, err}
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip", host)
	if err == nil && len(addrs) == 0 {
		err = errors.New("it has no address")
	}
	if err != nil {
		return nil, &resolveError{host, err}
	}
	for i, addr := range addrs {
		addrs[i] = addr.Unmap()
	}
	return addrs, nil
}

// checkName refuses what no resolver shall see: what is not a host's name, and
// what looks like an IPv4 address but is not one in the usual form, since
// system resolvers know 127.1, 0x7f.1, 0177.0.0.1 and 2130706433 as addresses.
// Like https://url.spec.whatwg.org/#ends-in-a-number-checker it looks at the
// last label; no top-level domain is a number.
func checkName(host string) error {
	name := strings.TrimSuffix(host, ".")
	if len(name) > 253 {
		return errors.New("the name is too long")
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool { return !isNameRune(r) }) {
			return errors.New("it is not a host name")
		}
	}
	if isNumber(labels[len(labels)-1]) {
		return errors.New("it looks like an IP address, but is not one in its usual form")
	}
	return nil
}

// isNameRune reports whether names hold r. Underscores are not a host's, but
// the names of containers have them.
func isNameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

// isNumber reports whether label is a number in decimal, octal or hexadecimal.
func isNumber(label string) bool {
	digits := "0123456789"
	if len(label) > 1 && label[0] == '0' && label[1]|' ' == 'x' {
		label, digits = label[2:], "0123456789abcdefABCDEF"
	}
	return strings.Trim(label, digits) == ""
}

func splitHostPort(address string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, &resolveError{address, errors.New("it is not a host with a port")}
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, &resolveError{host, errors.New("the port must be 1 to 65535")}
	}
	return host, uint16(n), nil
}

// race returns the first connection to one of addrs. Both families are tried in
// turn, beginning with that of the first address; the next address is tried
// when the one before failed or took fallbackDelay. If none can be reached it
// returns the error of the first that failed.
func race(ctx context.Context, addrs []netip.Addr, port uint16, reach reach) (net.Conn, error) {
	if len(addrs) == 1 {
		return reach(ctx, netip.AddrPortFrom(addrs[0], port))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result)
	waiting, running := inTurn(addrs), 0
	var failure error
	turn := time.NewTimer(0)
	defer turn.Stop()
	for len(waiting) > 0 || running > 0 {
		select {
		case <-turn.C:
			if len(waiting) == 0 {
				continue
			}
			target := netip.AddrPortFrom(waiting[0], port)
			waiting = waiting[1:]
			running++
			go func() {
				conn, err := reach(ctx, target)
				results <- result{conn, err}
			}()
			turn.Reset(fallbackDelay)
		case r := <-results:
			running--
			if r.err == nil {
				cancel()
				for range running {
					if late := <-results; late.err == nil {
						_ = late.conn.Close()
					}
				}
				return r.conn, nil
			}
			if failure == nil {
				failure = r.err
			}
			turn.Reset(0)
		}
	}
	return nil, failure
}

// inTurn returns at most maxAddresses of addrs, with both families in turn.
func inTurn(addrs []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, addr := range addrs {
		if addr.Is4() == addrs[0].Is4() {
			first = append(first, addr)
		} else {
			second = append(second, addr)
		}
	}
	var all []netip.Addr
	for len(all) < min(len(addrs), maxAddresses) {
		if len(first) > 0 {
			all, first = append(all, first[0]), first[1:]
		}
		first, second = second, first
	}
	return all
}

// direct returns a reach that connects with nothing in between.
func direct(dialer *net.Dialer, permit func() bool) reach {
	return func(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, "tcp", target.String())
		if err != nil {
			return nil, &connectError{target, err}
		}
		return &permittedConn{Conn: conn, permit: permit}, nil
	}
}

// permittedConn sends nothing without permission. It is asked here, at the
// last moment, because a process can be stopped at any other.
type permittedConn struct {
	net.Conn
	permit  func() bool
	refused atomic.Bool
}

// Write returns ErrNotPermitted without permission, and gives the connection
// up: what was sent before may be half of something.
func (c *permittedConn) Write(p []byte) (int, error) {
	if !c.permit() {
		c.refused.Store(true)
		_ = c.Close()
	}
	if c.refused.Load() {
		return 0, ErrNotPermitted
	}
	return c.Conn.Write(p)
}

// permittedUnder returns the connection that c is, or runs over by TLS; nil if
// there is none.
func permittedUnder(c net.Conn) *permittedConn {
	for {
		switch layer := c.(type) {
		case *permittedConn:
			return layer
		case *tls.Conn:
			c = layer.NetConn()
		default:
			return nil
		}
	}
}

// resolveError reports that no address of a host is known.
type resolveError struct {
	host string
	err  error
}

func (e *resolveError) Error() string {
	why := e.err.Error()
	var dns *net.DNSError
	if errors.As(e.err, &dns) { // its own text names the host again
		why = dns.Err
	}
	return fmt.Sprintf("cannot resolve %s: %s", clean(e.host), clean(why))
}

func (e *resolveError) Unwrap() error { return e.err }

// connectError reports that no connection to an address came about.
type connectError struct {
	target netip.AddrPort
	err    error
}

func (e *connectError) Error() string {
	why := e.err.Error()
	var number syscall.Errno
	switch {
	case errors.As(e.err, &number):
		why = number.Error()
	case errors.Is(e.err, os.ErrDeadlineExceeded), errors.Is(e.err, context.DeadlineExceeded):
		why = "timed out"
	}
	return fmt.Sprintf("connect to %s: %s", e.target, clean(why))
}

func (e *connectError) Unwrap() error { return e.err }
