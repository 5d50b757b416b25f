package egress

import (
	"fmt"
	"net/netip"
	"syscall"

	"code.dny.dev/ssrf"
)

// metadata are the addresses at which clouds hand out credentials: no
// configuration may allow them.
var metadata = []netip.Prefix{
	netip.MustParsePrefix("169.254.169.254/32"),
	netip.MustParsePrefix("169.254.170.2/32"),
	netip.MustParsePrefix("100.100.100.200/32"),
	netip.MustParsePrefix("fd00:ec2::254/128"),
}

// BlockedError reports that the address of an endpoint may not be reached.
type BlockedError struct {
	Addr netip.Addr
	Why  string
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("address %s is blocked: %s", e.Addr, e.Why)
}

// guard judges addresses after DNS resolution, at connect.
type guard struct {
	deny    []netip.Prefix
	builtin *ssrf.Guardian
}

func newGuard(allow, deny []netip.Prefix) *guard {
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return &guard{
		deny: deny,
		builtin: ssrf.New(ssrf.WithAnyPort(), ssrf.WithNetworks("tcp4", "tcp6"),
			ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...)),
	}
}

// control is a net.Dialer's Control: it sees the address that is about to be
// connected to.
func (g *guard) control(network, address string, c syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("judge address: %w", err)
	}
	addr := ap.Addr().Unmap().WithZone("")
	for _, p := range metadata {
		if p.Contains(addr) {
			return &BlockedError{Addr: addr, Why: "it serves cloud credentials"}
		}
	}
	for _, p := range g.deny {
		if p.Contains(addr) {
			return &BlockedError{Addr: addr, Why: "egress.deny holds " + p.String()}
		}
	}
	// The guardian knows mapped addresses only by their IPv4 form.
	if addr.Is4() {
		network = "tcp4"
	}
	if err := g.builtin.Safe(network, netip.AddrPortFrom(addr, ap.Port()).String(), c); err != nil {
		return &BlockedError{Addr: addr, Why: "it is not a public address and egress.allow does not hold it"}
	}
	return nil
}
