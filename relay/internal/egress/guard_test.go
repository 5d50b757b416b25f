package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// allowAll is as much as anybody can allow.
var allowAll = Options{Allow: prefixes("0.0.0.0/0", "::/0")}

func TestGuard(t *testing.T) {
	tests := []struct {
		address string
		options Options
		allowed bool
	}{
		// Public, and what stands beside what is not.
		{"93.184.216.34", Options{}, true},
		{"9.255.255.255", Options{}, true},
		{"11.0.0.0", Options{}, true},
		{"100.63.255.255", Options{}, true},
		{"100.128.0.0", Options{}, true},
		{"172.15.255.255", Options{}, true},
		{"172.32.0.0", Options{}, true},
		{"168.63.129.17", Options{}, true},
		{"223.255.255.255", Options{}, true},
		{"2606:2800:220:1:248:1893:25c8:1946", Options{}, true},
		{"2a00:1450:4001:82a::200e", Options{}, true},
		// Not public.
		{"127.0.0.1", Options{}, false},
		{"127.255.255.254", Options{}, false},
		{"10.1.2.3", Options{}, false},
		{"192.168.1.1", Options{}, false},
		{"172.16.0.1", Options{}, false},
		{"172.31.255.255", Options{}, false},
		{"100.64.0.1", Options{}, false},
		{"100.127.255.255", Options{}, false},
		{"169.254.1.1", Options{}, false},
		{"0.0.0.0", Options{}, false},
		{"0.1.2.3", Options{}, false},
		{"224.0.0.1", Options{}, false},
		{"239.255.255.250", Options{}, false},
		{"240.0.0.1", Options{}, false},
		{"255.255.255.255", Options{}, false},
		{"192.0.0.1", Options{}, false},
		{"192.0.2.1", Options{}, false},
		{"198.51.100.1", Options{}, false},
		{"203.0.113.1", Options{}, false},
		{"198.18.0.1", Options{}, false},
		{"198.19.255.255", Options{}, false},
		{"192.88.99.1", Options{}, false},
		{"::", Options{}, false},
		{"::1", Options{}, false},
		{"fe80::1%eth0", Options{}, false},
		{"febf::1", Options{}, false},
		{"fec0::1", Options{}, false},
		{"fc00::1", Options{}, false},
		{"fdff:ffff::1", Options{}, false},
		{"ff02::1", Options{}, false},
		{"ff0e::1", Options{}, false},
		{"100::1", Options{}, false},
		{"2001::1", Options{}, false},                // Teredo
		{"2001:2::1", Options{}, false},              // benchmarking
		{"2001:10::1", Options{}, false},             // ORCHID
		{"2001:20::1", Options{}, false},             // ORCHIDv2
		{"2001:db8::1", Options{}, false},            // documentation
		{"3fff:fff::1", Options{}, false},            // documentation
		{"2002:5db8:d822::1", Options{}, false},      // 6to4 of a public address
		{"2002:7f00:1::", Options{}, false},          // 6to4 of 127.0.0.1
		{"5f00::1", Options{}, false},                // SRv6
		{"::127.0.0.1", Options{}, false},            // compatible
		{"::93.184.216.34", Options{}, false},        // compatible
		{"::ffff:0:93.184.216.34", Options{}, false}, // translated
		{"64:ff9b::7f00:1", Options{}, false},
		{"64:ff9b::10.0.0.1", Options{}, false},
		{"64:ff9b::93.184.216.34", Options{}, true},
		{"64:ff9b:1::93.184.216.34", Options{}, false},
		{"::ffff:127.0.0.1", Options{}, false},
		{"::ffff:a01:203", Options{}, false},
		{"::ffff:93.184.216.34", Options{}, true},
		// Allowed.
		{"127.0.0.1", Options{Allow: loopback}, true},
		{"::ffff:127.0.0.1", Options{Allow: loopback}, true},
		{"64:ff9b::127.0.0.1", Options{Allow: loopback}, true},
		{"::127.0.0.1", Options{Allow: loopback}, false},
		{"127.0.0.1", Options{Allow: prefixes("::ffff:127.0.0.0/104")}, true},
		{"10.1.2.3", Options{Allow: prefixes("10.0.0.0/8")}, true},
		{"::1", Options{Allow: prefixes("::1/128")}, true},
		{"fe80::1%eth0", Options{Allow: prefixes("fe80::/10")}, true},
		{"2002:5db8:d822::1", Options{Allow: prefixes("2002::/16")}, true},
		{"127.0.0.1", Options{Allow: prefixes("::/0")}, false},
		// Denied, which wins.
		{"127.0.0.1", Options{Allow: loopback, Deny: prefixes("127.0.0.1/32")}, false},
		{"::ffff:127.0.0.1", Options{Allow: allowAll.Allow, Deny: prefixes("127.0.0.1/32")}, false},
		{"127.0.0.1", Options{Allow: allowAll.Allow, Deny: prefixes("::ffff:127.0.0.1/128")}, false},
		{"93.184.216.34", Options{Deny: prefixes("93.0.0.0/8")}, false},
		{"64:ff9b::93.184.216.34", Options{Deny: prefixes("93.0.0.0/8")}, false},
		{"2002:5db8:d822::1", Options{Allow: allowAll.Allow, Deny: prefixes("93.0.0.0/8")}, false},
		{"2606:2800:220:1:248:1893:25c8:1946", Options{Deny: prefixes("2606::/16")}, false},
		// Never.
		{"169.254.169.254", allowAll, false},
		{"169.254.170.2", allowAll, false},
		{"169.254.170.23", allowAll, false},
		{"169.254.0.23", allowAll, false},
		{"169.254.42.42", allowAll, false},
		{"100.100.100.200", allowAll, false},
		{"168.63.129.16", allowAll, false},
		{"192.0.0.192", allowAll, false},
		{"fd00:ec2::254", allowAll, false},
		{"fd00:ec2::23", allowAll, false},
		{"fd20:ce::254", allowAll, false},
		{"fd00:c1::a9fe:a9fe", allowAll, false},
		{"fd00:42::42", allowAll, false},
		{"fd00:a9fe:a9fe::1", allowAll, false},
		{"fe80::a9fe:a9fe%eth0", allowAll, false},
		{"::ffff:169.254.169.254", allowAll, false},
		{"::169.254.169.254", allowAll, false},
		{"::ffff:0:169.254.169.254", allowAll, false},
		{"64:ff9b::169.254.169.254", allowAll, false},
		{"64:ff9b:1::169.254.169.254", allowAll, false},
		{"64:ff9b:1:a9fe:a9:fe00::", allowAll, false},
		{"2002:a9fe:a9fe::1", allowAll, false},
	}
	for _, tt := range tests {
		t.Run(tt.address, func(t *testing.T) {
			g := newGuard(tt.options.Allow, tt.options.Deny)
			addr := netip.MustParseAddr(tt.address)
			for by, err := range map[string]error{
				"judge":   g.judge(addr),
				"control": g.control("tcp", netip.AddrPortFrom(addr, 80).String(), nil),
			} {
				var blocked *BlockedError
				if (err == nil) != tt.allowed || err != nil && !errors.As(err, &blocked) {
					t.Errorf("%s with %+v: got %v, allowed should be %t", by, tt.options, err, tt.allowed)
				}
			}
		})
	}
}

