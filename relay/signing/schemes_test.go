package signing

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The key of RFC 8032's first test, in the forms of Standard Webhooks.
const (
	seedKey    = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
	privateKey = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg=="
	publicKey  = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

	standardSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

var (
	// What the specification's example has, and what OpenSSL signs for it.
	standardMessage = Message{"msg_p5jXN8AQM9LWM0D4loKWxJek", at, []byte(`{"test": 2432232314}`)}

	sharedSignature     = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	asymmetricSignature = "v1a,fldxM4gAKugP6nnt1hdz3sgGfZ6d99nzrMFnZOELIxbzEHoVmAb2ADpkJK7zgPePmPsle0zV9jSeGlHFG2NVAw=="
)

func keysOf(t testing.TB, scheme string, secrets ...string) []Key {
	t.Helper()
	var keys []Key
	for _, secret := range secrets {
		keys = append(keys, key(t, scheme, secret))
	}
	return keys
}

func TestNamedSchemesAreByteExact(t *testing.T) {
	event := Message{Timestamp: time.Unix(1492774577, 0), Body: []byte(`{"id":"evt_1"}`)}
	tests := []struct {
		name    string
		options Options
		secrets []string
		message Message
		want    string // of the last header
	}{
		{"GitHub's vector", Options{Scheme: "github"}, []string{"It's a Secret to Everybody"}, Message{Body: []byte("Hello, World!")},
			"X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
		{"GitHub's sends the first key's alone, under another name", Options{Scheme: "github", Header: "X-Acme"}, []string{"It's a Secret to Everybody", "old"}, Message{Body: []byte("Hello, World!")},
			"X-Acme: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
		{"Stripe's, keyed by the whole secret", Options{Scheme: "stripe"}, []string{"whsec_test_secret"}, event,
			"Stripe-Signature: t=1492774577,v1=799c4ba7bb339f3c8601adfd112f0e477c930a268be1243d341abb8286501c2f"},
		{"Stripe's rotation", Options{Scheme: "stripe", Header: "X-Acme"}, []string{"whsec_test_secret", "whsec_old"}, event,
			"X-Acme: t=1492774577,v1=799c4ba7bb339f3c8601adfd112f0e477c930a268be1243d341abb8286501c2f,v1=0747100650652ef72323d15ecf021fcf28463e6c3f46c75d091a00c9fbb46a37"},
		{"Convoy's simple", Options{Scheme: "hmac", Header: "X-Convoy-Signature"}, []string{"convoy-secret"}, event,
			"X-Convoy-Signature: 8be91582e06ce2f8c44aa2afabc57683227b0c0e72ed1e4f60d2de7cb3ed1a49"},
		{"Convoy's advanced", Options{Scheme: "hmac", Header: "X-Convoy-Signature", Content: "{timestamp},{body}", Value: "t={timestamp},v1={signature}"}, []string{"convoy-secret"}, event,
			"X-Convoy-Signature: t=1492774577,v1=754b46b9523ba53f3688f1f9463fb92aef0ec8fa18aa1334b08fdc8e898b646b"},
		{"Hook0's", Options{Scheme: "hmac", Header: "X-Hook0-Signature", Content: "{timestamp}.{body}", Value: "t={timestamp},v0={signature}"}, []string{"hook0-secret"}, event,
			"X-Hook0-Signature: t=1492774577,v0=dae7433412fd779b943f220e6f462caff31f6bc1c8b9b749a5390d2b18a0e3b3"},
		{"Standard Webhooks' v1a", Options{Scheme: "standard-webhooks"}, []string{privateKey}, standardMessage, "webhook-signature: " + asymmetricSignature},
		{"v1a by a seed", Options{Scheme: "standard-webhooks"}, []string{seedKey}, standardMessage, "webhook-signature: " + asymmetricSignature},
		{"from v1 to v1a", Options{Scheme: "standard-webhooks"}, []string{privateKey, standardSecret}, standardMessage, "webhook-signature: " + asymmetricSignature + " " + sharedSignature},
		{"Svix's", Options{Scheme: "standard-webhooks", Prefix: "svix"}, []string{standardSecret}, standardMessage, "svix-signature: " + sharedSignature},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := signer(t, tt.options)
			keys := keysOf(t, tt.options.Scheme, tt.secrets...)
			signed, err := s.Sign(tt.message, keys)
			if err != nil {
				t.Fatal(err)
			}
			last := signed[len(signed)-1]
			if got := last.Name + ": " + last.Value; got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			var names []string
			for _, h := range signed {
				names = append(names, h.Name)
			}
			if fmt.Sprint(names) != fmt.Sprint(s.HeaderNames()) {
				t.Errorf("HeaderNames says %v, signed are %v", s.HeaderNames(), names)
			}
			if err := s.Verify(header(signed), tt.message.Body, keys[:1], tt.message.Timestamp); err != nil {
				t.Errorf("verify what was signed: %v", err)
			}
			if err := s.Verify(header(signed), []byte("tampered"), keys, tt.message.Timestamp); !errors.Is(err, ErrMismatch) {
				t.Errorf("verify another body: got %v, want ErrMismatch", err)
			}
		})
	}
}

func TestSvixHeadersAreNamedByThePrefix(t *testing.T) {
	got := signer(t, Options{Scheme: "standard-webhooks", Prefix: "svix"}).HeaderNames()
	if want := "[svix-id svix-timestamp svix-signature]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestEd25519KeysVerifyEachOther(t *testing.T) {
	s := signer(t, Options{Scheme: "standard-webhooks"})
	signed := http.Header{}
	signed.Set("webhook-id", standardMessage.ID)
	signed.Set("webhook-timestamp", "1614265330")
	tests := []struct {
		name, signature string
		secrets         []string
		want            error
	}{
		{"by the public key", asymmetricSignature, []string{publicKey}, nil},
		{"by the private key", asymmetricSignature, []string{privateKey}, nil},
		{"by one of several", asymmetricSignature, []string{standardSecret, publicKey}, nil},
		{"shared, by one of several", sharedSignature, []string{publicKey, standardSecret}, nil},
		{"several signatures, the public key knows one", sharedSignature + " v1a,AAAA v1a " + asymmetricSignature, []string{publicKey}, nil},
		{"another key", asymmetricSignature, []string{"whpk_" + base64.StdEncoding.EncodeToString(make([]byte, 32))}, ErrMismatch},
		{"v1a under the name of v1", strings.Replace(asymmetricSignature, "v1a", "v1", 1), []string{publicKey, standardSecret}, ErrMismatch},
		{"v1 under the name of v1a", strings.Replace(sharedSignature, "v1", "v1a", 1), []string{publicKey, standardSecret}, ErrMismatch},
		{"v1 where the key is public", sharedSignature, []string{publicKey}, ErrMismatch},
		{"v1a where the key is shared", asymmetricSignature, []string{standardSecret}, ErrMismatch},
		{"more signatures than Verify looks at", strings.Repeat("v1a,AAAA ", maxAsymmetric) + asymmetricSignature, []string{publicKey}, ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			signed.Set("webhook-signature", tt.signature)
			if err := s.Verify(signed, standardMessage.Body, keysOf(t, "standard-webhooks", tt.secrets...), at); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestPublicKeyCannotSign(t *testing.T) {
	s := signer(t, Options{Scheme: "standard-webhooks"})
	got, err := s.Sign(standardMessage, keysOf(t, "standard-webhooks", standardSecret, publicKey))
	if want := "sign: a key is public and can only verify: whpk_, where whsk_ signs"; err == nil || err.Error() != want {
		t.Errorf("got %v, %v\nwant %s", got, err, want)
	}
}

func TestKeyOfAnotherSchemeIsRefused(t *testing.T) {
	for _, scheme := range []string{"stripe", "github"} {
		s := signer(t, Options{Scheme: scheme})
		keys := keysOf(t, "standard-webhooks", privateKey)
		if _, err := s.Sign(standardMessage, keys); err == nil || err.Error() != "sign: an Ed25519 key cannot make an HMAC" {
			t.Errorf("%s: sign: got %v", scheme, err)
		}
		if err := s.Verify(http.Header{}, nil, keys, at); err == nil || err.Error() != "verify: an Ed25519 key cannot make an HMAC" {
			t.Errorf("%s: verify: got %v", scheme, err)
		}
	}
}

func TestNewRefusesWhatANamedSchemeFixes(t *testing.T) {
	tests := []struct {
		options Options
		want    string
	}{
		{Options{Scheme: "stripe", Content: "{body}"}, "content: must be empty, stripe fixes it"},
		{Options{Scheme: "stripe", Value: "{signature}"}, "value: must be empty, stripe fixes it"},
		{Options{Scheme: "stripe", Header: "a b"}, `header: "a b" is not a header's name; allowed: letters, digits and -`},
		{Options{Scheme: "stripe", Prefix: "svix"}, "prefix: must be empty, stripe does not use it"},
		{Options{Scheme: "github", Algorithm: "sha512"}, "algorithm: must be empty, github fixes it"},
		{Options{Scheme: "github", Encoding: "base64"}, "encoding: must be empty, github fixes it"},
		{Options{Scheme: "github", Prefix: "svix"}, "prefix: must be empty, github does not use it"},
		{Options{Scheme: "hmac", Header: "S", Prefix: "svix"}, "prefix: must be empty, hmac does not use it"},
		{Options{Scheme: "standard-webhooks", Prefix: "a:"}, `prefix: "a:" does not begin a header's name; allowed: up to 64 letters, digits and -`},
		{Options{Scheme: "standard-webhooks", Prefix: "a\r\n"}, `prefix: "a\r\n" does not begin a header's name; allowed: up to 64 letters, digits and -`},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			if _, err := New(tt.options); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestParseKeyReadsEd25519Strictly(t *testing.T) {
	private := base64.StdEncoding.EncodeToString(append(make([]byte, 63), 1))
	tests := []struct{ name, secret, want string }{
		{"private, not base64", "whsk_%", "secret: must be base64 after whsk_"},
		{"private, short", "whsk_c2hvcnQ=", "secret: decodes to 5 bytes after whsk_, must be 64 or 32"},
		{"private, of two keys", "whsk_" + private, "secret: does not hold the public key of its private key after whsk_"},
		{"public, not base64", "whpk_%", "secret: must be base64 after whpk_"},
		{"public, of the private one's length", "whpk_" + strings.TrimPrefix(privateKey, "whsk_"), "secret: decodes to 64 bytes after whpk_, must be 32"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseKey("standard-webhooks", tt.secret); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	for _, scheme := range []string{"hmac", "stripe", "github"} {
		if got := *key(t, scheme, publicKey).secret.bytes; string(got) != publicKey {
			t.Errorf("%s: got %q, want the text as it is", scheme, got)
		}
	}
}

func TestEd25519KeyIsNeverPrinted(t *testing.T) {
	k := key(t, "standard-webhooks", privateKey)
	inside := struct{ key Key }{k}
	var out string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		out += fmt.Sprintf(verb+verb, k, inside)
	}
	for _, leak := range []string{"nWGx", "9d61b19d", "157 97 177", "0x9d"} {
		if strings.Contains(out, leak) {
			t.Errorf("%q is shown in %s", leak, out)
		}
	}
}

func TestAnotherLibraryVerifiesOurSignatures(t *testing.T) {
	s := signer(t, Options{Scheme: "standard-webhooks"})
	const old = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	m := Message{ID: "msg_1", Timestamp: time.Now(), Body: []byte(`{"type":"invoice.paid","n":1.0,"text":"ü"}`)}
	for name, secrets := range map[string][]string{
		"one key":  {standardSecret},
		"rotation": {old, standardSecret},
		"beside Ed25519": {
			privateKey, standardSecret, old,
		},
	} {
		t.Run(name, func(t *testing.T) {
			signed, err := s.Sign(m, keysOf(t, "standard-webhooks", secrets...))
			if err != nil {
				t.Fatal(err)
			}
			other, err := standardwebhooks.NewWebhook(standardSecret)
			if err != nil {
				t.Fatal(err)
			}
			if err := other.Verify(m.Body, header(signed)); err != nil {
				t.Errorf("it refuses %v: %v", signed, err)
			}
			if err := other.Verify([]byte(`{}`), header(signed)); err == nil {
				t.Error("it accepts another body")
			}
		})
	}
}

func TestWeVerifyAnotherLibrarysSignatures(t *testing.T) {
	other, err := standardwebhooks.NewWebhook(standardSecret)
	if err != nil {
		t.Fatal(err)
	}
	now, body := time.Now(), []byte(`{"type":"invoice.paid"}`)
	signature, err := other.Sign("msg_1", now, body)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	h.Set(standardwebhooks.HeaderWebhookID, "msg_1")
	h.Set(standardwebhooks.HeaderWebhookTimestamp, fmt.Sprint(now.Unix()))
	h.Set(standardwebhooks.HeaderWebhookSignature, signature)
	s := signer(t, Options{Scheme: "standard-webhooks"})
	if err := s.Verify(h, body, keysOf(t, "standard-webhooks", publicKey, standardSecret), now); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if err := s.Verify(h, []byte("{}"), keysOf(t, "standard-webhooks", standardSecret), now); !errors.Is(err, ErrMismatch) {
		t.Errorf("another body: got %v, want ErrMismatch", err)
	}
}
