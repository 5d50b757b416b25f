package httpsig

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posthorn/posthorn/relay/signing"
)

// The keys of RFC 9421, appendix B.1.
const (
	testSharedSecret = "whsec_uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
	testKeyEd25519   = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
`
	testPublicEd25519 = `-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=
-----END PUBLIC KEY-----
`
)

// at is when the RFC's signatures were made.
var at = time.Unix(1618884473, 0)

func parseURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// testRequest is the request of RFC 9421, appendix B.2.
func testRequest(t testing.TB) Message {
	return Message{
		Method: "POST",
		URL:    parseURL(t, "https://example.com/foo?param=Value&Pet=dog"),
		Header: http.Header{
			"Date":           {"Tue, 20 Apr 2021 02:07:55 GMT"},
			"Content-Type":   {"application/json"},
			"Content-Digest": {"sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"},
			"Content-Length": {"18"},
		},
		Body:    []byte(`{"hello": "world"}`),
		Created: at,
	}
}

func key(t testing.TB, algorithm, secret string) Key {
	t.Helper()
	k, err := ParseKey(algorithm, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// vectors are those of appendix B.2 by algorithms that this package has. None
// covers content-digest or sends alg, so New would not yield them.
var vectors = []struct {
	name       string
	algorithm  string
	secret     string
	public     string // what verifies
	label      string
	keyID      string
	components []string
	base       string
	input      string
	signature  string
}{
	{
		name:       "B.2.5 hmac-sha256",
		algorithm:  "hmac-sha256",
		secret:     testSharedSecret,
		public:     testSharedSecret,
		label:      "sig-b25",
		keyID:      "test-shared-secret",
		components: []string{"date", "@authority", "content-type"},
		base: `"date": Tue, 20 Apr 2021 02:07:55 GMT
"@authority": example.com
"content-type": application/json
"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"`,
		input:     `("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"`,
		signature: "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:",
	},
	{
		name:       "B.2.6 ed25519",
		algorithm:  "ed25519",
		secret:     testKeyEd25519,
		public:     testPublicEd25519,
		label:      "sig-b26",
		keyID:      "test-key-ed25519",
		components: []string{"date", "@method", "@path", "@authority", "content-type", "content-length"},
		base: `"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@authority": example.com
"content-type": application/json
"content-length": 18
"@signature-params": ("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`,
		input:     `("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`,
		signature: "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:",
	},
}

func TestAppendixB2(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			base, err := newRequest(testRequest(t)).base(v.components, v.input)
			if err != nil {
				t.Fatal(err)
			}
			if string(base) != v.base {
				t.Errorf("base\n%s\nwant\n%s", base, v.base)
			}

			keyID, err := keyIDParameter(v.keyID)
			if err != nil {
				t.Fatal(err)
			}
			s, err := newSigner(v.algorithm, v.label, v.components, keyID, "")
			if err != nil {
				t.Fatal(err)
			}
			signed, err := s.Sign(testRequest(t), []Key{key(t, v.algorithm, v.secret)})
			if err != nil {
				t.Fatal(err)
			}
			want := []signing.Header{{Name: "Signature-Input", Value: v.label + "=" + v.input}, {Name: "Signature", Value: v.signature}}
			if !slices.Equal(signed, want) {
				t.Errorf("signed\n%q\nwant\n%q", signed, want)
			}

			published := testRequest(t)
			published.Header.Set("Signature-Input", v.label+"="+v.input)
			published.Header.Set("Signature", v.signature)
			keys := []Key{key(t, v.algorithm, v.public)}
			if err := s.Verify(published, keys, at); err != nil {
				t.Errorf("verify what is published: %v", err)
			}
			published.Header.Set("Date", "Tue, 20 Apr 2021 02:07:56 GMT")
			if err := s.Verify(published, keys, at); !errors.Is(err, signing.ErrMismatch) {
				t.Errorf("verify with another date: got %v, want ErrMismatch", err)
			}
		})
	}
}

