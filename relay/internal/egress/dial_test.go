package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// serveAt serves at address and counts the requests; the port is chosen if it
// is 0. It returns the port.
func serveAt(t *testing.T, address string, requests *int) string {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		*requests++
		w.Header().Set("Connection", "close")
	})}}
	server.Start()
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// In the tests of rebinding 127.0.0.2 stands for a public address: it is the
// only one that may be reached. 127.0.0.1 is what a name is rebound to.
var public = prefixes("127.0.0.2/32")

func TestRebindingBetweenJudgingAndConnectingReachesNothing(t *testing.T) {
	port := forbidden(t)
	requests := 0
	serveAt(t, "127.0.0.2:"+port, &requests)
	resolver := &fakeResolver{answer: func(_ string, lookup int64) ([]netip.Addr, error) {
		if lookup == 1 {
			return []netip.Addr{netip.MustParseAddr("127.0.0.2")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}}
	c := newClient(t, Options{Allow: public, Resolver: resolver})
	if r := c.Send(t.Context(), newRequest(t, "http://rebound.example:"+port)); r.Err != nil || r.Status != 200 || r.DNS <= 0 || requests != 1 {
		t.Errorf("got %+v and %d requests, want one at the address that was judged", r, requests)
	}
	if n := resolver.asked.Load(); n != 1 {
		t.Errorf("the name was looked up %d times, want once", n)
	}
	for range 3 {
		var blocked *BlockedError
		if r := c.Send(t.Context(), newRequest(t, "http://rebound.example:"+port)); !errors.As(r.Err, &blocked) {
			t.Errorf("got %v, want that the new address is blocked", r.Err)
		}
	}
	if requests != 1 {
		t.Errorf("%d requests, want 1", requests)
	}
}

func TestHostWithAnyForbiddenAddressIsRefused(t *testing.T) {
	port := forbidden(t)
	requests := 0
	serveAt(t, "127.0.0.2:"+port, &requests)
	for _, answer := range [][]string{
		{"127.0.0.2", "127.0.0.1"},
		{"127.0.0.1", "127.0.0.2"},
		{"127.0.0.2", "::1"},
		{"127.0.0.2", "::ffff:127.0.0.1"},
		{"127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.2", "10.0.0.1"},
		{"127.0.0.2", "169.254.169.254"},
	} {
		r := newClient(t, Options{Allow: public, Resolver: fixed(answer...)}).Send(t.Context(), newRequest(t, "http://mixed.example:"+port))
		var blocked *BlockedError
		if !errors.As(r.Err, &blocked) || blocked.Addr == public[0].Addr() {
			t.Errorf("%v: got %v, want that the forbidden address is blocked", answer, r.Err)
		}
	}
	if requests != 0 {
		t.Errorf("%d requests, want none", requests)
	}
}

func TestControlIsASecondLine(t *testing.T) {
	port := forbidden(t)
	_, err := newClient(t, Options{}).dialer.reach(t.Context(), netip.MustParseAddrPort("127.0.0.1:"+port))
	var blocked *BlockedError
	if !errors.As(err, &blocked) {
		t.Errorf("got %v", err)
	}
}

func TestUnknownHostIsAClearError(t *testing.T) {
	tests := []struct {
		name   string
		answer error
		want   string
	}{
		{"no such host", &net.DNSError{Err: "no such host", Name: "hooks.example", IsNotFound: true}, "cannot resolve hooks.example: no such host"},
		{"a failing server", &net.DNSError{Err: "server misbehaving", Name: "hooks.example", Server: "10.0.0.53:53"}, "cannot resolve hooks.example: server misbehaving"},
		{"another error", errors.New("no\nlines"), "cannot resolve hooks.example: no?lines"},
		{"no address", nil, "cannot resolve hooks.example: it has no address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resolver := &fakeResolver{answer: func(string, int64) ([]netip.Addr, error) { return nil, tt.answer }}
			r := newClient(t, Options{Resolver: resolver}).Send(t.Context(), newRequest(t, "https://u:hunter2@hooks.example/secret"))
			if r.Err == nil || r.Err.Error() != tt.want {
				t.Errorf("got %v, want %s", r.Err, tt.want)
			}
		})
	}
}

func TestRefusedConnectionIsAClearError(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	r := newClient(t, Options{Allow: loopback}).Send(t.Context(), newRequest(t, "http://u:hunter2@"+address))
	if want := "connect to " + address + ": connection refused"; r.Err == nil || r.Err.Error() != want || !errors.Is(r.Err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want %s", r.Err, want)
	}
}

// network is a reach that notes when which address is tried.
type network struct {
	mu    sync.Mutex
	start time.Time
	tried []string
	// conns are those that were given away.
	conns  []*countingConn
	answer map[string]func(ctx context.Context) error
}

type countingConn struct {
	net.Conn
	closed bool
}

func (c *countingConn) Close() error {
	c.closed = true
	return nil
}

func (n *network) reach(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	n.tried = append(n.tried, fmt.Sprintf("%s after %s", target.Addr(), time.Since(n.start)))
	n.mu.Unlock()
	if err := n.answer[target.Addr().String()](ctx); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns = append(n.conns, new(countingConn))
	return n.conns[len(n.conns)-1], nil
}

func never(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// after returns what connects, or fails, after d whatever becomes of ctx.
func after(d time.Duration, err error) func(context.Context) error {
	return func(context.Context) error {
		time.Sleep(d)
		return err
	}
}

func TestAddressesAreTriedInTurn(t *testing.T) {
	failure := errors.New("refused")
	tests := []struct {
		name   string
		addrs  []string
		answer map[string]func(context.Context) error
		want   []string // "address after time"
		err    error
	}{
		{
			"one address", []string{"1.0.0.1"},
			map[string]func(context.Context) error{"1.0.0.1": after(time.Second, nil)},
			[]string{"1.0.0.1 after 0s"}, nil,
		},
		{
			"the first is soon enough", []string{"1.0.0.1", "1.0.0.2"},
			map[string]func(context.Context) error{"1.0.0.1": after(299*time.Millisecond, nil)},
			[]string{"1.0.0.1 after 0s"}, nil,
		},
		{
			"one family is dead", []string{"2600::1", "2600::2", "1.0.0.1", "1.0.0.2"},
			map[string]func(context.Context) error{"2600::1": never, "1.0.0.1": after(100*time.Millisecond, nil)},
			[]string{"2600::1 after 0s", "1.0.0.1 after 300ms"}, nil,
		},
		{
			"a failure brings the next at once", []string{"1.0.0.1", "1.0.0.2", "2600::1"},
			map[string]func(context.Context) error{"1.0.0.1": after(50*time.Millisecond, failure), "2600::1": after(0, nil)},
			[]string{"1.0.0.1 after 0s", "2600::1 after 50ms"}, nil,
		},
		{
			"the loser is closed", []string{"1.0.0.1", "1.0.0.2"},
			map[string]func(context.Context) error{"1.0.0.1": after(500*time.Millisecond, nil), "1.0.0.2": after(100*time.Millisecond, nil)},
			[]string{"1.0.0.1 after 0s", "1.0.0.2 after 300ms"}, nil,
		},
		{
			"all fail", []string{"1.0.0.1", "1.0.0.2"},
			map[string]func(context.Context) error{"1.0.0.1": after(0, failure), "1.0.0.2": after(0, errors.New("another"))},
			[]string{"1.0.0.1 after 0s", "1.0.0.2 after 0s"}, failure,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{start: time.Now(), answer: tt.answer}
				d := &dialer{resolver: fixed(tt.addrs...), guard: newGuard(nil, nil), reach: n.reach}
				conn, err := d.dial(t.Context(), "tcp", "hooks.example:443")
				if !slices.Equal(n.tried, tt.want) || !errors.Is(err, tt.err) {
					t.Errorf("got %v, %v, want %v, %v", n.tried, err, tt.want, tt.err)
				}
				for _, c := range n.conns {
					if c.closed == (c == conn) {
						t.Errorf("connection closed: %t, in use: %t", c.closed, c == conn)
					}
				}
			})
		})
	}
}

func TestAddressesOfOneHostAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{start: time.Now(), answer: map[string]func(context.Context) error{}}
		var addrs []string
		for i := range 100 {
			addr := fmt.Sprintf("1.0.0.%d", i+1)
			addrs, n.answer[addr] = append(addrs, addr), never
		}
		d := &dialer{resolver: fixed(addrs...), guard: newGuard(nil, nil), reach: n.reach}
		_, err := d.dial(t.Context(), "tcp", "hooks.example:443")
		if took := time.Since(n.start); len(n.tried) != maxAddresses || err == nil || took != dialTimeout {
			t.Errorf("%d addresses were tried in %s, then %v", len(n.tried), took, err)
		}
	})
}

func TestDialEndsWithItsAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{start: time.Now(), answer: map[string]func(context.Context) error{"1.0.0.1": never}}
		c := newClient(t, Options{Resolver: fixed("1.0.0.1")})
		ended := make(chan time.Duration, 1)
		c.dialer.reach = func(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
			defer func() { ended <- time.Since(n.start) }()
			return n.reach(ctx, target)
		}
		q := newRequest(t, "http://hooks.example")
		q.Timeout = 700 * time.Millisecond
		r := c.Send(t.Context(), q)
		if r.Err == nil || r.Err.Error() != "no complete answer within 700ms" || r.Total != q.Timeout {
			t.Errorf("got %v after %s", r.Err, r.Total)
		}
		if at := <-ended; at != q.Timeout {
			t.Errorf("the dial ended after %s", at)
		}
	})
}

func TestNamesForResolvers(t *testing.T) {
	tests := map[string]bool{
		"hooks.example": true, "HOOKS.example.": true, "a": true, "receiver_1": true, "xn--bcher-kva.example": true, "0x7f.example": true, "1.2.3.4.example": true, "3com": true, "0xg": true,
		strings.Repeat("a", 63) + ".example": true, strings.Repeat("a.", 126) + "b": true,
		"": false, ".": false, "a..b": false, "..": false, "a b": false, "a\x00b": false, "bücher.example": false, "a%b": false, "a:b": false, "a/b": false,
		"1": false, "example.1": false, "example.0x": false, "example.0xfF": false, strings.Repeat("a", 64): false, strings.Repeat("a.", 127) + "b": false,
	}
	for name, want := range tests {
		if err := checkName(name); (err == nil) != want {
			t.Errorf("%q: got %v, want accepted: %t", name, err, want)
		}
	}
}

func TestPortsOutOfRangeAreRefused(t *testing.T) {
	for _, port := range []string{"0", "65536", "80000"} {
		r := newClient(t, Options{}).Send(t.Context(), newRequest(t, "http://93.184.216.34:"+port))
		if r.Err == nil || !strings.Contains(r.Err.Error(), "port") {
			t.Errorf("%s: got %v", port, r.Err)
		}
	}
}
