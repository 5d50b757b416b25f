package egress

import (
	"fmt"
	"net/netip"
	"syscall"

	"code.dny.dev/ssrf"
)

// metadata are the addresses at which clouds hand out credentials, or the
// configuration of a machine: none may be allowed.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"),    // AWS, Google, Azure, Oracle and most others
	netip.MustParseAddr("fd00:ec2::254"),      // AWS
	netip.MustParseAddr("169.254.170.2"),      // AWS ECS
	netip.MustParseAddr("169.254.170.23"),     // AWS EKS Pod Identity
	netip.MustParseAddr("fd00:ec2::23"),       // AWS EKS Pod Identity
	netip.MustParseAddr("fd20:ce::254"),       // Google
	netip.MustParseAddr("168.63.129.16"),      // Azure WireServer, a public address
	netip.MustParseAddr("192.0.0.192"),        // Oracle, classic
	netip.MustParseAddr("fd00:c1::a9fe:a9fe"), // Oracle
	netip.MustParseAddr("fe80::a9fe:a9fe"),    // OpenStack
	netip.MustParseAddr("100.100.100.200"),    // Alibaba
	netip.MustParseAddr("169.254.0.23"),       // Tencent
	netip.MustParseAddr("169.254.42.42"),      // Scaleway
	netip.MustParseAddr("fd00:42::42"),        // Scaleway
	netip.MustParseAddr("fd00:a9fe:a9fe::1"),  // Akamai
}

// nat64 leads to the IPv4 address in its last four bytes: RFC 6052.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// embeddings are the prefixes whose addresses hold an IPv4 address, and at
// which four bytes. Mapped addresses are not among them: they are IPv4
// addresses by the time they are judged.
var embeddings = []struct {
	prefix netip.Prefix
	at     [4]int
}{
	{nat64, [4]int{12, 13, 14, 15}},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{12, 13, 14, 15}},  // NAT64 of local use, RFC 8215, where it is a /96
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{6, 7, 9, 10}},     // and where it is a /48: RFC 6052, section 2.2
	{netip.MustParsePrefix("2002::/16"), [4]int{2, 3, 4, 5}},           // 6to4, RFC 3056
	{netip.MustParsePrefix("::/96"), [4]int{12, 13, 14, 15}},           // IPv4-compatible, RFC 4291
	{netip.MustParsePrefix("::ffff:0:0:0/96"), [4]int{12, 13, 14, 15}}, // IPv4-translated, RFC 2765
}

// BlockedError reports that the address of an endpoint may not be reached.
type BlockedError struct {
	Addr netip.Addr
	Why  string
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("address %s is blocked: %s", e.Addr, e.Why)
}

// guard judges addresses, not names: whatever a name is, what counts is where
// it leads. The table of what is not public comes from code.dny.dev/ssrf, which
// is generated from IANA's registries; the order of the rules, and what is
// embedded in an address, are decided here.
type guard struct {
	allow, deny []netip.Prefix
	public      *ssrf.Guardian
}

func newGuard(allow, deny []netip.Prefix) *guard {
	return &guard{allow: unmapped(allow), deny: unmapped(deny), public: ssrf.New(ssrf.WithAnyPort())}
}

// unmapped returns prefixes with those of IPv4-mapped addresses as the IPv4
// prefixes that they are, since addresses are judged in that form.
func unmapped(prefixes []netip.Prefix) []netip.Prefix {
	var all []netip.Prefix
	for _, p := range prefixes {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		all = append(all, p)
	}
	return all
}

// judge returns a *BlockedError if addr may not be reached: cloud metadata
// never, then what is denied, then what is neither allowed nor public. What
// an address embeds counts for the first two too. Zones are ignored.
func (g *guard) judge(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() {
		return &BlockedError{Addr: addr, Why: "it is none"}
	}
	forms := append([]netip.Addr{addr}, embedded(addr)...)
	for _, form := range forms {
		for _, m := range metadata {
			if form == m {
				return &BlockedError{Addr: addr, Why: "it serves cloud credentials"}
			}
		}
	}
	for _, form := range forms {
		if p, ok := holds(g.deny, form); ok {
			return &BlockedError{Addr: addr, Why: "egress.deny holds " + p.String()}
		}
	}
	if _, ok := holds(g.allow, addr); ok {
		return nil
	}
	if nat64.Contains(addr) {
		if g.judge(embedded(addr)[0]) == nil {
			return nil
		}
	} else if g.public.SafeAddr(addr) == nil {
		return nil
	}
	return &BlockedError{Addr: addr, Why: "it is not a public address and egress.allow does not hold it"}
}

func holds(prefixes []netip.Prefix, addr netip.Addr) (netip.Prefix, bool) {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// embedded returns the IPv4 addresses that addr leads to, or would on a
// machine that knows such a tunnel.
func embedded(addr netip.Addr) []netip.Addr {
	if addr.Is4() {
		return nil
	}
	var all []netip.Addr
	bytes := addr.As16()
	for _, e := range embeddings {
		if e.prefix.Contains(addr) {
			all = append(all, netip.AddrFrom4([4]byte{bytes[e.at[0]], bytes[e.at[1]], bytes[e.at[2]], bytes[e.at[3]]}))
		}
	}
	return all
}

// control is a net.Dialer's Control: it sees the address that is about to be
// connected to. It is the second line; the first is dialer.resolve.
func (g *guard) control(_, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("judge address: %w", err)
	}
	return g.judge(target.Addr())
}
