package config

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func (v *validator) http(p place) {
	v.listen(p.field("listen"), v.cfg.HTTP.Listen)
	for i, host := range v.cfg.HTTP.Hosts {
		if at := p.field("hosts").item(i); !isHost(host) {
			v.problems.add(at, "must be a host's name or address, without scheme and port, got %s", shown(at.node))
		}
	}
	v.tokens(p.field("tokens"))
	v.frameAncestors(p.field("frame_ancestors"))
	v.proxyAuth(p.field("proxy_auth"))
}

func (v *validator) listen(p place, address string) {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		v.problems.add(p, "must be host:port such as 127.0.0.1:8080, got %s", shown(p.node))
	}
}

// isHost reports whether text is a host as a Host header names it, without a
// port. An IPv6 address may stand without its brackets.
func isHost(text string) bool {
	if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil {
		return true
	}
	return len(text) <= 253 && hostName.MatchString(text)
}

// A token is sent in a header. The shortest that is taken has 96 bits even
// where it is written in hex.
var (
	tokenName = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,63}$`)
	tokenText = regexp.MustCompile(`^[!-~]{24,512}$`)
)

func (v *validator) tokens(p place) {
	names, hashes := make(map[string]place), make(map[[32]byte]place)
	for i := range v.cfg.HTTP.Tokens {
		t := &v.cfg.HTTP.Tokens[i]
		if at := p.item(i).field("name"); at.given {
			if !tokenName.MatchString(t.Name) {
				v.problems.add(at, "must be 1 to 63 letters, digits and ._@-, got %s", shown(at.node))
			} else if other, ok := names[t.Name]; ok {
				v.problems.add(at, "is repeated: %q is %s in line %d already", t.Name, other.key(), other.node.line)
			} else {
				names[t.Name] = at
			}
		}
		at, hashed := p.item(i).field("token"), p.item(i).field("sha256")
		hash, err := t.Hash()
		switch {
		case at.given && hashed.given:
			v.problems.add(hashed, "is one too many: give token or sha256")
			continue
		case hashed.given:
			at = hashed
			if err != nil || t.SHA256 == "" {
				v.problems.add(at, "must be the token's SHA-256 as 64 hex digits; printf %%s \"$TOKEN\" | sha256sum prints it")
				continue
			}
		case !at.given:
			v.problems.add(at, "is required; or sha256")
			continue
		case !tokenText.MatchString(t.Token.Reveal()):
			v.problems.add(at, "must be 24 to 512 letters, digits and signs without spaces; openssl rand -hex 32 makes one")
			continue
		}
		if other, ok := hashes[hash]; ok {
			v.problems.add(at, "is the same as %s in line %d: each needs its own", other.key(), other.node.line)
		} else {
			hashes[hash] = at
		}
	}
}

// frameAncestor is an origin as a Content-Security-Policy takes it. What could
// end the list is no part of one.
var frameAncestor = regexp.MustCompile(`^https?://(\*\.)?[A-Za-z0-9._-]+(:[0-9]{1,5})?$`)

func (v *validator) frameAncestors(p place) {
	for i, origin := range v.cfg.HTTP.FrameAncestors {
		if at := p.item(i); !frameAncestor.MatchString(origin) {
			v.problems.add(at, "must be an origin such as https://app.example, without path, got %s", shown(at.node))
		}
	}
}

// notTheProxys are headers that name no user, whatever a proxy does.
var notTheProxys = []string{"authorization", "cookie", "host", "origin", "x-csrf-token", "x-forwarded-for", "x-forwarded-proto"}

func (v *validator) proxyAuth(p place) {
	auth := &v.cfg.HTTP.ProxyAuth
	for _, name := range []string{"user_header", "role_header"} {
		header := map[string]string{"user_header": auth.UserHeader, "role_header": auth.RoleHeader}[name]
		if at := p.field(name); header != "" && (!headerToken.MatchString(header) || slices.Contains(notTheProxys, strings.ToLower(header))) {
			v.problems.add(at, "must be a header's name that nothing else uses, got %s", shown(at.node))
		}
	}
	for i, net := range auth.From {
		if at := p.field("from").item(i); net.Bits() == 0 {
			v.problems.add(at, "would believe everybody: list the proxy's addresses")
		}
	}
	switch {
	case auth.UserHeader == "" && auth.RoleHeader != "":
		v.problems.add(p.field("role_header"), "has no use without user_header")
	case auth.UserHeader == "" && auth.Role != "":
		v.problems.add(p.field("role"), "has no use without user_header")
	case auth.UserHeader == "":
	case len(auth.From) == 0:
		v.problems.add(p.field("from"), "is required with user_header: the addresses that the proxy connects from")
	case auth.RoleHeader == "" && auth.Role == "":
		v.problems.add(p.field("user_header"), "needs role_header or role beside it")
	case strings.EqualFold(auth.UserHeader, auth.RoleHeader):
		v.problems.add(p.field("role_header"), "must be another header than user_header")
	}
}
