// Package signing signs webhook requests and verifies them. The relay signs
// with it; receivers may import it to verify. It needs only the standard
// library.
//
// A [Signer] is built once from [Options] and used by any number of
// goroutines. What is signed is the exact body that is sent: verify the bytes
// as they were read from the request, before any JSON decoder has seen them.
//
// # Schemes
//
// hmac is what most products do by hand: an HMAC in one header. Algorithm,
// encoding, the content that is signed and the header's value are free.
//
// standard-webhooks is https://www.standardwebhooks.com: the headers webhook-id,
// webhook-timestamp and webhook-signature, with a signature over
// "{id}.{timestamp}.{body}". The secret decides which: whsec_ and plain texts
// make HMAC-SHA256, version v1; whsk_, an Ed25519 key, makes v1a, which
// receivers verify by its public half, whpk_. Svix's headers are the same with
// the prefix svix.
//
// stripe is Stripe's: "t={timestamp},v1={signature}" in Stripe-Signature, with
// HMAC-SHA256 in hex over "{timestamp}.{body}".
//
// github is GitHub's: "sha256={signature}" in X-Hub-Signature-256, with
// HMAC-SHA256 in hex over the body. It holds no time, so that a request that
// was seen once can be sent again.
//
// # Rotation
//
// While a secret is being replaced, Sign is given the new key and then the old
// ones. standard-webhooks sends one signature for each of them, in the version
// that each key has, and stripe one v1 pair for each. hmac can do so
// only where the header's value has room for it: in a list of name=value pairs
// such as "t={timestamp},v1={signature}" the pair with the signature is
// repeated for each key. Any other value, github's too, carries the signature
// of the first key alone, because receivers compare it as a whole; those
// receivers must accept both secrets while one replaces the other. Verify
// accepts a signature by any of the keys it is given.
package signing

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Tolerance is how far a signed timestamp may lie in the past or the future
// for Verify to accept it.
const Tolerance = 5 * time.Minute

// Limits on what comes from outside, in bytes.
const (
	maxHeader   = 8 << 10 // a header's value that Verify reads
	maxTemplate = 1 << 10 // Options.Content and Options.Value
	maxID       = 256     // Message.ID
)

// What Verify's errors are, for errors.Is.
var (
	// ErrMissing: a header that the scheme needs is not there.
	ErrMissing = errors.New("signature header is missing")
	// ErrMalformed: a header is there, but not in the form that the scheme gives it.
	ErrMalformed = errors.New("signature header is malformed")
	// ErrExpired: the timestamp is further from now than Tolerance.
	ErrExpired = errors.New("signature timestamp is outside the tolerance")
	// ErrMismatch: no signature was made with any of the keys over this body.
	ErrMismatch = errors.New("signature does not match")
)

// Options says how requests are signed. Empty fields take the default. An id
// or timestamp that Value sends and Content leaves out is not protected.
type Options struct {
	Scheme    string // "hmac", "standard-webhooks", "stripe" or "github"; no default
	Header    string // hmac, stripe, github: the header that carries the value, e.g. X-Acme-Signature; default Stripe-Signature and X-Hub-Signature-256, none for hmac
	Algorithm string // hmac: "sha1", "sha256" (default) or "sha512"
	Encoding  string // hmac: "hex" (default, lower case), "base64" or "base64url", both padded
	Content   string // hmac: what is signed, of {id}, {timestamp} and {body}; default "{body}"
	Value     string // hmac: what is sent, of {signature}, {timestamp} and {id}; default "{signature}"
	Prefix    string // standard-webhooks: what the headers' names begin with, at most 64 bytes; default "webhook"
}

// Message is what one request says.
type Message struct {
	ID        string    // the delivery's id: printable ASCII without space, dot and comma, at most 256 bytes
	Timestamp time.Time // of this attempt; whole seconds are signed
	Body      []byte    // exactly as sent
}

// Header is one header of the request, its name as it was configured.
type Header struct{ Name, Value string }

// method is one signature scheme, ready to use by many goroutines.
type method interface {
	headerNames() []string
	checkKey(k Key) error // whether the method can use k
	sign(m Message, keys []Key) ([]Header, error)
	verify(h http.Header, body []byte, keys []Key, now time.Time) error
}

// scheme is what there is to know of a scheme before it is configured.
type scheme struct {
	configure func(Options) (method, error)
	parseKey  func(text string) (*secret, error)
}

