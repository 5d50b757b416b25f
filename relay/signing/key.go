package signing

import (
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"strings"
	"sync"
)

const (
	secretPrefix = "whsec_"
	hidden       = "[secret]"
	maxSecret    = 64 << 10 // bytes of a secret's text
)

// Key is a secret that signs. Printing and logging it shows "[secret]", in
// whatever way it is done. The zero Key is not usable.
type Key struct{ secret *secret }

// secret stands behind a pointer so that copies of a Key share the pools. In a
// struct that holds a Key in an unexported field fmt cannot call Key's methods,
// and with a verb like %s follows one pointer; the second one shows an address.
type secret struct {
	bytes *[]byte
	macs  [len(algorithms)]sync.Pool // of *mac, by algorithm
}

// mac is the reusable state of one HMAC computation.
type mac struct {
	hash    hash.Hash
	scratch []byte
}

// ParseKey returns the key that the secret's text stands for in a scheme.
//
// For hmac the text's bytes are the key. For standard-webhooks a text that
// begins with "whsec_" goes on in base64, and the decoded bytes, 24 to 64 of
// them, are the key; any other text is the key as it is, but for "whsk_" and
// "whpk_", the prefixes of Ed25519 keys, which are no secrets for an HMAC.
// An empty secret and an unknown scheme are errors. No error quotes the secret.
func ParseKey(scheme, secretText string) (Key, error) {
	s, err := lookUpScheme(scheme)
	if err != nil {
		return Key{}, err
	}
	if secretText == "" {
		return Key{}, errors.New("secret: must not be empty")
	}
	if len(secretText) > maxSecret {
		return Key{}, fmt.Errorf("secret: has %d bytes, at most %d are allowed", len(secretText), maxSecret)
	}
	key, err := s.parseKey(secretText)
	if err != nil {
		return Key{}, fmt.Errorf("secret: %w", err)
	}
	return Key{&secret{bytes: &key}}, nil
}

func parseTextKey(text string) ([]byte, error) { return []byte(text), nil }

func parseStandardKey(text string) ([]byte, error) {
	if strings.HasPrefix(text, "whsk_") || strings.HasPrefix(text, "whpk_") {
		return nil, errors.New("is an Ed25519 key, must be a shared secret: whsec_ and base64")
	}
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return []byte(text), nil
	}
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil {
		return nil, errors.New("must be base64 after whsec_")
	}
	if len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("decodes to %d bytes after whsec_, must be 24 to 64", len(key))
	}
	return key, nil
}

// String returns a fixed text, never the secret.
func (Key) String() string { return hidden }

// LogValue returns a fixed text, never the secret.
func (Key) LogValue() slog.Value { return slog.StringValue(hidden) }

// Format prints a fixed text whatever the verb, never the secret.
func (Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, hidden) }

// mac returns a state for one computation under this key; give it back with
// putMAC. Reusing it spares hashing the key's two blocks anew each time.
func (k Key) mac(a algorithm) *mac {
	if m, ok := k.secret.macs[a].Get().(*mac); ok {
		m.hash.Reset()
		return m
	}
	return &mac{hash: hmac.New(algorithms[a].new, *k.secret.bytes)}
}

func (k Key) putMAC(a algorithm, m *mac) { k.secret.macs[a].Put(m) }
