package signing

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// at is the time of Standard Webhooks' vector.
var at = time.Unix(1614265330, 0)

func signer(t testing.TB, o Options) *Signer {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func key(t testing.TB, scheme, secret string) Key {
	t.Helper()
	k, err := ParseKey(scheme, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// header is what a receiver gets of signed.
func header(signed []Header) http.Header {
	h := http.Header{}
	for _, s := range signed {
		h.Add(s.Name, s.Value)
	}
	return h
}

func TestSignatureIsByteExact(t *testing.T) {
	const byroBody = `{"event":"pr.submitted","data":{"prId":"clx123","amount":4500},"deliveredAt":"2026-05-22T09:30:00Z"}`
	tests := []struct {
		name    string
		options Options
		secrets []string
		message Message
		want    []Header
	}{
		{
			name:    "Standard Webhooks' vector",
			options: Options{Scheme: "standard-webhooks"},
			secrets: []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
			message: Message{"msg_p5jXN8AQM9LWM0D4loKWxJek", at, []byte(`{"test": 2432232314}`)},
			want: []Header{
				{"webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"},
				{"webhook-timestamp", "1614265330"},
				{"webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
			},
		},
		{
			name:    "GitHub's vector",
			options: Options{Scheme: "hmac", Header: "X-Hub-Signature-256", Value: "sha256={signature}"},
			secrets: []string{"It's a Secret to Everybody"},
			message: Message{Body: []byte("Hello, World!")},
			want: []Header{{
				"X-Hub-Signature-256",
				"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
			}},
		},
		{
			name:    "Byro and Offly: hex in a header of its own",
			options: Options{Scheme: "hmac", Header: "X-Byro-Signature"},
			secrets: []string{"byro-secret"},
			message: Message{Body: []byte(byroBody)},
			want:    []Header{{"X-Byro-Signature", "f043d56752453c736fa3b76309b88011098be814a45afa71aee7577c09f2f4c5"}},
		},
		{
			name:    "Danbyte: SHA-512 with a prefix",
			options: Options{Scheme: "hmac", Header: "X-Danbyte-Signature", Algorithm: "sha512", Value: "sha512={signature}"},
			secrets: []string{"danbyte-secret"},
			message: Message{Body: []byte(byroBody)},
			want:    []Header{{"X-Danbyte-Signature", "sha512=d94ed7a96a35ca67791e5e0376d3f0a515ec5004ab5e5b3df2c8bc8460d508f105beb734c97e9bcde0cbea432dd135eec409476919a382f60b9b01cafba4286c"}},
		},
		{
			name:    "Bindbee: base64url with padding, as Python's urlsafe_b64encode writes it",
			options: Options{Scheme: "hmac", Header: "X-Bindbee-Webhook-Signature", Encoding: "base64url"},
			secrets: []string{"bindbee-key"},
			message: Message{Body: []byte(byroBody)},
			want:    []Header{{"X-Bindbee-Webhook-Signature", "USEwKutcw3V5qHdoRSo2mUXuswoFddowCl0lqG6rOPs="}},
		},
		{
			name:    "SHA-1, base64, id and timestamp in content and value",
			options: Options{Scheme: "hmac", Header: "X-Sig", Algorithm: "sha1", Encoding: "base64", Content: "{timestamp}|{id} {body}", Value: "{id}-{timestamp}-{signature}"},
			secrets: []string{"k", "not used, since the value is no list"},
			message: Message{"a-b-1", at, []byte("x")},
			want:    []Header{{"X-Sig", "a-b-1-1614265330-yPkc1gFluVcrAiSrJ9Qjvm6/IW8="}},
		},
		{
			name:    "a list repeats the pair with the signature for each key",
			options: Options{Scheme: "hmac", Header: "Stripe-Signature", Content: "{timestamp}.{body}", Value: "t={timestamp},v1={signature}"},
			secrets: []string{"new", "old"},
			message: Message{Timestamp: at, Body: []byte("x")},
			want:    []Header{{"Stripe-Signature", "t=1614265330,v1=087d32b757c8db70d44a6b8068daad2704520c3bf11c24644a40a9c9050579e8,v1=cbb8e2b4b0b2993474393eaefaed306440738af71a18ef16d51c25573ab9a362"}},
		},
		{
			name:    "a single pair is no list: receivers compare it whole",
			options: Options{Scheme: "hmac", Header: "X-Sig", Content: "{body}", Value: "sha256={signature}"},
			secrets: []string{"It's a Secret to Everybody", "old"},
			message: Message{Body: []byte("Hello, World!")},
			want:    []Header{{"X-Sig", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := signer(t, tt.options)
			var keys []Key
			for _, secret := range tt.secrets {
				keys = append(keys, key(t, tt.options.Scheme, secret))
			}
			for range 2 { // the second time with a reused hash state
				got, err := s.Sign(tt.message, keys)
				if err != nil {
					t.Fatal(err)
				}
				if fmt.Sprint(got) != fmt.Sprint(tt.want) {
					t.Errorf("got  %v\nwant %v", got, tt.want)
				}
			}
		})
	}
}

func TestNewNamesTheFieldAndWhatIsAllowed(t *testing.T) {
	tests := []struct {
		options Options
		want    string
	}{
		{Options{}, `scheme: unknown ""; allowed: github, hmac, standard-webhooks, stripe`},
		{Options{Scheme: "hmca"}, `scheme: unknown "hmca"; allowed: github, hmac, standard-webhooks, stripe`},
		{Options{Scheme: "hmac"}, `header: must name the header that carries the signature`},
		{Options{Scheme: "hmac", Header: "X Sig"}, `header: "X Sig" is not a header's name; allowed: letters, digits and -`},
		{Options{Scheme: "hmac", Header: "S", Algorithm: "md5"}, `algorithm: unknown "md5"; allowed: sha1, sha256, sha512`},
		{Options{Scheme: "hmac", Header: "S", Encoding: "b64"}, `encoding: unknown "b64"; allowed: hex, base64, base64url`},
		{Options{Scheme: "hmac", Header: "S", Content: "{id}"}, `content: must hold {body}`},
		{Options{Scheme: "hmac", Header: "S", Content: "{body}{nonce}"}, `content: unknown placeholder at "{nonce}"; allowed: {id} {timestamp} {body}`},
		{Options{Scheme: "hmac", Header: "S", Content: "{body}{"}, `content: unknown placeholder at "{"; allowed: {id} {timestamp} {body}`},
		{Options{Scheme: "hmac", Header: "S", Content: "{timestamp}.{body}"}, `value: must hold {timestamp}, since content does: receivers could not know it`},
		{Options{Scheme: "hmac", Header: "S", Content: "{id}:{body}"}, `content: {id} must be followed by a dot, comma, space or line break, which ids cannot hold`},
		{Options{Scheme: "hmac", Header: "S", Value: "{body}{signature}"}, `value: unknown placeholder at "{body}{signature}"; allowed: {signature} {timestamp} {id}`},
		{Options{Scheme: "hmac", Header: "S", Value: "v1="}, `value: must hold {signature}`},
		{Options{Scheme: "hmac", Header: "S", Value: "{signature}{signature}"}, `value: must hold {signature} once`},
		{Options{Scheme: "hmac", Header: "S", Value: "a\r\n{signature}"}, `value: must be printable ASCII`},
		{Options{Scheme: "hmac", Header: "S", Value: " {signature}"}, `value: must not begin or end with a space`},
		{Options{Scheme: "hmac", Header: "S", Value: strings.Repeat("x", 2000)}, `value: has 2000 bytes, at most 1024 are allowed`},
		{Options{Scheme: "standard-webhooks", Header: "S"}, `header: must be empty, standard-webhooks fixes it`},
		{Options{Scheme: "standard-webhooks", Algorithm: "sha512"}, `algorithm: must be empty, standard-webhooks fixes it`},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			if _, err := New(tt.options); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestParseKeyRefusesWhatIsNoKey(t *testing.T) {
	tests := []struct{ name, scheme, secret, want string }{
		{"empty", "hmac", "", "secret: must not be empty"},
		{"unknown scheme", "none", "x", `scheme: unknown "none"; allowed: github, hmac, standard-webhooks, stripe`},
		{"too long", "hmac", strings.Repeat("x", maxSecret+1), "secret: has 65537 bytes, at most 65536 are allowed"},
		{"not base64", "standard-webhooks", "whsec_%", "secret: must be base64 after whsec_"},
		{"short", "standard-webhooks", "whsec_c2hvcnQ=", "secret: decodes to 5 bytes after whsec_, must be 24 to 64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseKey(tt.scheme, tt.secret); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestPrefixIsDecodedOnlyWhereTheSchemeSaysSo(t *testing.T) {
	const text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	if got := *key(t, "hmac", text).secret.bytes; string(got) != text {
		t.Errorf("hmac: got %q, want the text as it is", got)
	}
	if got := *key(t, "standard-webhooks", text).secret.bytes; len(got) != 24 {
		t.Errorf("standard-webhooks: got %d bytes, want the 24 decoded", len(got))
	}
	if got := *key(t, "standard-webhooks", "plain").secret.bytes; string(got) != "plain" {
		t.Errorf("standard-webhooks: got %q, want the text as it is", got)
	}
}

func TestKeyIsNeverPrinted(t *testing.T) {
	k := key(t, "hmac", "hunter2")
	inside := struct{ key Key }{k}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "key", k, "keys", []Key{k}, "inside", inside)
	asJSON, err := json.Marshal(struct{ Key Key }{k})
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(asJSON) + k.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%p"} {
		out += fmt.Sprintf(verb+verb+verb, k, []Key{k}, &k) + fmt.Sprintf(verb, inside)
	}
	for _, leak := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), "104 117 110"} {
		if strings.Contains(out, leak) {
			t.Errorf("%q is shown in %s", leak, out)
		}
	}
}

func TestSignRefusesWhatCannotBeSent(t *testing.T) {
	standard := signer(t, Options{Scheme: "standard-webhooks"})
	k := key(t, "standard-webhooks", "secret")
	good := Message{ID: "id", Timestamp: at}
	tests := []struct {
		name    string
		message Message
		keys    []Key
	}{
		{"no key", good, nil},
		{"the zero key", good, []Key{{}}},
		{"no id", Message{Timestamp: at}, []Key{k}},
		{"a dot in the id", Message{ID: "a.b", Timestamp: at}, []Key{k}},
		{"a line break in the id", Message{ID: "a\r\nb", Timestamp: at}, []Key{k}},
		{"a long id", Message{ID: strings.Repeat("x", 257), Timestamp: at}, []Key{k}},
		{"no timestamp", Message{ID: "id"}, []Key{k}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := standard.Sign(tt.message, tt.keys); err == nil {
				t.Errorf("got %v, want an error", got)
			}
		})
	}
}

func TestContentMustKeepItsPartsApart(t *testing.T) {
	const value = "{timestamp} {id} {signature}"
	for _, tt := range []struct {
		content string
		ok      bool
	}{
		{"{id}:{body}", false},
		{"{id}{body}", false},
		{"{id}-.{body}", false},
		{"{id}{timestamp}.{body}", false},
		{"{id}|{timestamp}.{body}", false},
		{"{timestamp}{body}", false},
		{"{timestamp}{id}.{body}", false},
		{"{timestamp}0.{body}", false},
		{"{body}{id}", false},
		{"{body}.-{id}", false},
		{"{body}{timestamp}", false},
		{"{body}.0{timestamp}", false},
		{"{body}{timestamp}.{id}", false},
		{"{body}.{id}{timestamp}", false},
		{"{id}.{body}{timestamp}", false},

		{"{body}", true},
		{"a:{body}b", true},
		{"{id}.{body}", true},
		{"{id},:{body}", true},
		{"{id} {body}", true},
		{"{id}\n{body}", true},
		{"{id}ä{body}", true},
		{"v0:{timestamp}:{body}", true},
		{"{timestamp}-{id}.{body}", true},
		{"{body}-{timestamp}", true},
		{"{body}:.{id}", true},
		{"{id}.{body}.{timestamp}", true},
		{"{body}.{id}.{timestamp}0", true},
	} {
		t.Run(tt.content, func(t *testing.T) {
			_, err := New(Options{Scheme: "hmac", Header: "S", Content: tt.content, Value: value})
			if (err == nil) != tt.ok || err != nil && !strings.HasPrefix(err.Error(), "content: {") {
				t.Errorf("got %v, want an error: %t", err, !tt.ok)
			}
		})
	}
}

// drawOptions yields configurations that can be verified.
func drawOptions(t *rapid.T) Options {
	if scheme := rapid.SampledFrom([]string{"hmac", "standard-webhooks", "stripe", "github"}).Draw(t, "scheme"); scheme != "hmac" {
		return Options{Scheme: scheme}
	}
	shape := rapid.SampledFrom([]struct{ content, value string }{
		{"", ""},
		{"{body}", "sha256={signature}"},
		{"{timestamp}.{body}", "t={timestamp},v1={signature}"},
		{"{id},{timestamp},{body}", "t={timestamp}, v1={signature}, id={id}"},
		{"{id}.{timestamp}.{body}", "{id}-{timestamp}-{signature}"},
		{"<{body}, {id}", "{signature} {id}"},
	}).Draw(t, "shape")
	return Options{
		Scheme:    "hmac",
		Header:    "X-Signature",
		Algorithm: rapid.SampledFrom([]string{"", "sha1", "sha256", "sha512"}).Draw(t, "algorithm"),
		Encoding:  rapid.SampledFrom([]string{"", "hex", "base64", "base64url"}).Draw(t, "encoding"),
		Content:   shape.content,
		Value:     shape.value,
	}
}

func TestVerifyAcceptsWhatSignMadeAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOptions(t)
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		secrets := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,100}`), 1, 3, rapid.ID[string]).Draw(t, "secrets")
		var keys []Key
		for _, secret := range secrets {
			k, err := ParseKey(o.Scheme, secret)
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, k)
		}
		m := Message{
			ID:        rapid.StringMatching(`[0-9a-z_-]{1,64}`).Draw(t, "id"),
			Timestamp: time.Unix(rapid.Int64Range(0, maxUnix).Draw(t, "unix"), 0),
			Body:      rapid.SliceOf(rapid.Byte()).Draw(t, "body"),
		}
		signed, err := s.Sign(m, keys)
		if err != nil {
			t.Fatal(err)
		}
		h := header(signed)
		now := m.Timestamp.Add(time.Duration(rapid.Int64Range(int64(-Tolerance), int64(Tolerance)).Draw(t, "skew")))
		if err := s.Verify(h, m.Body, keys[:1], now); err != nil {
			t.Fatalf("verify what was signed: %v", err)
		}
		last := keys[len(keys)-1:]
		several := o.Scheme == "standard-webhooks" || o.Scheme == "stripe" || strings.Contains(o.Value, ",")
		if err := s.Verify(h, m.Body, last, now); (err == nil) != (several || len(keys) == 1) {
			t.Fatalf("verify by the last of %d keys: %v", len(keys), err)
		}
		other, _ := ParseKey(o.Scheme, "OTHER")
		if err := s.Verify(h, m.Body, []Key{other}, now); !errors.Is(err, ErrMismatch) {
			t.Fatalf("verify by another key: got %v, want ErrMismatch", err)
		}
		if err := s.Verify(h, append([]byte("x"), m.Body...), keys, now); !errors.Is(err, ErrMismatch) {
			t.Fatalf("verify another body: got %v, want ErrMismatch", err)
		}
		// One bit of one header changed; it can lie in another key's
		// signature when there are several.
		name := rapid.SampledFrom(s.HeaderNames()).Draw(t, "header")
		value := []byte(h.Get(name))
		value[rapid.IntRange(0, len(value)-1).Draw(t, "place")] ^= 1
		h.Set(name, string(value))
		if err := s.Verify(h, m.Body, keys[:1], now); err == nil && len(keys) == 1 {
			t.Fatalf("verify with %s changed to %q: got nil", name, value)
		}
	})
}

func TestVerifySaysWhatIsWrong(t *testing.T) {
	standard := Options{Scheme: "standard-webhooks"}
	stripe := Options{Scheme: "hmac", Header: "Sig", Content: "{timestamp}.{body}", Value: "t={timestamp},v1={signature}"}
	github := Options{Scheme: "github"}
	named := Options{Scheme: "stripe"}
	unsent := Options{Scheme: "hmac", Header: "Sig", Content: "{id}.{body}"}
	tests := []struct {
		name    string
		options Options
		change  func(h http.Header)
		now     time.Time
		want    error
	}{
		{"nothing", standard, func(http.Header) {}, at, nil},
		{"other versions and noise beside v1", standard, func(h http.Header) {
			h.Set("webhook-signature", "v1a,AAAA  v1,AAAA "+h.Get("webhook-signature")+" v2")
		}, at, nil},
		{"unknown pairs beside v1", stripe, func(h http.Header) { h.Set("Sig", "v0=00, "+h.Get("Sig")+",x") }, at, nil},
		{"no id", standard, func(h http.Header) { h.Del("webhook-id") }, at, ErrMissing},
		{"no timestamp", standard, func(h http.Header) { h.Del("webhook-timestamp") }, at, ErrMissing},
		{"no signature", standard, func(h http.Header) { h.Del("webhook-signature") }, at, ErrMissing},
		{"no hmac header", stripe, func(h http.Header) { h.Del("Sig") }, at, ErrMissing},
		{"an id that is not sent", unsent, func(http.Header) {}, at, ErrMissing},
		{"two ids", standard, func(h http.Header) { h.Add("webhook-id", "other") }, at, ErrMalformed},
		{"a signed timestamp", standard, func(h http.Header) { h.Set("webhook-timestamp", "+1614265330") }, at, ErrMalformed},
		{"a dot in the id", standard, func(h http.Header) { h.Set("webhook-id", "a.b") }, at, ErrMalformed},
		{"two timestamps", stripe, func(h http.Header) { h.Set("Sig", h.Get("Sig")+",t=1") }, at, ErrMalformed},
		{"no signature in the pairs", stripe, func(h http.Header) { h.Set("Sig", "t=1614265330") }, at, ErrMalformed},
		{"a huge header", stripe, func(h http.Header) { h.Set("Sig", h.Get("Sig")+strings.Repeat(",", 9000)) }, at, ErrMalformed},
		{"too old", standard, func(http.Header) {}, at.Add(Tolerance + time.Second), ErrExpired},
		{"from the future", stripe, func(http.Header) {}, at.Add(-Tolerance - time.Second), ErrExpired},
		{"Stripe's, too old", named, func(http.Header) {}, at.Add(Tolerance + time.Second), ErrExpired},
		{"Stripe's test signatures beside it", named, func(h http.Header) { h.Set("Stripe-Signature", h.Get("Stripe-Signature")+",v0=00") }, at, nil},
		{"Stripe's, two headers", named, func(h http.Header) { h.Add("Stripe-Signature", h.Get("Stripe-Signature")) }, at, ErrMalformed},
		{"Stripe's, no time", named, func(h http.Header) { h.Set("Stripe-Signature", strings.Split(h.Get("Stripe-Signature"), ",")[1]) }, at, ErrMalformed},
		{"GitHub's, without its prefix", github, func(h http.Header) {
			h.Set("X-Hub-Signature-256", strings.TrimPrefix(h.Get("X-Hub-Signature-256"), "sha256="))
		}, at, ErrMalformed},
		{"GitHub's, with SHA-1's prefix", github, func(h http.Header) { h.Set("X-Hub-Signature-256", "sha1="+strings.Repeat("0", 40)) }, at, ErrMalformed},
		{"GitHub's, two headers", github, func(h http.Header) { h.Add("X-Hub-Signature-256", "sha256=") }, at, ErrMalformed},
		{"GitHub's, none", github, func(h http.Header) { h.Del("X-Hub-Signature-256") }, at, ErrMissing},
		{"only another version", standard, func(h http.Header) { h.Set("webhook-signature", "v1a,AAAA") }, at, ErrMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := signer(t, tt.options)
			keys := []Key{key(t, tt.options.Scheme, "secret")}
			signed, err := s.Sign(Message{ID: "id", Timestamp: at, Body: []byte("{}")}, keys)
			if err != nil {
				t.Fatal(err)
			}
			h := header(signed)
			tt.change(h)
			if err := s.Verify(h, []byte("{}"), keys, tt.now); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestSignerIsSafeForConcurrentUse(t *testing.T) {
	s := signer(t, Options{Scheme: "standard-webhooks"})
	k := []Key{key(t, "standard-webhooks", "secret")}
	done := make(chan error)
	for i := range 8 {
		go func() {
			m := Message{ID: fmt.Sprint("id-", i), Timestamp: at, Body: []byte(strings.Repeat("x", i))}
			var err error
			for range 200 {
				var signed []Header
				if signed, err = s.Sign(m, k); err == nil {
					err = s.Verify(header(signed), m.Body, k, at)
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

func FuzzVerify(f *testing.F) {
	f.Add("t=1614265330,v1=00", "id", "1614265330", "v1,AAAA", []byte("{}"))
	f.Add("a-1614265330-", "", "", " v1, v1,", []byte(nil))
	f.Add("sha256=00", "id", "1614265330", "v1a,AAAA v1a, v1a", []byte("{}"))
	type target struct {
		signer *Signer
		keys   []Key
	}
	var targets []target
	for _, o := range []Options{
		{Scheme: "standard-webhooks"},
		{Scheme: "stripe", Header: "Sig"},
		{Scheme: "github", Header: "Sig"},
		{Scheme: "hmac", Header: "Sig", Content: "{timestamp}.{body}", Value: "t={timestamp},v1={signature}"},
		{Scheme: "hmac", Header: "Sig", Encoding: "base64", Content: "{id}.{body}", Value: "{id}-{timestamp}-{signature}"},
	} {
		targets = append(targets, target{signer(f, o), keysOf(f, o.Scheme, "a secret that the fuzzer does not know")})
	}
	targets[0].keys = append(targets[0].keys, key(f, "standard-webhooks", publicKey))
	f.Fuzz(func(t *testing.T, sig, id, timestamp, standard string, body []byte) {
		h := http.Header{}
		h.Set("Sig", sig)
		h.Set("webhook-id", id)
		h.Set("webhook-timestamp", timestamp)
		h.Set("webhook-signature", standard)
		for i, target := range targets {
			err := target.signer.Verify(h, body, target.keys, at)
			if !errors.Is(err, ErrMissing) && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrExpired) && !errors.Is(err, ErrMismatch) {
				t.Errorf("signer %d: got %v, want one of the four errors", i, err)
			}
		}
	})
}

func BenchmarkSign(b *testing.B) {
	for _, o := range []Options{
		{Scheme: "standard-webhooks"},
		{Scheme: "hmac", Header: "X-Signature"},
	} {
		b.Run(o.Scheme, func(b *testing.B) {
			s := signer(b, o)
			keys := []Key{key(b, o.Scheme, "secret")}
			m := Message{ID: "0192f0c1-2345-7abc-8def-0123456789ab", Timestamp: at, Body: make([]byte, 510)}
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
