package httpsig

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/posthorn/posthorn/relay/signing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func signer(t testing.TB, o Options) *Signer {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func hook(t testing.TB) Message {
	return Message{
		Method:  "POST",
		URL:     parseURL(t, "https://user:password@Hooks.Example.com:443/in?tenant=7#top"),
		Header:  http.Header{"content-type": {"application/json"}, "webhook-id": {"msg_1"}, "X-Acme-Event": {"closed"}},
		Body:    []byte(`{"id":1}`),
		Created: at,
	}
}

// received is m as the receiver of the headers gets it.
func received(m Message, signed []signing.Header) Message {
	h := m.Header
	m.Header = http.Header{}
	for name, values := range h {
		for _, value := range values {
			m.Header.Add(name, value)
		}
	}
	for _, s := range signed {
		m.Header.Set(s.Name, s.Value)
	}
	return m
}

func TestSignedHeadersAreByteExact(t *testing.T) {
	const digest = "sha-256=:A3ySFO73TMOIfzpPCFtOF9digNr9JzsO4WDAnEuhz9Q=:"
	tests := []struct {
		name    string
		options Options
		secrets []string
		want    []signing.Header
	}{
		{
			name:    "the order of the parameters, and what a receiver's document shows",
			options: Options{Algorithm: "ed25519", KeyID: `a "key"`, Components: []string{"@method", "@target-uri", "content-digest", "content-type", "webhook-id"}},
			secrets: []string{testKeyEd25519},
			want: []signing.Header{
				{Name: "Content-Digest", Value: digest},
				{Name: "Signature-Input", Value: `sig1=("@method" "@target-uri" "content-digest" "content-type" "webhook-id");created=1618884473;keyid="a \"key\"";alg="ed25519"`},
				{Name: "Signature", Value: "sig1=:" + encode(ed25519.Sign(testPrivate, []byte(`"@method": POST
"@target-uri": https://hooks.example.com/in?tenant=7
"content-digest": `+digest+`
"content-type": application/json
"webhook-id": msg_1
"@signature-params": ("@method" "@target-uri" "content-digest" "content-type" "webhook-id");created=1618884473;keyid="a \"key\"";alg="ed25519"`))) + ":"},
			},
		},
		{
			name:    "several keys, no keyid, the default components",
			options: Options{Algorithm: "hmac-sha256", Label: "hook"},
			secrets: []string{"new", "old", "older"},
			want: []signing.Header{
				{Name: "Content-Digest", Value: digest},
				{Name: "Signature-Input", Value: strings.Join([]string{
					`hook=("@method" "@target-uri" "content-digest" "content-type");created=1618884473;alg="hmac-sha256"`,
					`hook-2=("@method" "@target-uri" "content-digest" "content-type");created=1618884473;alg="hmac-sha256"`,
					`hook-3=("@method" "@target-uri" "content-digest" "content-type");created=1618884473;alg="hmac-sha256"`,
				}, ", ")},
				// Computed by OpenSSL over the base.
				{Name: "Signature", Value: "hook=:oHScIdoM9tVk/BnZusmUCLv8i6his1cieXZw3jU9MmA=:, hook-2=:0wiyEDmeqHo8+Ce+5IaBHvHQmOXER5mIrrFQIhlJpWI=:, hook-3=:2/GkxcLXCX9iviZwGmuN4xmUvzsPCJkjsugLRpcHeJI=:"},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := signer(t, tt.options)
			var keys []Key
			for _, secret := range tt.secrets {
				keys = append(keys, key(t, tt.options.Algorithm, secret))
			}
			for range 2 { // the second time with a reused hash state
				got, err := s.Sign(hook(t), keys)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("got  %q\nwant %q", got, tt.want)
				}
			}
		})
	}
}

