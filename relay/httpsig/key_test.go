package httpsig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

// The private key that PEM's testKeyEd25519 holds.
var testPrivate = ed25519.NewKeyFromSeed([]byte{
	0x9f, 0x83, 0x62, 0xf8, 0x7a, 0x48, 0x4a, 0x95, 0x4e, 0x6e, 0x74, 0x0c, 0x5b, 0x4c, 0x0e, 0x84,
	0x22, 0x91, 0x39, 0xa2, 0x0a, 0xa8, 0xab, 0x56, 0xff, 0x66, 0x58, 0x6f, 0x6a, 0x7d, 0x29, 0xc5,
})

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func TestEveryFormOfAKeyIsTheSameKey(t *testing.T) {
	public := []byte(testPrivate.Public().(ed25519.PublicKey))
	raw := "a shared secret of 24 by"
	tests := []struct {
		name, algorithm, secret, reference string
		signs                              bool
	}{
		{"a shared secret as text", "hmac-sha256", raw, raw, true},
		{"a shared secret in base64", "hmac-sha256", "whsec_" + encode([]byte(raw)), raw, true},
		{"base64 without padding", "hmac-sha256", "whsec_" + strings.TrimRight(encode([]byte(raw+"x")), "="), raw + "x", true},
		{"a private key's 64 bytes", "ed25519", "whsk_" + encode(testPrivate), testKeyEd25519, true},
		{"a seed's 32 bytes", "ed25519", "whsk_" + encode(testPrivate.Seed()), testKeyEd25519, true},
		{"a private key as PEM", "ed25519", testKeyEd25519, testKeyEd25519, true},
		{"PEM between spaces", "ed25519", "\n  \n" + testKeyEd25519 + "\n\n", testKeyEd25519, true},
		{"a public key's 32 bytes", "ed25519", "whpk_" + encode(public), testKeyEd25519, false},
		{"a public key as PEM", "ed25519", testPublicEd25519, testKeyEd25519, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, reference := key(t, tt.algorithm, tt.secret), key(t, tt.algorithm, tt.reference)
			signed, err := reference.sign([]byte("base"))
			if err != nil {
				t.Fatal(err)
			}
			if !k.verify([]byte("base"), signed) || k.verify([]byte("other"), signed) {
				t.Error("does not verify what the reference signed, or too much")
			}
			got, err := k.sign([]byte("base"))
			if (err == nil) != tt.signs || tt.signs && !bytes.Equal(got, signed) {
				t.Errorf("sign: got %x, %v, want %x", got, err, signed)
			}
		})
	}
}

