package config

import (
	"net"
	"net/netip"
	"regexp"
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
	names, texts := make(map[string]place), make(map[Secret]place)
	for i, t := range v.cfg.HTTP.Tokens {
		if at := p.item(i).field("name"); at.given {
			if !tokenName.MatchString(t.Name) {
				v.problems.add(at, "must be 1 to 63 letters, digits and ._@-, got %s", shown(at.node))
			} else if other, ok := names[t.Name]; ok {
				v.problems.add(at, "is repeated: %q is %s in line %d already", t.Name, other.key(), other.node.line)
			} else {
				names[t.Name] = at
			}
		}
		at := p.item(i).field("token")
		if !at.given {
			continue // reported as required
		}
		if !tokenText.MatchString(t.Token.Reveal()) {
			v.problems.add(at, "must be 24 to 512 letters, digits and signs without spaces; openssl rand -hex 32 makes one")
		} else if other, ok := texts[t.Token]; ok {
			v.problems.add(at, "is the same as %s in line %d: each needs its own", other.key(), other.node.line)
		} else {
			texts[t.Token] = at
		}
	}
}