func TestNewNamesTheFieldAndWhatIsAllowed(t *testing.T) {
	with := func(names ...string) Options {
		return Options{Algorithm: "ed25519", Components: append(names, "content-digest")}
	}
	tests := []struct {
		name    string
		options Options
		want    string
	}{
		{"no algorithm", Options{}, `algorithm: unknown ""; allowed: hmac-sha256, ed25519`},
		{"an unknown algorithm", Options{Algorithm: "rsa-v1_5-sha256"}, `algorithm: unknown "rsa-v1_5-sha256"`},
		{"an upper-case label", Options{Algorithm: "ed25519", Label: "Sig"}, `label: "Sig" is none; allowed: `},
		{"a label that begins with a digit", Options{Algorithm: "ed25519", Label: "1"}, `label: "1" is none`},
		{"a label that breaks out", Options{Algorithm: "ed25519", Label: "a=1, b"}, "label: "},
		{"a long label", Options{Algorithm: "ed25519", Label: strings.Repeat("a", 65)}, "label: has 65 bytes, at most 64"},
		{"a line break in the key's id", Options{Algorithm: "ed25519", KeyID: "a\nb"}, "key_id: must be printable ASCII"},
		{"a key's id that is not ASCII", Options{Algorithm: "ed25519", KeyID: "ü"}, "key_id: must be printable ASCII"},
		{"a long key's id", Options{Algorithm: "ed25519", KeyID: strings.Repeat("a", 257)}, "key_id: must be printable ASCII, at most 256 bytes"},
		{"no digest", Options{Algorithm: "ed25519", Components: []string{"@method"}}, `components: must hold "content-digest"`},
		{"a component twice", with("@method", "@method"), `components: "@method" stands twice`},
		{"the digest twice", with("content-digest"), `components: "content-digest" stands twice`},
		{"upper case", with("Content-Type"), `components: "Content-Type" is not a field's name; allowed: lower-case letters`},
		{"an empty name", with(""), "components: must not hold an empty name"},
		{"a quote", with(`a"b`), "components: "},
		{"a long name", with(strings.Repeat("a", 65)), "components: one has 65 bytes"},
		{"sf", with("x;sf"), `components: "x;sf" has a parameter such as ;sf`},
		{"bs", with("x;bs"), `components: "x;bs" has a parameter`},
		{"req", with("@method;req"), `components: "@method;req" has a parameter`},
		{"tr", with(`"x";tr`), "components: "},
		{"@query-param", with("@query-param"), `components: unknown "@query-param"; allowed: @authority, @method, @path, @query, @request-target, @scheme, @target-uri and names`},
		{"@status", with("@status"), `components: unknown "@status"`},
		{"@signature-params", with("@signature-params"), `components: unknown "@signature-params"`},
		{"host", with("host"), `components: "host" is not among a server's fields; use "@authority"`},
		{"signature", with("signature"), `components: "signature" is set by the signature itself`},
		{"signature-input", with("signature-input"), `components: "signature-input" is set`},
		{"too many", with(make([]string, 32)...), "components: are 33, at most 32"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(tt.options); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestHeaderNamesAndFields(t *testing.T) {
	s := signer(t, Options{Algorithm: "ed25519", Components: []string{"webhook-id", "@method", "content-digest", "content-type"}})
	if got, want := s.HeaderNames(), []string{"Content-Digest", "Signature-Input", "Signature"}; !slices.Equal(got, want) {
		t.Errorf("header names: got %q, want %q", got, want)
	}
	if got, want := s.Fields(), []string{"webhook-id", "content-type"}; !slices.Equal(got, want) {
		t.Errorf("fields: got %q, want %q", got, want)
	}
}

func TestSignRefusesWhatCannotBeVerified(t *testing.T) {
	o := Options{Algorithm: "ed25519", Components: []string{"@target-uri", "content-digest", "webhook-id"}}
	long := Options{Algorithm: "ed25519", Components: []string{"content-digest"}}
	wide := hook(t)
	for i := range 31 {
		name := fmt.Sprintf("x-%s-%02d", strings.Repeat("a", 50), i)
		long.Components = append(long.Components, name)
		wide.Header.Set(name, "")
	}
	k := key(t, "ed25519", testKeyEd25519)
	without := func(change func(m *Message)) Message {
		m := hook(t)
		change(&m)
		return m
	}
	tests := []struct {
		name    string
		options Options
		message Message
		keys    []Key
		want    string
	}{
		{"no key", o, hook(t), nil, "no key"},
		{"the zero key", o, hook(t), []Key{{}}, "a key is empty"},
		{"another algorithm's key", o, hook(t), []Key{key(t, "hmac-sha256", "secret")}, "a key is for hmac-sha256, must be for ed25519"},
		{"a public key", o, hook(t), []Key{k, key(t, "ed25519", testPublicEd25519)}, "a key is public and cannot sign"},
		{"too many keys", o, hook(t), slices.Repeat([]Key{k}, 17), "17 keys, at most 16"},
		{"no time", o, without(func(m *Message) { m.Created = time.Time{} }), []Key{k}, "created is not set"},
		{"no URL", o, without(func(m *Message) { m.URL = nil }), []Key{k}, `"@target-uri" cannot be derived`},
		{"no field", o, without(func(m *Message) { delete(m.Header, "webhook-id") }), []Key{k}, `"webhook-id" is not in the request's header`},
		{"a line break", o, without(func(m *Message) { m.Header.Set("webhook-id", "a\r\nb") }), []Key{k}, `"webhook-id" has a value that is not ASCII text`},
		{"more than Verify reads", long, wide, slices.Repeat([]Key{k}, 8), "Signature-Input has "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := signer(t, tt.options).Sign(tt.message, tt.keys)
			if err == nil || !strings.HasPrefix(err.Error(), "sign: "+tt.want) {
				t.Errorf("got %v, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestSignerIsSafeForConcurrentUse(t *testing.T) {
	for _, algorithm := range []string{"hmac-sha256", "ed25519"} {
		s := signer(t, Options{Algorithm: algorithm})
		keys := []Key{key(t, algorithm, map[string]string{"hmac-sha256": "secret", "ed25519": testKeyEd25519}[algorithm])}
		done := make(chan error)
		for i := range 8 {
			go func() {
				m := hook(t)
				m.Body = []byte(strings.Repeat("x", i))
				var err error
				for range 50 {
					var signed []signing.Header
					if signed, err = s.Sign(m, keys); err == nil {
						err = s.Verify(received(m, signed), keys, at)
					}
					if err != nil {
						break
					}
				}
				done <- err
			}()
		}
		for range 8 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
}

// drawKey yields a key for the algorithm, one of capital letters never.
func drawKey(t *rapid.T, algorithm, label string) Key {
	secret := rapid.StringMatching(`[a-z]{1,80}`).Draw(t, label)
	if algorithm == "ed25519" {
		seed := sha256.Sum256([]byte(secret))
		secret = "whsk_" + encode(seed[:])
	}
	k, err := ParseKey(algorithm, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// strangers are keys that drawKey does not yield.
var strangers = map[string]string{"hmac-sha256": "OTHER", "ed25519": testPublicEd25519}

func TestVerifyAcceptsWhatSignMadeAndNothingElse(t *testing.T) {
	derived := []string{"@method", "@target-uri", "@authority", "@scheme", "@path", "@query", "@request-target"}
	rapid.Check(t, func(t *rapid.T) {
		algorithm := rapid.SampledFrom([]string{"hmac-sha256", "ed25519"}).Draw(t, "algorithm")
		components := []string{"content-digest", "x-field"}
		for _, name := range derived {
			if rapid.Bool().Draw(t, name) {
				components = append(components, name)
			}
		}
		s, err := New(Options{Algorithm: algorithm, Components: rapid.Permutation(components).Draw(t, "components")})
		if err != nil {
			t.Fatal(err)
		}
		keys := []Key{drawKey(t, algorithm, "key")}
		if rapid.Bool().Draw(t, "rotation") {
			keys = append(keys, drawKey(t, algorithm, "old key"))
		}
		m := Message{
			Method: rapid.SampledFrom([]string{"POST", "PUT"}).Draw(t, "method"),
			URL: &url.URL{
				Scheme:   rapid.SampledFrom([]string{"http", "https", "HTTPS"}).Draw(t, "scheme"),
				Host:     rapid.StringMatching(`[A-Za-z0-9-]{1,20}(:[0-9]{1,5})?`).Draw(t, "host"),
				Path:     rapid.StringMatching(`(/[ -~ü]{0,20})?`).Draw(t, "path"),
				RawQuery: rapid.StringMatching(`[!-~]{0,20}`).Draw(t, "query"),
			},
			Header:  http.Header{"x-FIELD": rapid.SliceOfN(rapid.StringMatching("[ -~\t]{0,20}"), 1, 3).Draw(t, "field")},
			Body:    rapid.SliceOf(rapid.Byte()).Draw(t, "body"),
			Created: time.Unix(rapid.Int64Range(0, maxUnix).Draw(t, "unix"), 0),
		}
		signed, err := s.Sign(m, keys)
		if err != nil {
			t.Fatal(err)
		}
		got := received(m, signed)
		now := m.Created.Add(time.Duration(rapid.Int64Range(int64(-signing.Tolerance), int64(signing.Tolerance)).Draw(t, "skew")))
		for i := range keys {
			if err := s.Verify(got, keys[i:i+1], now); err != nil {
				t.Fatalf("verify by key %d: %v", i, err)
			}
		}
		stranger, err := ParseKey(algorithm, strangers[algorithm])
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(got, []Key{stranger}, now); !errors.Is(err, signing.ErrMismatch) {
			t.Fatalf("verify by another key: got %v, want ErrMismatch", err)
		}
		body := got
		body.Body = append([]byte("x"), m.Body...)
		if err := s.Verify(body, keys, now); !errors.Is(err, signing.ErrMismatch) {
			t.Fatalf("verify another body: got %v, want ErrMismatch", err)
		}
		got.Header.Set("X-Field", got.Header.Get("X-Field")+"x")
		if err := s.Verify(got, keys, now); !errors.Is(err, signing.ErrMismatch) {
			t.Fatalf("verify another field: got %v, want ErrMismatch", err)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	for algorithm, secret := range map[string]string{"hmac-sha256": testSharedSecret, "ed25519": testKeyEd25519} {
		b.Run(algorithm, func(b *testing.B) {
			s := signer(b, Options{Algorithm: algorithm, KeyID: "key-1"})
			keys := []Key{key(b, algorithm, secret)}
			m := hook(b)
			m.Body = make([]byte, 510)
			b.ReportAllocs()
			b.SetBytes(int64(len(m.Body)))
			for b.Loop() {
				if _, err := s.Sign(m, keys); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