func TestContentDigestOfAppendixB2(t *testing.T) {
	m := testRequest(t)
	if err := checkDigest(m.Header.Values("Content-Digest"), m.Body); err != nil {
		t.Error(err)
	}
	if err := checkDigest(m.Header.Values("Content-Digest"), m.Body[1:]); !errors.Is(err, signing.ErrMismatch) {
		t.Errorf("another body: got %v, want ErrMismatch", err)
	}
	// RFC 9530, appendix B.1, has the sha-256 of the same request's response.
	const want = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
	if got := digestValue([]byte("{\"hello\": \"world\"}\n")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFieldValuesAreCombinedAsSection21Says(t *testing.T) {
	r := newRequest(Message{Header: http.Header{
		"X-OWS-Header":      {"  Leading and trailing whitespace.\t "},
		"X-Obs-Fold-Header": {"Obsolete\r\n    line folding."},
		"cache-control":     {"max-age=60", "   must-revalidate"},
		"Example-Dict":      {"a=1,    b=2;x=1;y=2,   c=(a   b   c)"},
		"X-Empty-Header":    {""},
		"X-Tab":             {"a\tb"},
		"x-spelt":           {"c"},
		"X-Spelt":           {"a", "b"},
	}})
	want := `"x-ows-header": Leading and trailing whitespace.
"x-obs-fold-header": Obsolete line folding.
"cache-control": max-age=60, must-revalidate
"example-dict": a=1,    b=2;x=1;y=2,   c=(a   b   c)
"x-empty-header": ` + `
"x-tab": a	b
"x-spelt": a, b, c
"@signature-params": ()`
	names := []string{"x-ows-header", "x-obs-fold-header", "cache-control", "example-dict", "x-empty-header", "x-tab", "x-spelt"}
	got, err := r.base(names, "()")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDerivedComponentsAreNormalised(t *testing.T) {
	names := []string{"@scheme", "@authority", "@path", "@query", "@request-target", "@target-uri"}
	tests := []struct {
		name, url string
		want      []string
	}{
		{"section 2.2.2", "https://www.example.com/path?param=value", []string{"https", "www.example.com", "/path", "?param=value", "/path?param=value", "https://www.example.com/path?param=value"}},
		{"section 2.2.7, encoded", "https://www.example.com/path?param=value&foo=bar&baz=bat%2Dman", []string{"https", "www.example.com", "/path", "?param=value&foo=bar&baz=bat%2Dman", "/path?param=value&foo=bar&baz=bat%2Dman", "https://www.example.com/path?param=value&foo=bar&baz=bat%2Dman"}},
		{"no query", "https://www.example.com/path", []string{"https", "www.example.com", "/path", "?", "/path", "https://www.example.com/path"}},
		{"an empty query", "https://www.example.com/path?", []string{"https", "www.example.com", "/path", "?", "/path?", "https://www.example.com/path?"}},
		{"no path", "https://www.example.com", []string{"https", "www.example.com", "/", "?", "/", "https://www.example.com/"}},
		{"no path but a query", "https://www.example.com?a", []string{"https", "www.example.com", "/", "?a", "/?a", "https://www.example.com/?a"}},
		{"upper case, default port", "HTTPS://WWW.Example.COM:443/Path", []string{"https", "www.example.com", "/Path", "?", "/Path", "https://www.example.com/Path"}},
		{"http's default port", "http://example.com:80/", []string{"http", "example.com", "/", "?", "/", "http://example.com/"}},
		{"the other one's default port", "http://example.com:443/", []string{"http", "example.com:443", "/", "?", "/", "http://example.com:443/"}},
		{"an empty port", "http://example.com:/", []string{"http", "example.com", "/", "?", "/", "http://example.com/"}},
		{"a port", "https://example.com:8443/", []string{"https", "example.com:8443", "/", "?", "/", "https://example.com:8443/"}},
		{"user info and fragment", "https://user:hunter2@example.com/a#b", []string{"https", "example.com", "/a", "?", "/a", "https://example.com/a"}},
		{"IPv6", "https://[2001:DB8::1]:443/", []string{"https", "[2001:db8::1]", "/", "?", "/", "https://[2001:db8::1]/"}},
		{"IPv6 with zone and port", "http://[fe80::1%25eth0]:8080/", []string{"http", "[fe80::1]:8080", "/", "?", "/", "http://[fe80::1]:8080/"}},
		{"an encoded path", "https://example.com/a%2Fb%20c", []string{"https", "example.com", "/a%2Fb%20c", "?", "/a%2Fb%20c", "https://example.com/a%2Fb%20c"}},
		{"a path to be encoded", "https://example.com/ü b", []string{"https", "example.com", "/%C3%BC%20b", "?", "/%C3%BC%20b", "https://example.com/%C3%BC%20b"}},
		{"a path that begins like a host", "https://example.com//a", []string{"https", "example.com", "//a", "?", "//a", "https://example.com//a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRequest(Message{Method: "POST", URL: parseURL(t, tt.url)})
			for i, name := range names {
				if got, err := r.value(name); err != nil || got != tt.want[i] {
					t.Errorf("%s: got %q, %v, want %q", name, got, err, tt.want[i])
				}
			}
		})
	}
}

func TestComponentsWithoutAValueAreErrors(t *testing.T) {
	full := "https://example.com/"
	tests := []struct {
		name, component string
		message         Message
		want            error
	}{
		{"no method", "@method", Message{URL: parseURL(t, full)}, errNotDerived},
		{"no URL", "@path", Message{Method: "POST"}, errNotDerived},
		{"an opaque URL", "@query", Message{URL: parseURL(t, "mailto:a@example.com")}, errNotDerived},
		{"a path that is not absolute", "@path", Message{URL: &url.URL{Path: "*"}}, errNotDerived},
		{"a URL without scheme", "@scheme", Message{URL: parseURL(t, "//example.com/")}, errNotDerived},
		{"a target URI without scheme", "@target-uri", Message{URL: parseURL(t, "//example.com/")}, errNotDerived},
		{"a server's URL", "@target-uri", Message{URL: parseURL(t, "/path")}, errNotDerived},
		{"a port without host", "@authority", Message{URL: &url.URL{Scheme: "http", Host: ":80"}}, errNotDerived},
		{"a host that is not ASCII", "@authority", Message{URL: parseURL(t, "https://bücher.example/")}, errValue},
		{"a space in the query", "@query", Message{URL: parseURL(t, full+"?a b")}, errValue},
		{"a line break in the method", "@method", Message{Method: "POST\n"}, errValue},
		{"a long path", "@path", Message{URL: parseURL(t, full+strings.Repeat("a", maxValue))}, errValue},
		{"no field", "x", Message{Header: http.Header{"Y": {"a"}}}, errNoField},
		{"a field without values", "x", Message{Header: http.Header{"X": nil}}, errNoField},
		{"a line break in a field", "x", Message{Header: http.Header{"X": {"a\n\"@method\": GET"}}}, errValue},
		{"a carriage return in a field", "x", Message{Header: http.Header{"X": {"a\rb"}}}, errValue},
		{"a field that is not ASCII", "x", Message{Header: http.Header{"X": {"ü"}}}, errValue},
		{"a long field", "x", Message{Header: http.Header{"X": {strings.Repeat("a", maxValue), "b"}}}, errValue},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := newRequest(tt.message).base([]string{tt.component}, "()"); !errors.Is(err, tt.want) {
				t.Errorf("got %q, %v, want %v", got, err, tt.want)
			}
		})
	}
}
