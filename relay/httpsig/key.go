package httpsig

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// What Options.Algorithm may name.
const (
	algorithmHMAC    = "hmac-sha256"
	algorithmEd25519 = "ed25519"
)

const (
	sharedPrefix  = "whsec_"
	privatePrefix = "whsk_"
	publicPrefix  = "whpk_"
	pemPrefix     = "-----BEGIN "
	hidden        = "[secret]"
	maxSecret     = 64 << 10 // bytes of a secret's text
)

// Key is a secret that signs, or a public key that verifies. Printing and
// logging it shows "[secret]", in whatever way it is done. The zero Key is not
// usable.
type Key struct {
	secret *secret
	id     string // the parameter keyid, "" for the Signer's
}

// secret stands behind a pointer so that copies of a Key share the pool. In a
// struct that holds a Key in an unexported field fmt cannot call Key's methods,
// and with a verb like %s follows one pointer; the second one shows an address.
type secret struct {
	algorithm string
	bytes     *[]byte           // of HMAC or, nil if the key only verifies, the private key of Ed25519
	public    ed25519.PublicKey // of Ed25519
	macs      sync.Pool         // of hash.Hash, keyed
}

// ParseKey returns the key that the secret's text stands for in an algorithm.
//
// For hmac-sha256 a text that begins with "whsec_" goes on in base64, and the
// decoded bytes are the key; any other text is the key as it is, but for one in
// the form of an Ed25519 key, which is no secret for an HMAC.
//
// For ed25519 the text is "whsk_" and base64 of a private key's 64 bytes or of
// its seed's 32; or "whpk_" and base64 of a public key's 32 bytes, which
// verifies and cannot sign; or PEM, a private key by PKCS#8 or a public key by
// PKIX.
//
// An empty secret and an unknown algorithm are errors. No error quotes the
// secret.
func ParseKey(algorithm, secretText string) (Key, error) {
	if err := checkAlgorithm(algorithm); err != nil {
		return Key{}, err
	}
	if secretText == "" {
		return Key{}, errors.New("secret: must not be empty")
	}
	if len(secretText) > maxSecret {
		return Key{}, fmt.Errorf("secret: has %d bytes, at most %d are allowed", len(secretText), maxSecret)
	}
	parse := parseShared
	if algorithm == algorithmEd25519 {
		parse = parseEd25519
	}
	parsed, err := parse(secretText)
	if err != nil {
		return Key{}, fmt.Errorf("secret: %w", err)
	}
	return Key{secret: parsed}, nil
}

// WithID returns the key with a keyid of its own, which signatures by it have
// instead of Options.KeyID; "" takes that back. It fails as New does for a
// KeyID that is not allowed. Verifying does not look at it.
func (k Key) WithID(keyID string) (Key, error) {
	id, err := keyIDParameter(keyID)
	if err != nil {
		return Key{}, err
	}
	k.id = id
	return k, nil
}

func parseShared(text string) (*secret, error) {
	key := []byte(text)
	switch encoded, ok := strings.CutPrefix(text, sharedPrefix); {
	case ok:
		var err error
		if key, err = decode(encoded); err != nil || len(key) == 0 {
			return nil, errors.New("must be base64 after whsec_")
		}
	case strings.HasPrefix(text, privatePrefix), strings.HasPrefix(text, publicPrefix),
		strings.HasPrefix(strings.TrimSpace(text), pemPrefix):
		return nil, errors.New("is an Ed25519 key or PEM, must be a shared secret: text, or whsec_ and base64")
	}
	return &secret{algorithm: algorithmHMAC, bytes: &key}, nil
}

func parseEd25519(text string) (*secret, error) {
	if strings.HasPrefix(strings.TrimSpace(text), pemPrefix) {
		return parsePEM([]byte(text))
	}
	if encoded, ok := strings.CutPrefix(text, privatePrefix); ok {
		return parsePrivate(encoded)
	}
	encoded, ok := strings.CutPrefix(text, publicPrefix)
	if !ok {
		return nil, errors.New("must be whsk_ or whpk_ and base64, or PEM")
	}
	public, err := decode(encoded)
	if err != nil || len(public) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("must be base64 of %d bytes after whpk_", ed25519.PublicKeySize)
	}
	return publicSecret(public), nil
}

func parsePrivate(encoded string) (*secret, error) {
	private, err := decode(encoded)
	switch {
	case err == nil && len(private) == ed25519.SeedSize:
		return privateSecret(ed25519.NewKeyFromSeed(private)), nil
	case err != nil || len(private) != ed25519.PrivateKeySize:
		return nil, fmt.Errorf("must be base64 of %d or %d bytes after whsk_", ed25519.PrivateKeySize, ed25519.SeedSize)
	}
	// Signing with a public half that is not the private one's gives the
	// private one away.
	key := ed25519.PrivateKey(private)
	if !ed25519.NewKeyFromSeed(key.Seed()).Equal(key) {
		return nil, errors.New("has a public half that does not belong to its private half")
	}
	return privateSecret(key), nil
}

func parsePEM(text []byte) (*secret, error) {
	block, rest := pem.Decode(text)
	if block == nil || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("must be one block of PEM")
	}
	switch block.Type {
	case "PRIVATE KEY":
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if key, ok := parsed.(ed25519.PrivateKey); err == nil && ok {
			return privateSecret(key), nil
		}
	case "PUBLIC KEY":
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if key, ok := parsed.(ed25519.PublicKey); err == nil && ok {
			return publicSecret(key), nil
		}
	}
	return nil, errors.New("must be the PEM of an Ed25519 key: PRIVATE KEY (PKCS#8, not encrypted) or PUBLIC KEY")
}

// decode reads base64 with or without padding.
func decode(text string) ([]byte, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
}

func privateSecret(key ed25519.PrivateKey) *secret {
	b := []byte(key)
	return &secret{algorithm: algorithmEd25519, bytes: &b, public: ed25519.PublicKey(b[ed25519.SeedSize:])}
}

func publicSecret(key ed25519.PublicKey) *secret {
	return &secret{algorithm: algorithmEd25519, public: key}
}

// String returns a fixed text, never the secret.
func (Key) String() string { return hidden }

// LogValue returns a fixed text, never the secret.
func (Key) LogValue() slog.Value { return slog.StringValue(hidden) }

// Format prints a fixed text whatever the verb, never the secret.
func (Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, hidden) }

// sign returns the signature over base.
func (k Key) sign(base []byte) ([]byte, error) {
	if k.secret.algorithm == algorithmHMAC {
		return k.mac(base), nil
	}
	if k.secret.bytes == nil {
		return nil, errors.New("a key is public and cannot sign")
	}
	return ed25519.Sign(*k.secret.bytes, base), nil
}

// verify reports whether signed is the key's signature over base.
func (k Key) verify(base, signed []byte) bool {
	if k.secret.algorithm == algorithmHMAC {
		return hmac.Equal(k.mac(base), signed)
	}
	return ed25519.Verify(k.secret.public, base, signed)
}

// mac returns base's HMAC. Reusing a state spares hashing the key's two blocks
// anew each time.
func (k Key) mac(base []byte) []byte {
	h, ok := k.secret.macs.Get().(hash.Hash)
	if !ok {
		h = hmac.New(sha256.New, *k.secret.bytes)
	}
	defer k.secret.macs.Put(h)
	h.Reset()
	h.Write(base)
	return h.Sum(nil)
}
