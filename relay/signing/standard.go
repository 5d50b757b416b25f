package signing

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// standardPrefix is what the headers of Standard Webhooks begin with.
	standardPrefix = "webhook"
	maxPrefix      = 64 // bytes of Options.Prefix
	// maxAsymmetric bounds how many v1a signatures Verify looks at: each costs
	// the time of hashing the body.
	maxAsymmetric = 16
)

// standard is https://www.standardwebhooks.com, with the signatures v1 by
// shared secrets and v1a by Ed25519 keys.
type standard struct {
	idHeader, timestampHeader, signatureHeader string

	digest digest // of v1
}

// newStandard refuses options that it would not use: all but the prefix is fixed.
func newStandard(o Options) (method, error) {
	if err := checkFixed(o, fieldHeader, fieldAlgorithm, fieldEncoding, fieldContent, fieldValue); err != nil {
		return nil, err
	}
	prefix := orDefault(o.Prefix, standardPrefix)
	if !isToken(prefix) || len(prefix) > maxPrefix {
		return nil, fmt.Errorf("prefix: %q does not begin a header's name; allowed: up to %d letters, digits and -", prefix, maxPrefix)
	}
	return &standard{
		idHeader: prefix + "-id", timestampHeader: prefix + "-timestamp", signatureHeader: prefix + "-signature",
		digest: digest{
			algorithm: sha256Algorithm,
			encoding:  encodeBase64,
			content:   template{idPart, ".", timestampPart, ".", bodyPart},
		},
	}, nil
}

func (s *standard) headerNames() []string {
	return []string{s.idHeader, s.timestampHeader, s.signatureHeader}
}

func (*standard) checkKey(Key) error { return nil }

func (s *standard) sign(m Message, keys []Key) ([]Header, error) {
	if err := checkID(m.ID); err != nil {
		return nil, err
	}
	if err := checkTime(m.Timestamp); err != nil {
		return nil, err
	}
	unix := m.Timestamp.Unix()
	value := make([]byte, 0, 128)
	for i, k := range keys {
		if i > 0 {
			value = append(value, ' ')
		}
		pair := k.secret.pair
		switch {
		case pair == nil:
			value = append(value, "v1,"...)
			value = s.digest.append(value, m.ID, unix, m.Body, k)
		case pair.private == nil:
			return nil, errors.New("a key is public and can only verify: whpk_, where whsk_ signs")
		default:
			value = append(value, "v1a,"...)
			value = base64.StdEncoding.AppendEncode(value, ed25519.Sign(pair.private, standardContent(m.ID, unix, m.Body)))
		}
	}
	return []Header{
		{s.idHeader, m.ID},
		{s.timestampHeader, strconv.FormatInt(unix, 10)},
		{s.signatureHeader, string(value)},
	}, nil
}

// standardContent is what is signed, in one piece, as Ed25519 needs it.
func standardContent(id string, unix int64, body []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(id) + len(body) + 16)
	fmt.Fprintf(&b, "%s.%d.", id, unix)
	b.Write(body)
	return b.Bytes()
}

func (s *standard) verify(h http.Header, body []byte, keys []Key, now time.Time) error {
	id, err := headerValue(h, s.idHeader)
	if err != nil {
		return err
	}
	if checkID(id) != nil {
		return fmt.Errorf("%s: %w", s.idHeader, ErrMalformed)
	}
	timestamp, err := headerValue(h, s.timestampHeader)
	if err != nil {
		return err
	}
	unix, err := parseUnix(timestamp)
	if err != nil {
		return fmt.Errorf("%s: %w", s.timestampHeader, err)
	}
	value, err := headerValue(h, s.signatureHeader)
	if err != nil {
		return err
	}
	if err := checkFresh(unix, now); err != nil {
		return err
	}
	// Other versions may stand beside these.
	var shared, asymmetric []string
	for entry := range strings.SplitSeq(value, " ") {
		if signature, ok := strings.CutPrefix(entry, "v1,"); ok {
			shared = append(shared, signature)
		} else if signature, ok := strings.CutPrefix(entry, "v1a,"); ok {
			asymmetric = append(asymmetric, signature)
		}
	}
	if len(asymmetric) > maxAsymmetric {
		return fmt.Errorf("%s: %w", s.signatureHeader, ErrMalformed)
	}
	var secrets, pairs []Key
	for _, k := range keys {
		if k.secret.pair == nil {
			secrets = append(secrets, k)
		} else {
			pairs = append(pairs, k)
		}
	}
	if !s.digest.matches(shared, id, unix, body, secrets) && !verifiesAny(asymmetric, standardContent(id, unix, body), pairs) {
		return ErrMismatch
	}
	return nil
}

// verifiesAny reports whether any of the signatures is by any of the keys. What
// it compares is public.
func verifiesAny(signatures []string, content []byte, pairs []Key) bool {
	for _, text := range signatures {
		signature, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			continue
		}
		for _, k := range pairs {
			if ed25519.Verify(k.secret.pair.public, content, signature) {
				return true
			}
		}
	}
	return false
}
