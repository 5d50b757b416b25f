package main

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/httpsig"
	"github.com/posthorn/posthorn/relay/signing"
)

// verifier checks that requests carry every signature that they should.
type verifier struct {
	signatures []verifiedSignature
}

// verifiedSignature returns nil if a request, whose body has been read, carries
// one signature.
type verifiedSignature func(r *http.Request, body []byte) error

// endpointVerifier returns what verifies an endpoint's requests, nil when they
// are not signed.
func endpointVerifier(ep *config.Endpoint) (*verifier, error) {
	if len(ep.Signatures) == 0 {
		return nil, nil
	}
	v := &verifier{}
	for _, s := range ep.Signatures {
		secret, previous := ep.Secret, ep.PreviousSecrets
		if s.Secret != "" {
			secret, previous = s.Secret, s.PreviousSecrets
		}
		secrets := []string{secret.Reveal()}
		for _, p := range previous {
			if time.Now().Before(p.Expires) {
				secrets = append(secrets, p.Secret.Reveal())
			}
		}
		if err := v.add(s, secrets...); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// add makes v verify a signature by any of the secrets too. An error begins
// with the key of the configuration that it is about.
func (v *verifier) add(s config.Signature, secrets ...string) error {
	verified, err := newVerified(s, secrets)
	if err != nil {
		return err
	}
	v.signatures = append(v.signatures, verified)
	return nil
}

func newVerified(s config.Signature, secrets []string) (verifiedSignature, error) {
	if s.Scheme == "http-message" {
		return newVerifiedMessage(s, secrets)
	}
	signer, err := signing.New(signing.Options{
		Scheme: s.Scheme, Header: s.Header, Algorithm: s.Algorithm, Encoding: s.Encoding, Content: s.Content, Value: s.Value, Prefix: s.Prefix,
	})
	if err != nil {
		return nil, err
	}
	keys, err := parseSecrets(s.Scheme, secrets, signing.ParseKey)
	if err != nil {
		return nil, err
	}
	return func(r *http.Request, body []byte) error {
		return signer.Verify(r.Header, body, keys, time.Now())
	}, nil
}

// newVerifiedMessage verifies HTTP message signatures, which cover more of the
// request than its body.
func newVerifiedMessage(s config.Signature, secrets []string) (verifiedSignature, error) {
	signer, err := httpsig.New(httpsig.Options{Algorithm: s.Algorithm, KeyID: s.KeyID, Label: s.Label, Components: s.Components})
	if err != nil {
		return nil, err
	}
	keys, err := parseSecrets(s.Algorithm, secrets, httpsig.ParseKey)
	if err != nil {
		return nil, err
	}
	return func(r *http.Request, body []byte) error {
		m := httpsig.Message{Method: r.Method, URL: requestURL(r), Header: r.Header, Body: body}
		return signer.Verify(m, keys, time.Now())
	}, nil
}

func parseSecrets[K any](scheme string, secrets []string, parse func(scheme, text string) (K, error)) ([]K, error) {
	keys := make([]K, 0, len(secrets))
	for _, secret := range secrets {
		key, err := parse(scheme, secret)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// requestURL returns the URL that the sender has used, as far as the request
// tells. A tunnel that ends TLS says so in X-Forwarded-Proto; believing it is
// safe, since only the URL that was signed verifies.
func requestURL(r *http.Request) *url.URL {
	u := *r.URL
	u.Scheme, u.Host = "http", r.Host
	if r.Header.Get("X-Forwarded-Proto") == "https" {
		u.Scheme = "https"
	}
	return &u
}

// verify returns nil if the request carries every signature, and else what is
// wrong with them.
func (v *verifier) verify(r *http.Request, body []byte) error {
	var errs []error
	for _, verified := range v.signatures {
		errs = append(errs, verified(r, body))
	}
	return errors.Join(errs...)
}