func TestGuardRefusesWhatIsNoAddress(t *testing.T) {
	g := newGuard(allowAll.Allow, nil)
	if g.judge(netip.Addr{}) == nil || g.control("tcp", "localhost:80", nil) == nil || g.control("tcp", "", nil) == nil {
		t.Error("it was allowed")
	}
}

// fakeResolver answers as the test says and counts the look-ups.
type fakeResolver struct {
	answer func(host string, lookup int64) ([]netip.Addr, error)
	asked  atomic.Int64
}

func (r *fakeResolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return r.answer(host, r.asked.Add(1))
}

// fixed returns a resolver that answers always the same.
func fixed(addrs ...string) *fakeResolver {
	return &fakeResolver{answer: func(string, int64) ([]netip.Addr, error) {
		var all []netip.Addr
		for _, addr := range addrs {
			all = append(all, netip.MustParseAddr(addr))
		}
		return all, nil
	}}
}

// forbidden listens on both loopback addresses at one port, which it returns.
// The test fails if anybody connects.
func forbidden(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	v4, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(v4.Addr().String())
	listeners := []net.Listener{v4}
	if v6, err := lc.Listen(t.Context(), "tcp", "[::1]:"+port); err == nil { // not every machine has it
		listeners = append(listeners, v6)
	}
	done := make(chan struct{})
	for _, l := range listeners {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					done <- struct{}{}
					return
				}
				t.Errorf("%s was reached", l.Addr())
				_ = c.Close()
			}
		}()
	}
	t.Cleanup(func() {
		for _, l := range listeners {
			_ = l.Close()
			<-done
		}
	})
	return port
}

