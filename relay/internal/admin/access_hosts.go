package admin

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// hosts are the hosts that requests may be for: loopback ones, and those in
// here, in lower case. A page of another host whose name was pointed at the
// relay is refused by them.
type hosts map[string]bool

// newHosts returns the host of the address that is listened on, if it is one,
// and more.
func newHosts(listen string, more []string) hosts {
	h := hosts{}
	if host, _, err := net.SplitHostPort(listen); err == nil {
		more = append([]string{host}, more...)
	}
	for _, host := range more {
		if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
			if !ip.IsUnspecified() {
				h[ip.Unmap().String()] = true
			}
		} else if host != "" {
			h[strings.ToLower(host)] = true
		}
	}
	return h
}

// allow reports whether a request may be for the host of its Host header.
func (h hosts) allow(host string) bool {
	name := host
	if before, _, err := net.SplitHostPort(host); err == nil {
		name = before
	}
	if ip, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return ip.Unmap().IsLoopback() || h[ip.Unmap().String()]
	}
	name = strings.ToLower(name)
	return name == "localhost" || h[name]
}

// changes reports whether a request's method may change something.
func changes(r *http.Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

// sameOrigin reports whether a request was not made by a page of another host.
func sameOrigin(r *http.Request) bool {
	for _, origin := range r.Header.Values("Origin") {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || !strings.EqualFold(u.Host, r.Host) {
			return false
		}
	}
	return true
}

// sameSite reports whether a browser does not say that a page of another origin
// made the request.
func sameSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return true
	}
	return false
}

// harden sets what keeps browsers and caches from doing more with an answer
// than showing it.
func harden(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
}
