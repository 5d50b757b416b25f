package relay

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// Keys of ledger.encryption_keys.
var (
	oldKey = strings.Repeat("0f", 32)
	newKey = strings.Repeat("a5", 32)
)

func keysOf(t *testing.T, texts ...string) *keyring {
	t.Helper()
	cfg := &config.Config{}
	for _, text := range texts {
		cfg.Ledger.EncryptionKeys = append(cfg.Ledger.EncryptionKeys, config.Secret(text))
	}
	k, err := newKeyring(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestWhatIsSealedOpensWithItsKeyAndContextOnly(t *testing.T) {
	before, both, after := keysOf(t, oldKey), keysOf(t, newKey, oldKey), keysOf(t, newKey)
	value, context := []byte("hunter2"), []byte("endpoint")
	sealed, err := before.seal(value, context)
	if err != nil || bytes.Contains(sealed, value) {
		t.Fatalf("sealed %q, %v", sealed, err)
	}
	if again, _ := before.seal(value, context); bytes.Equal(again, sealed) {
		t.Error("the same is sealed alike twice")
	}
	for _, k := range []*keyring{before, both} {
		if got, err := k.open(sealed, context); err != nil || !bytes.Equal(got, value) {
			t.Errorf("opened %q, %v", got, err)
		}
	}
	if both.isNewest(sealed) || !before.isNewest(sealed) {
		t.Error("the newest key is another")
	}
	for _, k := range []*keyring{after, {}} {
		if _, err := k.open(sealed, context); !errors.Is(err, errNoKey) {
			t.Errorf("without its key: %v", err)
		}
	}
	if _, err := before.open(sealed, []byte("another")); err == nil {
		t.Error("it opens for another endpoint")
	}
	for i := range sealed {
		damaged := bytes.Clone(sealed)
		damaged[i] ^= 1
		if _, err := before.open(damaged, context); err == nil {
			t.Errorf("it opens with byte %d changed", i)
		}
		if _, err := before.open(sealed[:i], context); err == nil {
			t.Errorf("%d bytes of it open", i)
		}
	}
	var refused *ledger.RefusedError
	if _, err := (&keyring{}).seal(value, context); !errors.As(err, &refused) {
		t.Errorf("sealed without a key: %v", err)
	}
}
