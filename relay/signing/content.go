package signing

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
)

// algorithm indexes algorithms.
type algorithm int

var algorithms = [...]struct {
	name string
	new  func() hash.Hash
	size int // bytes of a digest
}{
	{"sha1", sha1.New, sha1.Size},
	{"sha256", sha256.New, sha256.Size},
	{"sha512", sha512.New, sha512.Size},
}

const sha256Algorithm algorithm = 1

func parseAlgorithm(name string) (algorithm, error) {
	var names []string
	for i, a := range algorithms {
		if a.name == name {
			return algorithm(i), nil
		}
		names = append(names, a.name)
	}
	return 0, fmt.Errorf("algorithm: unknown %q; allowed: %s", name, strings.Join(names, ", "))
}

// encoding is the name of one, as it stands in the configuration.
type encoding string

const (
	encodeHex       encoding = "hex"
	encodeBase64    encoding = "base64"
	encodeBase64URL encoding = "base64url"
)

func parseEncoding(name string) (encoding, error) {
	switch e := encoding(name); e {
	case encodeHex, encodeBase64, encodeBase64URL:
		return e, nil
	default:
		return "", fmt.Errorf("encoding: unknown %q; allowed: hex, base64, base64url", name)
	}
}

func (e encoding) append(dst, src []byte) []byte {
	switch e {
	case encodeBase64:
		return base64.StdEncoding.AppendEncode(dst, src)
	case encodeBase64URL:
		return base64.URLEncoding.AppendEncode(dst, src)
	default:
		return hex.AppendEncode(dst, src)
	}
}

// length is how many characters size bytes take.
func (e encoding) length(size int) int {
	if e == encodeHex {
		return hex.EncodedLen(size)
	}
	return base64.StdEncoding.EncodedLen(size)
}

// The placeholders of templates. A part that is none of them is literal text.
const (
	idPart        = "{id}"
	timestampPart = "{timestamp}"
	bodyPart      = "{body}"
	signaturePart = "{signature}"
)

// template is a text split into literals and placeholders.
type template []string

// parseTemplate splits text. Each placeholder must be one of allowed and may
// stand once. field is what errors name.
func parseTemplate(field, text string, allowed ...string) (template, error) {
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("%s: has %d bytes, at most %d are allowed", field, len(text), maxTemplate)
	}
	var t template
	for text != "" {
		open := strings.IndexByte(text, '{')
		if open < 0 {
			return append(t, text), nil
		}
		if open > 0 {
			t = append(t, text[:open])
		}
		text = text[open:]
		end := strings.IndexByte(text, '}') + 1
		if end == 0 || !slices.Contains(allowed, text[:end]) {
			return nil, fmt.Errorf("%s: unknown placeholder at %q; allowed: %s", field, text, strings.Join(allowed, " "))
		}
		if t.has(text[:end]) {
			return nil, fmt.Errorf("%s: must hold %s once", field, text[:end])
		}
		t = append(t, text[:end])
		text = text[end:]
	}
	return t, nil
}

func (t template) has(part string) bool { return slices.Contains(t, part) }

// checkBoundaries refuses contents that two messages can share: with
// {id}:{body}, the signature of id a and body b:c is that of id a:b and body c.
// A reader must find each end, from the left up to {body} and from the right
// behind it, since a body may hold anything. The content holds {body}.
func checkBoundaries(content template) error {
	body := slices.Index(content, bodyPart)
	for i, part := range content {
		var rule string
		switch part {
		case idPart:
			rule = "a dot, comma, space or line break, which ids cannot hold"
		case timestampPart:
			rule = "something other than a digit or placeholder"
		default:
			continue
		}
		if i < body {
			if next := content[i+1]; content.isPlaceholder(i+1) || continues(part, next[0]) {
				return fmt.Errorf("content: %s must be followed by %s", part, rule)
			}
		} else if last := content[i-1]; content.isPlaceholder(i-1) || continues(part, last[len(last)-1]) {
			return fmt.Errorf("content: %s must come after %s", part, rule)
		}
	}
	return nil
}

func (t template) isPlaceholder(i int) bool {
	return t[i] == idPart || t[i] == timestampPart || t[i] == bodyPart
}

// continues reports whether c could belong to what part stands for.
func continues(part string, c byte) bool {
	if part == timestampPart {
		return c >= '0' && c <= '9'
	}
	return inID(c)
}

// appendPart appends what a part other than body and signature stands for.
func appendPart(dst []byte, part, id string, unix int64) []byte {
	switch part {
	case idPart:
		return append(dst, id...)
	case timestampPart:
		return strconv.AppendInt(dst, unix, 10)
	default:
		return append(dst, part...)
	}
}

// digest is how a scheme computes one signature.
type digest struct {
	algorithm algorithm
	encoding  encoding
	content   template
}

// append appends the encoded signature under k to dst.
func (d digest) append(dst []byte, id string, unix int64, body []byte, k Key) []byte {
	m := k.mac(d.algorithm)
	defer k.putMAC(d.algorithm, m)
	for _, part := range d.content {
		if part == bodyPart {
			m.hash.Write(body)
			continue
		}
		m.scratch = appendPart(m.scratch[:0], part, id, unix)
		m.hash.Write(m.scratch)
	}
	m.scratch = m.hash.Sum(m.scratch[:0])
	return d.encoding.append(dst, m.scratch)
}

// matches reports whether any of the signatures is by any of the keys. How
// long it takes depends on how many there are, not on what they hold.
func (d digest) matches(signatures []string, id string, unix int64, body []byte, keys []Key) bool {
	found := 0
	for _, k := range keys {
		want := d.append(nil, id, unix, body, k)
		for _, got := range signatures {
			found |= subtle.ConstantTimeCompare([]byte(got), want)
		}
	}
	return found == 1
}
