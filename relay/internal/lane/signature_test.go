package lane

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/yaronf/httpsign"

	"github.com/posthorn/posthorn/relay/httpsig"
	"github.com/posthorn/posthorn/relay/internal/egress"
)

func messageSignature(t *testing.T, label, algorithm string, secrets ...string) *MessageSignature {
	t.Helper()
	signer, err := httpsig.New(httpsig.Options{Algorithm: algorithm, Label: label})
	if err != nil {
		t.Fatal(err)
	}
	s := &MessageSignature{Signer: signer}
	for _, secret := range secrets {
		key, err := httpsig.ParseKey(algorithm, secret)
		if err != nil {
			t.Fatal(err)
		}
		s.Keys = append(s.Keys, Key[httpsig.Key]{Key: key})
	}
	return s
}

// TestSeveralMessageSignaturesStandSideBySide verifies each of them on its own,
// by this project's library and by another one.
func TestSeveralMessageSignaturesStandSideBySide(t *testing.T) {
	shared := bytes.Repeat([]byte("0123456789abcdef"), 4)
	private := ed25519.NewKeyFromSeed(shared[:32])
	encode := base64.StdEncoding.EncodeToString
	mac := messageSignature(t, "sig1", "hmac-sha256", "whsec_"+encode(shared), "a previous secret")
	curve := messageSignature(t, "curve", "ed25519", "whsk_"+encode(private))

	u := &url.URL{Scheme: "https", Host: "hooks.acme.example", Path: "/in"}
	body := []byte(`{"id":1}`)
	q := &egress.Request{Method: http.MethodPost, URL: u, Header: egress.Header{{"Content-Type", "application/json"}}, Body: body}
	now := time.Now()
	for _, s := range []*MessageSignature{mac, curve} {
		if err := s.Sign(q, uuid.New(), now); err != nil {
			t.Fatal(err)
		}
		if got := q.Header.Values("Content-Digest"); !slices.Equal(got, []string{"sha-256=:A3ySFO73TMOIfzpPCFtOF9digNr9JzsO4WDAnEuhz9Q=:"}) {
			t.Errorf("Content-Digest: got %q, want one digest", got)
		}
	}
	m := httpsig.Message{Method: q.Method, URL: u, Header: q.Header.HTTP(), Body: body}
	for _, s := range []*MessageSignature{mac, curve} {
		for i, k := range s.Keys {
			if err := s.Signer.Verify(m, []httpsig.Key{k.Key}, now); err != nil {
				t.Errorf("%s: %v", s.Signer.Labels(i + 1)[i], err)
			}
		}
	}

	received := httptest.NewRequestWithContext(t.Context(), q.Method, u.String(), bytes.NewReader(body))
	received.Header = q.Header.HTTP()
	config, fields := httpsign.NewVerifyConfig(), httpsign.Headers("@method", "@target-uri", "content-digest", "content-type")
	byMAC, err := httpsign.NewHMACSHA256Verifier(shared, config.SetAllowedAlgs([]string{"hmac-sha256"}), fields)
	if err != nil {
		t.Fatal(err)
	}
	if err := httpsign.VerifyRequest("sig1", *byMAC, received); err != nil {
		t.Errorf("another library, sig1: %v", err)
	}
	byCurve, err := httpsign.NewEd25519Verifier(private.Public().(ed25519.PublicKey), config.SetAllowedAlgs([]string{"ed25519"}), fields)
	if err != nil {
		t.Fatal(err)
	}
	if err := httpsign.VerifyRequest("curve", *byCurve, received); err != nil {
		t.Errorf("another library, curve: %v", err)
	}
}
