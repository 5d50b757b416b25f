package config

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// EncryptionKey is a key of AES-256.
type EncryptionKey [32]byte

// EncryptionKeys returns what ledger.encryption_keys stands for: the first key
// encrypts, all decrypt. It is empty where none is given.
func (c *Config) EncryptionKeys() []EncryptionKey {
	var keys []EncryptionKey
	for _, text := range c.Ledger.EncryptionKeys {
		if key, ok := parseEncryptionKey(text); ok { // all do: validation sees to it
			keys = append(keys, key)
		}
	}
	return keys
}

// parseEncryptionKey reads 64 hex digits or base64 of 32 bytes, with or without
// padding, in either alphabet. No text is both.
func parseEncryptionKey(secret Secret) (key EncryptionKey, ok bool) {
	text := secret.Reveal()
	decoded, err := hex.DecodeString(text)
	if err != nil {
		plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
		decoded, err = base64.RawStdEncoding.DecodeString(plain)
	}
	if err != nil || len(decoded) != len(key) {
		return key, false
	}
	copy(key[:], decoded)
	return key, true
}

func (v *validator) encryptionKeys(p place) {
	seen := make(map[EncryptionKey]place)
	for i, text := range v.cfg.Ledger.EncryptionKeys {
		at := p.item(i)
		key, ok := parseEncryptionKey(text)
		switch other, repeated := seen[key]; {
		case text == "": // reported where it is read
		case !ok:
			v.problems.add(at, "must be 32 bytes as 64 hex digits or base64; openssl rand -hex 32 makes one")
		case repeated:
			v.problems.add(at, "is the same key as %s", other.key())
		default:
			seen[key] = at
		}
	}
}
