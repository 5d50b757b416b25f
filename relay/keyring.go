package relay

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// A sealed value is sealForm, the key's id, a random nonce of 12 bytes, and then
// what AES-256-GCM makes of the value.
const (
	sealForm   = 1
	keyIDSize  = 8
	sealPrefix = 1 + keyIDSize
)

// errNoKey reports a sealed value whose key is none of the keyring's.
var errNoKey = errors.New("it is encrypted with a key that is none of ledger.encryption_keys")

// keyring seals with its first key and opens with all. Without a key it opens
// nothing.
type keyring struct{ keys []sealKey }

type sealKey struct {
	id   [keyIDSize]byte // how SHA-256 of the key begins
	aead cipher.AEAD     // with random nonces, before what it seals
}

// newKeyring returns the keyring of ledger.encryption_keys.
func newKeyring(cfg *config.Config) (*keyring, error) {
	k := &keyring{}
	for _, key := range cfg.EncryptionKeys() {
		block, err := aes.NewCipher(key[:])
		if err != nil {
			return nil, fmt.Errorf("use ledger.encryption_keys: %w", err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("use ledger.encryption_keys: %w", err)
		}
		sum := sha256.Sum256(key[:])
		k.keys = append(k.keys, sealKey{[keyIDSize]byte(sum[:keyIDSize]), aead})
	}
	return k, nil
}

// seal encrypts value, which opens with the same context only. Without a key
// it is a *ledger.RefusedError.
func (k *keyring) seal(value, context []byte) ([]byte, error) {
	if len(k.keys) == 0 {
		return nil, ledger.RefusedButTold("secrets cannot be kept: whoever runs the relay can mend that", "secrets are kept encrypted only, and the relay's configuration has no ledger.encryption_keys: openssl rand -hex 32 makes a key")
	}
	key := k.keys[0]
	sealed := append(append(make([]byte, 0, sealPrefix+len(value)+key.aead.Overhead()), sealForm), key.id[:]...)
	return key.aead.Seal(sealed, nil, value, context), nil //nolint:gosec // the nonce is the AEAD's own, at random
}

// open returns what was sealed, or errNoKey, or another error for what was not
// sealed so.
func (k *keyring) open(sealed, context []byte) ([]byte, error) {
	key := k.keyOf(sealed)
	if key == nil {
		return nil, errNoKey
	}
	value, err := key.aead.Open(nil, nil, sealed[sealPrefix:], context)
	if err != nil {
		return nil, errors.New("it is damaged, or another's")
	}
	return value, nil
}

// keyOf returns the key by which a value was sealed; nil for none of them.
func (k *keyring) keyOf(sealed []byte) *sealKey {
	if len(sealed) < sealPrefix || sealed[0] != sealForm {
		return nil
	}
	for i := range k.keys {
		if bytes.Equal(k.keys[i].id[:], sealed[1:sealPrefix]) {
			return &k.keys[i]
		}
	}
	return nil
}

// isNewest reports whether a value is sealed with the key that seals.
func (k *keyring) isNewest(sealed []byte) bool {
	key := k.keyOf(sealed)
	return key != nil && key == &k.keys[0]
}
