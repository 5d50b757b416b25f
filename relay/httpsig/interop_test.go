package httpsig_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/yaronf/httpsign"

	"github.com/posthorn/posthorn/relay/httpsig"
	"github.com/posthorn/posthorn/relay/signing"
)

// party is one algorithm as the two libraries know it.
type party struct {
	algorithm string
	keys      []httpsig.Key
	signer    func(httpsign.Fields) (*httpsign.Signer, error)
	verifier  func(httpsign.Fields) (*httpsign.Verifier, error)
}

func parties(t *testing.T) []party {
	t.Helper()
	shared := bytes.Repeat([]byte("0123456789abcdef"), 4)
	private := ed25519.NewKeyFromSeed(shared[:32])
	parse := func(algorithm, prefix string, secret []byte) []httpsig.Key {
		k, err := httpsig.ParseKey(algorithm, prefix+base64.StdEncoding.EncodeToString(secret))
		if err != nil {
			t.Fatal(err)
		}
		return []httpsig.Key{k}
	}
	sign := httpsign.NewSignConfig().SetKeyID("key-1")
	verify := httpsign.NewVerifyConfig().SetKeyID("key-1")
	return []party{
		{
			algorithm: "hmac-sha256",
			keys:      parse("hmac-sha256", "whsec_", shared),
			signer: func(f httpsign.Fields) (*httpsign.Signer, error) {
				return httpsign.NewHMACSHA256Signer(shared, sign, f)
			},
			verifier: func(f httpsign.Fields) (*httpsign.Verifier, error) {
				return httpsign.NewHMACSHA256Verifier(shared, verify.SetAllowedAlgs([]string{"hmac-sha256"}), f)
			},
		},
		{
			algorithm: "ed25519",
			keys:      parse("ed25519", "whsk_", private),
			signer: func(f httpsign.Fields) (*httpsign.Signer, error) {
				return httpsign.NewEd25519Signer(private, sign, f)
			},
			verifier: func(f httpsign.Fields) (*httpsign.Verifier, error) {
				return httpsign.NewEd25519Verifier(private.Public().(ed25519.PublicKey), verify.SetAllowedAlgs([]string{"ed25519"}), f)
			},
		},
	}
}

// covered is what both libraries sign.
var covered = []string{"@method", "@target-uri", "@authority", "@scheme", "@path", "@query", "@request-target", "content-digest", "content-type", "webhook-id"}

const sent = `{"hello": "world"}`

// post sends a request to server and returns the status of its answer. Sign
// adds the headers.
func post(t *testing.T, server *httptest.Server, path string, sign func(*http.Request)) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, bytes.NewReader([]byte(sent)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header["content-type"] = []string{"application/json"} // as the relay spells it, in any way
	req.Header.Set("Webhook-Id", "msg_1")
	sign(req)
	res, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	return res.StatusCode
}

// verdict answers a request as err asks for.
func verdict(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func TestAnotherLibraryVerifiesWhatSignMade(t *testing.T) {
	for _, p := range parties(t) {
		t.Run(p.algorithm, func(t *testing.T) {
			verifier, err := p.verifier(httpsign.Headers(covered...))
			if err != nil {
				t.Fatal(err)
			}
			var refusal error
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				refusal = httpsign.ValidateContentDigestHeader(r.Header.Values("Content-Digest"), &r.Body, []string{"sha-256"})
				if refusal == nil {
					refusal = httpsign.VerifyRequest("sig1", *verifier, r)
				}
				verdict(w, refusal)
			}))
			defer server.Close()

			signer, err := httpsig.New(httpsig.Options{Algorithm: p.algorithm, KeyID: "key-1", Components: covered})
			if err != nil {
				t.Fatal(err)
			}
			signFor := func(path string) func(*http.Request) {
				return func(req *http.Request) {
					u, err := url.Parse(server.URL + path)
					if err != nil {
						t.Fatal(err)
					}
					headers, err := signer.Sign(httpsig.Message{Method: req.Method, URL: u, Header: req.Header, Body: []byte(sent), Created: time.Now()}, p.keys)
					if err != nil {
						t.Fatal(err)
					}
					for _, h := range headers {
						req.Header[h.Name] = []string{h.Value}
					}
				}
			}
			for _, path := range []string{"/hooks/1?tenant=7&x=%2F", "/", ""} {
				if status := post(t, server, path, signFor(path)); status != http.StatusNoContent {
					t.Errorf("%q: got %d: %v", path, status, refusal)
				}
			}
			if status := post(t, server, "/hooks/2", signFor("/hooks/1")); status != http.StatusUnauthorized {
				t.Errorf("another path than signed: got %d, want 401", status)
			}
		})
	}
}

func TestVerifyAcceptsWhatAnotherLibrarySigned(t *testing.T) {
	for _, p := range parties(t) {
		t.Run(p.algorithm, func(t *testing.T) {
			receiver, err := httpsig.New(httpsig.Options{Algorithm: p.algorithm})
			if err != nil {
				t.Fatal(err)
			}
			var refusal error
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				u := *r.URL
				u.Scheme, u.Host = "http", r.Host
				refusal = receiver.Verify(httpsig.Message{Method: r.Method, URL: &u, Header: r.Header, Body: body}, p.keys, time.Now())
				verdict(w, refusal)
			}))
			defer server.Close()

			signer, err := p.signer(httpsign.Headers(covered...))
			if err != nil {
				t.Fatal(err)
			}
			for _, digests := range [][]string{{"sha-256"}, {"sha-512"}, {"sha-512", "sha-256"}} {
				sign := func(req *http.Request) {
					digest, err := httpsign.GenerateContentDigestHeader(&req.Body, digests)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Content-Digest", digest)
					input, signature, err := httpsign.SignRequest("other", *signer, req)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Signature-Input", input)
					req.Header.Set("Signature", signature)
				}
				if status := post(t, server, "/hooks/1?tenant=7&x=%2F", sign); status != http.StatusNoContent {
					t.Errorf("%v: got %d: %v", digests, status, refusal)
				}
				status := post(t, server, "/hooks/1", func(req *http.Request) {
					sign(req)
					req.Header.Set("Webhook-Id", "msg_2")
				})
				if status != http.StatusUnauthorized || !errors.Is(refusal, signing.ErrMismatch) {
					t.Errorf("%v: another id than signed: got %d: %v, want ErrMismatch", digests, status, refusal)
				}
			}
		})
	}
}