func TestNoSpellingReachesAListener(t *testing.T) {
	const (
		blocked  = "blocked"        // by its address
		lookedUp = "looked up"      // and then blocked by its address
		unknown  = "cannot resolve" // and was not looked up
		noURL    = "no URL"
	)
	tests := []struct{ host, want string }{
		{"127.0.0.1", blocked},
		{"127.0.0.2", blocked},
		{"127.255.255.254", blocked},
		{"0.0.0.0", blocked},
		{"10.0.0.1", blocked},
		{"192.168.0.1", blocked},
		{"169.254.169.254", blocked},
		{"100.100.100.200", blocked},
		{"168.63.129.16", blocked},
		{"255.255.255.255", blocked},
		{"127.0.0.1.", unknown},
		{"127.0.0.1..", unknown},
		{"127.1", unknown},
		{"127.1.", unknown},
		{"127.0.1", unknown},
		{"127", unknown},
		{"0", unknown},
		{"0.", unknown},
		{"00000", unknown},
		{"2130706433", unknown},
		{"017700000001", unknown},
		{"0x7f000001", unknown},
		{"0X7F000001", unknown},
		{"0x7f.0.0.1", unknown},
		{"0x7f.1", unknown},
		{"0x7F.0x0.0x0.0x1", unknown},
		{"0x7f.0.0.0x1.", unknown},
		{"0x", unknown},
		{"127.0.0.0x", unknown},
		{"0177.0.0.1", unknown},
		{"0177.0.0.01", unknown},
		{"0177.1", unknown},
		{"00127.0.0.1", unknown},
		{"127.0.0.01", unknown},
		{"127.000.000.001", unknown},
		{"127.0.0.256", unknown},
		{"127.0.0.0.1", unknown},
		{"4294967297", unknown},
		{"3232235521", unknown},
		{"2852039166", unknown},
		{"169.254.43518", unknown},
		{"0251.0376.0251.0376", unknown},
		{"0xa9.0xfe.0xa9.0xfe", unknown},
		{".127.0.0.1", unknown},
		{"127..1", unknown},
		{"-127.0.0.1", unknown},
		{"127.0.0.1-", lookedUp}, // an ordinary name to resolvers
		{"１２７.０.０.１", blocked},   // full width, which IDNA folds
		{"①②⑦.⓪.⓪.①", blocked},
		{"127。0。0。1", blocked}, // ideographic full stops
		{"１２７.１", unknown},
		{"０x７f.１", unknown},
		{"[::1]", blocked},
		{"[::]", blocked},
		{"[0:0:0:0:0:0:0:1]", blocked},
		{"[0000:0000:0000:0000:0000:0000:0000:0001]", blocked},
		{"[::0.0.0.1]", blocked},
		{"[::127.0.0.1]", blocked},
		{"[::7f00:1]", blocked},
		{"[::ffff:127.0.0.1]", blocked},
		{"[::FFFF:7F00:1]", blocked},
		{"[0:0:0:0:0:ffff:127.0.0.1]", blocked},
		{"[::ffff:0:127.0.0.1]", blocked},
		{"[::ffff:169.254.169.254]", blocked},
		{"[64:ff9b::127.0.0.1]", blocked},
		{"[64:ff9b::a9fe:a9fe]", blocked},
		{"[64:ff9b:1::7f00:1]", blocked},
		{"[2002:7f00:1::]", blocked},
		{"[2001:0:7f00:1::]", blocked},
		{"[fe80::1%25eth0]", blocked},
		{"[fe80::1%25lo]", blocked},
		{"[::1%25lo]", blocked},
		{"[::1%251]", blocked},
		{"[::ffff:127.0.0.1%25lo]", blocked},
		{"[fec0::1]", blocked},
		{"[fd00:ec2::254]", blocked},
		{"[127.0.0.1]", noURL},
		{"[::ffff:0x7f.1]", noURL},
		{"[::ffff:127.1]", noURL},
		{"[::1", noURL},
		{"%31%32%37.0.0.1", noURL},
		{"127.0.0.1%00", noURL},
		{"127.0.0.1%20", noURL},
		{"127.0.0.1%2f", noURL},
		{"localhost", lookedUp},
		{"LocalHost", lookedUp},
		{"localhost.", lookedUp},
		{"localhost..", unknown},
		{"localhost.localdomain", lookedUp},
		{"ip6-localhost", lookedUp},
		{"ｌｏｃａｌｈｏｓｔ", lookedUp},
		{"127.0.0.1.hooks.example", lookedUp},
		{"7f000001.hooks.example", lookedUp},
		{"hooks.example@127.0.0.1", blocked},
		{"127.0.0.1@localhost", lookedUp},
		{"lo_cal.example", lookedUp},
		{"bücher.example", lookedUp},
		{"%e2%80%8b.example", unknown},
		{"local%ffhost", lookedUp},
		{"a b.example", noURL},
		{"*.example", unknown},
		{strings.Repeat("a", 64) + ".example", unknown},
		{strings.Repeat("a.", 127) + "example", unknown},
		{"", unknown},
	}
	port := forbidden(t)
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			u, err := url.Parse(fmt.Sprintf("http://%s:%s/", tt.host, port))
			if err != nil || tt.want == noURL {
				if err == nil || tt.want != noURL {
					t.Fatalf("parsed to %v, %v, want %s", u, err, tt.want)
				}
				return
			}
			// Like a system's resolver, this one takes every name for an address.
			resolver := fixed("127.0.0.1", "::1")
			r := newClient(t, Options{Resolver: resolver}).Send(t.Context(), &Request{Method: "POST", URL: u, Timeout: 5 * time.Second})
			var address *BlockedError
			var name *resolveError
			isBlocked, isUnknown := errors.As(r.Err, &address), errors.As(r.Err, &name) || tt.host == "" && r.Err != nil
			if isBlocked != (tt.want == blocked || tt.want == lookedUp) || isUnknown != (tt.want == unknown) || (resolver.asked.Load() > 0) != (tt.want == lookedUp) {
				t.Errorf("got %v after %d look-ups, want %s", r.Err, resolver.asked.Load(), tt.want)
			}
		})
	}
}

func TestLocalhostOfTheSystemIsRefused(t *testing.T) {
	r := newClient(t, Options{}).Send(t.Context(), newRequest(t, "http://localhost:"+forbidden(t)))
	var blocked *BlockedError
	if !errors.As(r.Err, &blocked) || !blocked.Addr.IsLoopback() {
		t.Errorf("got %v", r.Err)
	}
}
