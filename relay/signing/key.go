package signing

import (
	"bytes"
	"crypto/ed25519"
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

// The prefixes of Standard Webhooks' keys, which say what they are for.
const (
	secretPrefix  = "whsec_" // a shared secret
	privatePrefix = "whsk_"  // an Ed25519 private key
	publicPrefix  = "whpk_"  // an Ed25519 public key
)

const (
	hidden    = "[secret]"
	maxSecret = 64 << 10 // bytes of a secret's text
)

// Key is a secret that signs, or a public key that only verifies. Printing and logging it shows "[secret]", in
// whatever way it is done. The zero Key is not usable.
type Key struct{ secret *secret }

// secret stands behind a pointer so that copies of a Key share the pools. In a
// struct that holds a Key in an unexported field fmt cannot call Key's methods,
// and with a verb like %s follows one pointer; the second one shows an address.
type secret struct {
	bytes *[]byte                    // of a shared secret
	macs  [len(algorithms)]sync.Pool // of *mac, by algorithm
	pair  *keyPair                   // instead, of an Ed25519 key
}

// keyPair is an Ed25519 key; private is nil where only the public one is known.
type keyPair struct {
	private ed25519.PrivateKey
	public  ed25519.PublicKey
}

// mac is the reusable state of one HMAC computation.
type mac struct {
	hash    hash.Hash
	scratch []byte
}

// ParseKey returns the key that the secret's text stands for in a scheme.
//
// For hmac, stripe and github the text's bytes are the key, whatever they begin
// with: Stripe's secrets begin with "whsec_" too, and are not decoded.
//
// For standard-webhooks the prefix says what the key is. What follows it is
// base64, with or without padding:
//
//	whsec_  a shared secret of 24 to 64 bytes, which signs as v1
//	whsk_   an Ed25519 private key, which signs as v1a: 64 bytes (the seed and
//	        the public key, as NaCl and Go have it), or the seed's 32 alone
//	whpk_   an Ed25519 public key of 32 bytes, which can only verify v1a
//
// The specification fixes the prefixes and the base64, and calls the rest a
// "standard ed25519 key pair". Any other text is a shared secret as it is.
//
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
	return Key{key}, nil
}

func parseTextKey(text string) (*secret, error) {
	key := []byte(text)
	return &secret{bytes: &key}, nil
}

func parseStandardKey(text string) (*secret, error) {
	for prefix, parse := range map[string]func([]byte) (*secret, error){
		secretPrefix: parseShared, privatePrefix: parsePrivate, publicPrefix: parsePublic,
	} {
		encoded, ok := strings.CutPrefix(text, prefix)
		if !ok {
			continue
		}
		key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
		if err != nil {
			return nil, fmt.Errorf("must be base64 after %s", prefix)
		}
		return parse(key)
	}
	return parseTextKey(text)
}

func parseShared(key []byte) (*secret, error) {
	if len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("decodes to %d bytes after %s, must be 24 to 64", len(key), secretPrefix)
	}
	return &secret{bytes: &key}, nil
}

func parsePrivate(key []byte) (*secret, error) {
	if len(key) != ed25519.SeedSize && len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("decodes to %d bytes after %s, must be %d or %d", len(key), privatePrefix, ed25519.PrivateKeySize, ed25519.SeedSize)
	}
	private := ed25519.NewKeyFromSeed(key[:ed25519.SeedSize])
	// Signing with another public key than the private one's gives that away.
	if len(key) == ed25519.PrivateKeySize && !bytes.Equal(key, private) {
		return nil, fmt.Errorf("does not hold the public key of its private key after %s", privatePrefix)
	}
	return &secret{pair: &keyPair{private, private.Public().(ed25519.PublicKey)}}, nil
}

func parsePublic(key []byte) (*secret, error) {
	if len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("decodes to %d bytes after %s, must be %d", len(key), publicPrefix, ed25519.PublicKeySize)
	}
	return &secret{pair: &keyPair{public: key}}, nil
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