// schemes lists what Options.Scheme may name.
var schemes = map[string]scheme{
	"hmac":              {configure: newHMAC, parseKey: parseTextKey},
	"standard-webhooks": {configure: newStandard, parseKey: parseStandardKey},
	"stripe":            {configure: newStripe, parseKey: parseTextKey},
	"github":            {configure: newGitHub, parseKey: parseTextKey},
}

func lookUpScheme(name string) (scheme, error) {
	s, ok := schemes[name]
	if !ok {
		names := make([]string, 0, len(schemes))
		for known := range schemes {
			names = append(names, known)
		}
		slices.Sort(names)
		return scheme{}, fmt.Errorf("scheme: unknown %q; allowed: %s", name, strings.Join(names, ", "))
	}
	return s, nil
}

// Signer signs and verifies by one scheme. It is safe for concurrent use.
type Signer struct{ method method }

// New returns the Signer that o describes. An error begins with the field it
// is about, in the configuration's spelling, and says what is allowed there.
func New(o Options) (*Signer, error) {
	s, err := lookUpScheme(o.Scheme)
	if err != nil {
		return nil, err
	}
	m, err := s.configure(o)
	if err != nil {
		return nil, err
	}
	return &Signer{m}, nil
}

// HeaderNames returns the names of the headers that Sign sets, so that nothing
// else sets them too.
func (s *Signer) HeaderNames() []string { return s.method.headerNames() }

// Sign returns the headers that carry the message's signatures, by keys[0] and
// as far as the scheme can by the others (see Rotation in the package's
// documentation). It fails without a key or with one that is public, and when
// the scheme uses an ID or a Timestamp that the message lacks or that cannot be
// sent.
func (s *Signer) Sign(m Message, keys []Key) ([]Header, error) {
	if err := s.checkKeys(keys); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	headers, err := s.method.sign(m, keys)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return headers, nil
}

// Verify returns nil if h carries a signature over body by one of the keys,
// and, where the scheme has a timestamp, one not further than Tolerance from
// now. Otherwise the error is ErrMissing, ErrMalformed, ErrExpired or
// ErrMismatch for errors.Is, or says that there is no key, or one of another
// scheme. HMACs are compared in constant time. The work is bounded by the
// length of the body, the number of keys and 8 KiB of header.
//
// A Signer whose Content holds {id} and whose Value does not cannot verify,
// since it does not know where the id stands; Verify then returns ErrMissing.
func (s *Signer) Verify(h http.Header, body []byte, keys []Key, now time.Time) error {
	if err := s.checkKeys(keys); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if err := s.method.verify(h, body, keys, now); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	return nil
}

func (s *Signer) checkKeys(keys []Key) error {
	if len(keys) == 0 {
		return errors.New("no key")
	}
	for _, k := range keys {
		if k.secret == nil {
			return errors.New("a key is empty; make keys with ParseKey")
		}
		if err := s.method.checkKey(k); err != nil {
			return err
		}
	}
	return nil
}

// headerValue returns the one value that h has under name. Twice the same
// header is malformed: two readers of it could see different ones.
func headerValue(h http.Header, name string) (string, error) {
	switch values := h.Values(name); {
	case len(values) == 0:
		return "", fmt.Errorf("%s: %w", name, ErrMissing)
	case len(values) > 1, len(values[0]) > maxHeader:
		return "", fmt.Errorf("%s: %w", name, ErrMalformed)
	default:
		return values[0], nil
	}
}

// checkFresh reports whether unix, in seconds, lies within Tolerance of now.
func checkFresh(unix int64, now time.Time) error {
	if now.Sub(time.Unix(unix, 0)).Abs() > Tolerance {
		return ErrExpired
	}
	return nil
}

// checkID refuses ids that could break out of a header, or make signed
// contents ambiguous by holding the dot or comma that stands between parts.
func checkID(id string) error {
	if id == "" || len(id) > maxID {
		return fmt.Errorf("id has %d bytes, must have 1 to %d", len(id), maxID)
	}
	for i := range len(id) {
		if !inID(id[i]) {
			return errors.New("id must be printable ASCII without space, dot and comma")
		}
	}
	return nil
}

// inID reports whether ids may hold c.
func inID(c byte) bool { return c > ' ' && c <= '~' && c != '.' && c != ',' }

// checkTime refuses timestamps that Verify could not read back.
func checkTime(t time.Time) error {
	if unix := t.Unix(); unix < 0 || unix > maxUnix {
		return errors.New("timestamp is not set")
	}
	return nil
}
