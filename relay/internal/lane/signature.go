package lane

import (
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/httpsig"
	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/signing"
)

// Signature signs each attempt: it adds its headers to q.
type Signature interface {
	Sign(q *egress.Request, delivery uuid.UUID, now time.Time) error
}

// BodySignature is a signature over the body, by relay/signing.
type BodySignature struct {
	Signer *signing.Signer
	Keys   []Key[signing.Key] // the current one first
}

// MessageSignature is a signature over the request, by relay/httpsig. It
// covers headers, so it stands behind the signatures whose headers it covers.
type MessageSignature struct {
	Signer *httpsig.Signer
	Keys   []Key[httpsig.Key] // the current one first
}

// Key is a signing key and when it stops being used; never if zero.
type Key[K any] struct {
	Key     K
	Expires time.Time
}

// current returns the keys that sign at now.
func current[K any](all []Key[K], now time.Time) []K {
	keys := make([]K, 0, len(all))
	for _, k := range all {
		if k.Expires.IsZero() || now.Before(k.Expires) {
			keys = append(keys, k.Key)
		}
	}
	return keys
}

// Sign adds the signature's headers.
func (s *BodySignature) Sign(q *egress.Request, delivery uuid.UUID, now time.Time) error {
	headers, err := s.Signer.Sign(signing.Message{ID: delivery.String(), Timestamp: now, Body: q.Body}, current(s.Keys, now))
	return add(q, headers, err)
}

// Sign adds Content-Digest, Signature-Input and Signature. The last two are
// lists: what another MessageSignature has put there stays in front.
func (s *MessageSignature) Sign(q *egress.Request, _ uuid.UUID, now time.Time) error {
	headers, err := s.Signer.Sign(httpsig.Message{Method: q.Method, URL: q.URL, Header: q.Header.HTTP(), Body: q.Body, Created: now}, current(s.Keys, now))
	for i, h := range headers {
		if earlier := q.Header.Values(h.Name); earlier != nil && h.Name != contentDigest {
			headers[i].Value = strings.Join(earlier, ", ") + ", " + h.Value
		}
	}
	return add(q, headers, err)
}

// contentDigest is the header that is the same for all MessageSignatures.
const contentDigest = "Content-Digest"

func add(q *egress.Request, headers []signing.Header, err error) error {
	for _, h := range headers {
		q.Header.Set(h.Name, h.Value)
	}
	return err
}
