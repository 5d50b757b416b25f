package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Hash returns the SHA-256 of the token. An error says that SHA256 is no hash.
func (t *Token) Hash() (hash [sha256.Size]byte, err error) {
	if t.SHA256 == "" {
		return sha256.Sum256([]byte(t.Token.Reveal())), nil
	}
	b, err := hex.DecodeString(t.SHA256)
	if err == nil && len(b) != len(hash) {
		err = fmt.Errorf("%d bytes are no SHA-256", len(b))
	}
	copy(hash[:], b)
	return hash, err
}
