package httpsig

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/posthorn/posthorn/relay/signing"
)

// signWith returns hook's headers as they are received, signed by secret with
// parameters that a Signer would not set. Label is "a".
func signWith(t testing.TB, secret, covered, parameters string) http.Header {
	t.Helper()
	m := hook(t)
	h := received(m, nil).Header
	h.Set("Content-Digest", digestValue(m.Body))
	m.Header = h
	var names []string
	for _, name := range strings.Fields(strings.Trim(covered, "()")) {
		names = append(names, strings.Trim(name, `"`))
	}
	base, err := newRequest(m).base(names, covered+parameters)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := key(t, "hmac-sha256", secret).sign(base)
	if err != nil {
		t.Fatal(err)
	}
	h.Set("Signature-Input", "a="+covered+parameters)
	h.Set("Signature", "a=:"+base64.StdEncoding.EncodeToString(signed)+":")
	return h
}

const (
	required = `("@method" "@target-uri" "content-digest" "content-type")`
	created  = ";created=1618884473"
)

// join puts b's signature beside a's, in lines of their own.
func join(a, b http.Header) http.Header {
	for _, name := range []string{"Signature-Input", "Signature"} {
		a[name] = append(a[name], "b"+strings.TrimPrefix(b.Get(name), "a"))
	}
	return a
}

func TestVerifyFindsASignatureThatCounts(t *testing.T) {
	tests := []struct {
		name   string
		header func(t *testing.T) http.Header
		now    time.Time
		want   error
	}{
		{"created alone", func(t *testing.T) http.Header { return signWith(t, "secret", required, created) }, at, nil},
		{"parameters of all kinds, in any order", func(t *testing.T) http.Header {
			return signWith(t, "secret", required, `;tag="x";keyid="y";nonce="z";alg="hmac-sha256";expires=1618884480`+created+";other=?0")
		}, at, nil},
		{"more components, in any order", func(t *testing.T) http.Header {
			return signWith(t, "secret", `("webhook-id" "content-type" "@query" "content-digest" "@target-uri" "@method")`, created)
		}, at, nil},
		{"the oldest", func(t *testing.T) http.Header { return signWith(t, "secret", required, created) }, at.Add(signing.Tolerance), nil},
		{"too old", func(t *testing.T) http.Header { return signWith(t, "secret", required, created) }, at.Add(signing.Tolerance + time.Second), signing.ErrExpired},
		{"from the future", func(t *testing.T) http.Header { return signWith(t, "secret", required, created) }, at.Add(-signing.Tolerance - time.Second), signing.ErrExpired},
		{"the far future", func(t *testing.T) http.Header {
			return signWith(t, "secret", required, ";created=999999999999999")
		}, at, signing.ErrExpired},
		{"at its end", func(t *testing.T) http.Header { return signWith(t, "secret", required, created+";expires=1618884480") }, at.Add(7 * time.Second), nil},
		{"after its end", func(t *testing.T) http.Header { return signWith(t, "secret", required, created+";expires=1618884480") }, at.Add(8 * time.Second), signing.ErrExpired},
		{"an end that is no time", func(t *testing.T) http.Header { return signWith(t, "secret", required, created+`;expires="x"`) }, at, signing.ErrMalformed},
		{"no created", func(t *testing.T) http.Header { return signWith(t, "secret", required, "") }, at, signing.ErrMalformed},
		{"created as text", func(t *testing.T) http.Header { return signWith(t, "secret", required, `;created="1618884473"`) }, at, signing.ErrMalformed},
		{"another algorithm's name", func(t *testing.T) http.Header { return signWith(t, "secret", required, created+`;alg="ed25519"`) }, at, signing.ErrMismatch},
		{"an algorithm that is no text", func(t *testing.T) http.Header { return signWith(t, "secret", required, created+`;alg=hmac-sha256`) }, at, signing.ErrMismatch},
		{"another key", func(t *testing.T) http.Header { return signWith(t, "other", required, created) }, at, signing.ErrMismatch},
		{"the body is not covered", func(t *testing.T) http.Header {
			return signWith(t, "secret", `("@method" "@target-uri" "content-type")`, created)
		}, at, signing.ErrMalformed},
		{"nothing is covered", func(t *testing.T) http.Header { return signWith(t, "secret", `()`, created) }, at, signing.ErrMalformed},
		{"a component twice", func(t *testing.T) http.Header {
			return signWith(t, "secret", `("@method" "@target-uri" "content-digest" "content-type" "@method")`, created)
		}, at, signing.ErrMalformed},
		{"another's beside it", func(t *testing.T) http.Header {
			return join(signWith(t, "other", required, created), signWith(t, "secret", required, created))
		}, at, nil},
		{"another's behind it", func(t *testing.T) http.Header {
			return join(signWith(t, "secret", required, created), signWith(t, "other", required, created))
		}, at, nil},
		{"one too small beside another's", func(t *testing.T) http.Header {
			return join(signWith(t, "secret", `("@method")`, created), signWith(t, "other", required, created))
		}, at, signing.ErrMismatch},
		{"an old one beside another's", func(t *testing.T) http.Header {
			return join(signWith(t, "secret", required, ";created=1"), signWith(t, "other", required, created))
		}, at, signing.ErrExpired},
	}
	s := signer(t, Options{Algorithm: "hmac-sha256"})
	keys := []Key{key(t, "hmac-sha256", "unused"), key(t, "hmac-sha256", "secret"), key(t, "hmac-sha256", "unused")}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := hook(t)
			m.Header = tt.header(t)
			for _, some := range [][]Key{keys[:2], keys[1:]} {
				if err := s.Verify(m, some, tt.now); !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			}
		})
	}
}

