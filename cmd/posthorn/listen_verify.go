package main

import (
	"errors"
	"net/http"
	"time"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/signing"
)

// verifier checks that requests carry every signature that they should.
type verifier struct {
	signatures []verifiedSignature
}

type verifiedSignature struct {
	signer *signing.Signer
	keys   []signing.Key
}

// endpointVerifier returns what verifies an endpoint's requests, nil when they
// are not signed.
func endpointVerifier(ep *config.Endpoint) (*verifier, error) {
	if len(ep.Signatures) == 0 {
		return nil, nil
	}
	secrets := []string{ep.Secret.Reveal()}
	for _, previous := range ep.PreviousSecrets {
		if time.Now().Before(previous.Expires) {
			secrets = append(secrets, previous.Secret.Reveal())
		}
	}
	return newVerifier(ep.Signatures, secrets...)
}

// newVerifier returns what verifies the signatures by any of the secrets. An
// error begins with the key of the configuration that it is about.
func newVerifier(signatures []config.Signature, secrets ...string) (*verifier, error) {
	v := &verifier{}
	for _, s := range signatures {
		signer, err := signing.New(signing.Options{
			Scheme: s.Scheme, Header: s.Header, Algorithm: s.Algorithm, Encoding: s.Encoding, Content: s.Content, Value: s.Value,
		})
		if err != nil {
			return nil, err
		}
		verified := verifiedSignature{signer: signer}
		for _, secret := range secrets {
			key, err := signing.ParseKey(s.Scheme, secret)
			if err != nil {
				return nil, err
			}
			verified.keys = append(verified.keys, key)
		}
		v.signatures = append(v.signatures, verified)
	}
	return v, nil
}

// verify returns nil if the request carries every signature, and else what is
// wrong with them.
func (v *verifier) verify(h http.Header, body []byte) error {
	var errs []error
	for _, s := range v.signatures {
		errs = append(errs, s.signer.Verify(h, body, s.keys, time.Now()))
	}
	return errors.Join(errs...)
}
