package httpsig

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"

	"github.com/dunglas/httpsfv"

	"github.com/posthorn/posthorn/relay/signing"
)

// digestField is Content-Digest as a component.
const digestField = "content-digest"

// digests lists the algorithms of RFC 9530 that are not deprecated. The first
// is the one that is sent.
var digests = [...]struct {
	name string
	sum  func([]byte) []byte
}{
	{"sha-256", func(body []byte) []byte { sum := sha256.Sum256(body); return sum[:] }},
	{"sha-512", func(body []byte) []byte { sum := sha512.Sum512(body); return sum[:] }},
}

// digestValue returns the Content-Digest of body.
func digestValue(body []byte) string {
	value := append(make([]byte, 0, 64), digests[0].name...)
	value = append(value, "=:"...)
	value = base64.StdEncoding.AppendEncode(value, digests[0].sum(body))
	return string(append(value, ':'))
}

// checkDigest returns nil if a Content-Digest's values hold a digest that is
// known, and all such are body's.
func checkDigest(values []string, body []byte) error {
	sent, err := readDictionary(contentDigest, values)
	if err != nil {
		return err
	}
	known, equal := false, 1
	for _, digest := range digests {
		member, ok := sent.Get(digest.name)
		if !ok {
			continue
		}
		got, ok := byteSequence(member)
		if !ok {
			return fmt.Errorf("%s: %w", contentDigest, signing.ErrMalformed)
		}
		known = true
		equal &= subtle.ConstantTimeCompare(got, digest.sum(body))
	}
	if !known {
		return fmt.Errorf("%s: has neither sha-256 nor sha-512: %w", contentDigest, signing.ErrMalformed)
	}
	if equal == 0 {
		return fmt.Errorf("%s: %w", contentDigest, signing.ErrMismatch)
	}
	return nil
}

// readDictionary parses a header that is a dictionary of one to maxMembers
// members. Proxies may have split it over several lines.
func readDictionary(name string, values []string) (*httpsfv.Dictionary, error) {
	if len(values) == 0 {
		return nil, fmt.Errorf("%s: %w", name, signing.ErrMissing)
	}
	size := 0
	for _, value := range values {
		size += len(value) + len(", ")
	}
	if size > maxValue+len(", ") {
		return nil, fmt.Errorf("%s: %w", name, signing.ErrMalformed)
	}
	d, err := httpsfv.UnmarshalDictionary(values)
	if err != nil || len(d.Names()) == 0 || len(d.Names()) > maxMembers {
		return nil, fmt.Errorf("%s: %w", name, signing.ErrMalformed)
	}
	return d, nil
}

// byteSequence returns the bytes of a member that holds such.
func byteSequence(m httpsfv.Member) ([]byte, bool) {
	item, ok := m.(httpsfv.Item)
	if !ok {
		return nil, false
	}
	b, ok := item.Value.([]byte)
	return b, ok
}