func TestVerifySaysWhatIsWrong(t *testing.T) {
	input := "a=" + required + created
	set := func(name, value string) func(*Message) { return func(m *Message) { m.Header.Set(name, value) } }
	tests := []struct {
		name   string
		change func(*Message)
		want   error
	}{
		{"nothing", func(*Message) {}, nil},
		{"no Signature-Input", func(m *Message) { m.Header.Del("Signature-Input") }, signing.ErrMissing},
		{"no Signature", func(m *Message) { m.Header.Del("Signature") }, signing.ErrMissing},
		{"no Content-Digest", func(m *Message) { m.Header.Del("Content-Digest") }, signing.ErrMissing},
		{"no covered field", func(m *Message) { m.Header.Del("Content-Type") }, signing.ErrMissing},
		{"another method", func(m *Message) { m.Method = "PUT" }, signing.ErrMismatch},
		{"another path", func(m *Message) { m.URL = parseURL(t, "https://hooks.example.com/out?tenant=7") }, signing.ErrMismatch},
		{"another body", func(m *Message) { m.Body = []byte(`{"id":2}`) }, signing.ErrMismatch},
		{"another body and its digest", func(m *Message) {
			m.Body = []byte(`{"id":2}`)
			m.Header.Set("Content-Digest", digestValue(m.Body))
		}, signing.ErrMismatch},
		{"a second covered field", func(m *Message) { m.Header.Add("Content-Type", "text/plain") }, signing.ErrMismatch},
		{"a covered field that is not ASCII", set("Content-Type", "ü"), signing.ErrMalformed},
		{"an empty Signature-Input", set("Signature-Input", ""), signing.ErrMalformed},
		{"no dictionary", set("Signature-Input", "a=("), signing.ErrMalformed},
		{"an item", set("Signature-Input", "a=1"), signing.ErrMalformed},
		{"a component that is no text", set("Signature-Input", `a=(method)`+created), signing.ErrMalformed},
		{"a component with a parameter", set("Signature-Input", strings.Replace(input, `type"`, `type";sf`, 1)), signing.ErrMalformed},
		{"a component of a response", set("Signature-Input", strings.Replace(input, `type"`, `type" "@status"`, 1)), signing.ErrMalformed},
		{"a component that would break the base", set("Signature-Input", strings.Replace(input, `type"`, `type" "a\"b"`, 1)), signing.ErrMalformed},
		{"a long label", set("Signature-Input", strings.Repeat("a", 5000)+"=1"), signing.ErrMalformed},
		{"no signature under the label", set("Signature", "b=:AAAA:"), signing.ErrMalformed},
		{"a signature that is no bytes", set("Signature", `a="x"`), signing.ErrMalformed},
		{"an empty signature", set("Signature", `a=::`), signing.ErrMismatch},
		{"too many members", set("Signature", "a=:AAAA:, "+numbered(16)), signing.ErrMalformed},
		{"a huge header", func(m *Message) {
			m.Header.Set("Signature", m.Header.Get("Signature")+", b=:"+strings.Repeat("A", 8192)+":")
		}, signing.ErrMalformed},
		{"a huge header in many lines", func(m *Message) {
			m.Header["Signature"] = append(m.Header["Signature"], slices.Repeat([]string{"b"}, 3000)...)
		}, signing.ErrMalformed},
		{"a few lines", func(m *Message) { m.Header.Add("Signature", "b") }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := hook(t)
			m.Header = signWith(t, "secret", required, created)
			tt.change(&m)
			err := signer(t, Options{Algorithm: "hmac-sha256"}).Verify(m, []Key{key(t, "hmac-sha256", "secret")}, at)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err != nil && len(err.Error()) > 300 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestASignatureCoversAtMost32Components(t *testing.T) {
	s := signer(t, Options{Algorithm: "ed25519", Components: []string{"content-digest"}})
	list := httpsfv.InnerList{Items: []httpsfv.Item{httpsfv.NewItem("content-digest")}}
	for i := range 31 {
		list.Items = append(list.Items, httpsfv.NewItem(fmt.Sprint("x-", i)))
	}
	if got, err := s.coveredBy(list); err != nil || len(got) != 32 {
		t.Errorf("32: got %d, %v", len(got), err)
	}
	list.Items = append(list.Items, httpsfv.NewItem("x-31"))
	if _, err := s.coveredBy(list); err == nil {
		t.Error("33: got no error")
	}
}

// numbered returns a dictionary of n members.
func numbered(n int) string {
	var members []string
	for i := range n {
		members = append(members, fmt.Sprintf("c%d=:AAAA:", i))
	}
	return strings.Join(members, ", ")
}

func TestDigestsAreChecked(t *testing.T) {
	const sha256 = "sha-256=:A3ySFO73TMOIfzpPCFtOF9digNr9JzsO4WDAnEuhz9Q=:"
	m := hook(t)
	sha512 := "sha-512=:" + encode(digests[1].sum(m.Body)) + ":"
	tests := []struct {
		name   string
		values []string
		want   error
	}{
		{"sha-256", []string{sha256}, nil},
		{"sha-512", []string{sha512}, nil},
		{"both", []string{sha256 + ", " + sha512}, nil},
		{"both in lines of their own", []string{sha256, sha512}, nil},
		{"unknown ones beside it", []string{"md5=:AAAA:, " + sha256 + ", unixsum=1"}, nil},
		{"none", nil, signing.ErrMissing},
		{"unknown ones alone", []string{"md5=:AAAA:"}, signing.ErrMalformed},
		{"no bytes", []string{"sha-256=abc"}, signing.ErrMalformed},
		{"a list", []string{"sha-256=(1 2)"}, signing.ErrMalformed},
		{"no dictionary", []string{"sha-256=:A"}, signing.ErrMalformed},
		{"half of it", []string{"sha-256=:A3ySFO73TMOIfzpPCFtOFw==:"}, signing.ErrMismatch},
		{"nothing", []string{"sha-256=::"}, signing.ErrMismatch},
		{"one right, one wrong", []string{sha512 + ", sha-256=:AAAA:"}, signing.ErrMismatch},
		{"one wrong, one right", []string{sha256 + ", sha-512=:AAAA:"}, signing.ErrMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := checkDigest(tt.values, m.Body); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestVerifyTellsTheReceiverWhatItLacks(t *testing.T) {
	good := hook(t)
	good.Header = signWith(t, "secret", required, created)
	server := good
	server.URL = parseURL(t, "/in?tenant=7")
	k := key(t, "hmac-sha256", "secret")
	tests := []struct {
		name    string
		message Message
		keys    []Key
		want    string
	}{
		{"no key", good, nil, "verify: no key"},
		{"another algorithm's key", good, []Key{k, key(t, "ed25519", testPublicEd25519)}, "verify: a key is for ed25519"},
		{"a server's URL", server, []Key{k}, `verify: "@target-uri" cannot be derived: the message needs a method and a URL with scheme and host`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := signer(t, Options{Algorithm: "hmac-sha256"}).Verify(tt.message, tt.keys, at)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || rank(err) >= 0 {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(`sig1=`+required+created+`;keyid="k";alg="ed25519"`, "sig1=:AAAA:", "sha-256=:AAAA:", "text/plain", "a=b", []byte("{}"))
	f.Add(`a=("content-digest";sf "@status");created=-1.5;expires=@1, b=(1 :AA==: ?0 tok)`, `a=::, b;x="y\""`, "sha-512=(1 2)", "a\r\n b", "%", []byte(nil))
	for _, v := range vectors {
		f.Add(v.label+"="+v.input, v.signature, testRequest(f).Header.Get("Content-Digest"), "application/json", "", testRequest(f).Body)
	}
	secrets := map[string]string{"hmac-sha256": "a secret that the fuzzer does not know", "ed25519": testPublicEd25519}
	f.Fuzz(func(t *testing.T, input, signed, digest, contentType, query string, body []byte) {
		m := hook(t)
		m.Header = http.Header{"Signature-Input": {input}, "Signature": {signed}, "Content-Digest": {digest}, "Content-Type": {contentType}}
		m.URL.RawQuery = query
		m.Body = body
		for algorithm, secret := range secrets {
			err := signer(t, Options{Algorithm: algorithm}).Verify(m, []Key{key(t, algorithm, secret)}, at)
			if rank(err) < 0 {
				t.Errorf("%s: got %v, want one of the four errors", algorithm, err)
			}
		}
	})
}