func TestParseKeyRefusesWithoutQuotingTheSecret(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	swapped := append(append([]byte{}, testPrivate.Seed()...), make([]byte, 32)...)
	tests := []struct{ name, algorithm, secret, want string }{
		{"no algorithm", "", "hunter2", `algorithm: unknown ""; allowed: hmac-sha256, ed25519`},
		{"an unknown algorithm", "rsa-pss-sha512", "hunter2", `algorithm: unknown "rsa-pss-sha512"`},
		{"no secret", "hmac-sha256", "", "secret: must not be empty"},
		{"a huge secret", "hmac-sha256", strings.Repeat("hunter2", 10000), "secret: has 70000 bytes"},
		{"no base64", "hmac-sha256", "whsec_hunter2!", "secret: must be base64 after whsec_"},
		{"nothing after whsec_", "hmac-sha256", "whsec_", "secret: must be base64 after whsec_"},
		{"a private key for an HMAC", "hmac-sha256", "whsk_hunter2", "secret: is an Ed25519 key"},
		{"a public key for an HMAC", "hmac-sha256", "whpk_hunter2", "secret: is an Ed25519 key"},
		{"PEM for an HMAC", "hmac-sha256", "\n" + testPublicEd25519, "secret: is an Ed25519 key or PEM"},
		{"text for Ed25519", "ed25519", "hunter2", "secret: must be whsk_ or whpk_"},
		{"a shared secret for Ed25519", "ed25519", testSharedSecret, "secret: must be whsk_ or whpk_"},
		{"no base64 after whsk_", "ed25519", "whsk_hunter2!", "secret: must be base64 of 64 or 32 bytes"},
		{"a private key of 33 bytes", "ed25519", "whsk_" + encode(testPrivate[:33]), "secret: must be base64 of 64 or 32 bytes"},
		{"halves that are no pair", "ed25519", "whsk_" + encode(swapped), "secret: has a public half"},
		{"a public key of 31 bytes", "ed25519", "whpk_" + encode(make([]byte, 31)), "secret: must be base64 of 32 bytes"},
		{"broken PEM", "ed25519", "-----BEGIN hunter2", "secret: must be one block of PEM"},
		{"two blocks", "ed25519", testKeyEd25519 + testPublicEd25519, "secret: must be one block of PEM"},
		{"another block", "ed25519", strings.ReplaceAll(testKeyEd25519, "PRIVATE", "HUNTER2"), "secret: must be the PEM of an Ed25519 key"},
		{"a private key as a public one", "ed25519", strings.ReplaceAll(testKeyEd25519, "PRIVATE", "PUBLIC"), "secret: must be the PEM of an Ed25519 key"},
		{"another curve", "ed25519", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "secret: must be the PEM of an Ed25519 key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseKey(tt.algorithm, tt.secret)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			if strings.Contains(strings.ToLower(err.Error()), "hunter2") {
				t.Errorf("the secret is quoted in %v", err)
			}
		})
	}
}

func TestKeysHaveIDsOfTheirOwn(t *testing.T) {
	s := signer(t, Options{Algorithm: "hmac-sha256", KeyID: "new", Components: []string{"content-digest"}})
	current, old := key(t, "hmac-sha256", "current"), key(t, "hmac-sha256", "old")
	named, err := old.WithID(`the "old"`)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(hook(t), []Key{current, named, old})
	if err != nil {
		t.Fatal(err)
	}
	const want = `sig1=("content-digest");created=1618884473;keyid="new";alg="hmac-sha256", ` +
		`sig1-2=("content-digest");created=1618884473;keyid="the \"old\"";alg="hmac-sha256", ` +
		`sig1-3=("content-digest");created=1618884473;keyid="new";alg="hmac-sha256"`
	if got := signed[1].Value; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := s.Verify(received(hook(t), signed), []Key{named}, at); err != nil {
		t.Errorf("the old key alone: %v", err)
	}
	if got, want := s.Labels(3), []string{"sig1", "sig1-2", "sig1-3"}; !slices.Equal(got, want) {
		t.Errorf("labels: got %q, want %q", got, want)
	}
	for _, id := range []string{"é", "a\nb", strings.Repeat("a", 257)} {
		if _, err := old.WithID(id); err == nil || err.Error() != "key_id: must be printable ASCII, at most 256 bytes" {
			t.Errorf("%.10q: got %v", id, err)
		}
	}
}

func TestKeyIsNeverShown(t *testing.T) {
	for _, k := range []Key{key(t, "hmac-sha256", "hunter2"), key(t, "ed25519", testKeyEd25519)} {
		if _, err := k.sign([]byte("so that there is a state to show")); err != nil {
			t.Fatal(err)
		}
		inside := struct{ key Key }{k}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "key", k, "keys", []Key{k}, "inside", inside)
		asJSON, err := json.Marshal(struct{ Key Key }{k})
		if err != nil {
			t.Fatal(err)
		}
		out := log.String() + string(asJSON) + k.String()
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%p"} {
			out += fmt.Sprintf(verb+verb+verb, k, []Key{k}, &k) + fmt.Sprintf(verb, inside)
		}
		for _, leak := range []string{"hunter2", "68756e74", "104 117 110", "9f8362f8", "9F8362F8", "159 131 98 248", "0x9f, 0x83"} {
			if strings.Contains(out, leak) {
				t.Errorf("%q is shown in %s", leak, out)
			}
		}
	}
}
