package admin

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Proxy is a proxy in front of the relay whose word counts: for the addresses
// of those behind it and, with a user header, for who they are. What others send
// in its headers is passed over.
type Proxy struct {
	From       []netip.Prefix // where it connects from
	UserHeader string         // names the user; "": it names nobody
	RoleHeader string         // names the user's role; "" for none
	Role       Role           // where none is named; 0 for none
}

// maxUser bounds a user's name, in bytes.
const maxUser = 128

// names reports whether the proxy says who somebody is.
func (p *Proxy) names() bool { return p != nil && p.UserHeader != "" }

// trusts reports whether an address is the proxy's.
func (p *Proxy) trusts(ip netip.Addr) bool {
	return p != nil && slices.ContainsFunc(p.From, func(net netip.Prefix) bool { return net.Contains(ip.Unmap()) })
}

// sent reports whether the proxy made the request.
func (p *Proxy) sent(r *http.Request) bool { return p.trusts(addressOf(r.RemoteAddr)) }

// addressOf returns the address of host:port or of a host alone; the zero one
// where there is none.
func addressOf(text string) netip.Addr {
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	ip, _ := netip.ParseAddr(strings.Trim(text, "[]"))
	return ip.Unmap().WithZone("")
}

// clientOf returns the address, without port, that a request comes from: by the
// proxy's word the last that is not the proxy's own.
func (p *Proxy) clientOf(r *http.Request) string {
	ip := addressOf(r.RemoteAddr)
	if !p.trusts(ip) {
		return addressText(ip, r.RemoteAddr)
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		before := addressOf(strings.TrimSpace(hop))
		if !before.IsValid() {
			break // what stands before it says whoever wrote this
		}
		if ip = before; !p.trusts(ip) {
			break
		}
	}
	return ip.String()
}

func addressText(ip netip.Addr, remote string) string {
	if ip.IsValid() {
		return ip.String()
	}
	return remote
}

// secure reports whether the browser speaks https to the proxy.
func (p *Proxy) secure(r *http.Request) bool {
	return p.sent(r) && r.Header.Get("X-Forwarded-Proto") == "https"
}

// user returns whom the proxy names, nobody where it names nobody, or why its
// word does not do. A request of the same browser must show the CSRF token that
// belongs to its cookie; a page sends one to who has none.
func (p *Proxy) user(r *http.Request, from string) (*Caller, *denial) {
	if !p.names() || !p.sent(r) {
		return nil, nil
	}
	named := r.Header.Values(p.UserHeader)
	if len(named) == 0 {
		return nil, nil
	}
	name := named[0]
	if len(named) > 1 || name == "" || len(name) > maxUser || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return nil, &denial{status: http.StatusForbidden, detail: "the proxy's header names no user"}
	}
	who := &Caller{Name: name, Role: p.Role, Via: viaProxy, From: from, ambient: true}
	if roles := r.Header.Values(p.RoleHeader); p.RoleHeader != "" && len(roles) > 0 {
		role, err := ParseRole(roles[0])
		if err != nil || len(roles) > 1 {
			return nil, &denial{status: http.StatusForbidden, detail: "the proxy's header names no role: viewer, operator or admin"}
		}
		who.Role = role
	}
	if who.Role == 0 {
		return nil, &denial{status: http.StatusForbidden, detail: "the proxy names no role for you"}
	}
	if c := p.cookies(r, proxyCookie); len(c) > 0 {
		who.csrf = c[0].csrf(name)
	}
	return who, nil
}

// A proxy's users log in where no relay sees it. One comes in anew who did not ask
// for anything for so long, as far as users are remembered.
const (
	arrivedFor  = 2 * time.Hour
	maxArrivals = 1024
)

// arrivals are the proxy's users who came in. It is safe for concurrent use.
type arrivals struct {
	mu   sync.Mutex
	seen map[string]time.Time // when they asked last
}

// again reports whether a user comes in now.
func (v *arrivals) again(name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	last, known := v.seen[name]
	if !known && len(v.seen) >= maxArrivals {
		delete(v.seen, oldest(v.seen, func(at time.Time) time.Time { return at }))
	}
	v.seen[name] = now
	return !known || now.Sub(last) >= arrivedFor
}
