package httpsig

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/posthorn/posthorn/relay/signing"
)

// Verify returns nil if m carries a signature by one of the keys that covers at
// least Options.Components and was made not further than signing.Tolerance from
// now, and a Content-Digest that is the body's. A signature's expires is
// honoured, its alg must be Options.Algorithm if it is there; its label, keyid,
// nonce and tag may be anything.
//
// Otherwise the error is signing.ErrMissing, ErrMalformed, ErrExpired or
// ErrMismatch for errors.Is, or says what keys and m lack: ErrExpired if a
// signature is genuine and old, else ErrMismatch if one could have counted.
// Digests and signatures are compared in constant time. The work is bounded by
// the length of the request, the number of keys, and 8 KiB and 16 members of
// each header that is parsed.
func (s *Signer) Verify(m Message, keys []Key, now time.Time) error {
	if err := s.verify(m, keys, now); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	return nil
}

func (s *Signer) verify(m Message, keys []Key, now time.Time) error {
	if err := s.checkKeys(keys); err != nil {
		return err
	}
	r := newRequest(m)
	for _, name := range s.components {
		// Not the sender's fault, so no answer to it.
		if _, err := r.value(name); errors.Is(err, errNotDerived) {
			return fmt.Errorf("%q %w", name, err)
		}
	}
	inputs, err := readDictionary(signatureInput, r.fields[strings.ToLower(signatureInput)])
	if err != nil {
		return err
	}
	signatures, err := readDictionary(signature, r.fields[strings.ToLower(signature)])
	if err != nil {
		return err
	}
	if err := s.verifyAny(r, inputs, signatures, keys, now); err != nil {
		return err
	}
	if slices.Contains(s.components, digestField) {
		return checkDigest(r.fields[digestField], m.Body)
	}
	return nil
}

// failures ranks the reasons why signatures do not count, the one that came
// furthest last.
var failures = []error{signing.ErrMalformed, signing.ErrMissing, signing.ErrMismatch, signing.ErrExpired}

func rank(err error) int {
	return slices.IndexFunc(failures, func(reason error) bool { return errors.Is(err, reason) })
}

// verifyAny returns nil if any of the signatures counts, else why the one that
// came furthest does not.
func (s *Signer) verifyAny(r *request, inputs, signatures *httpsfv.Dictionary, keys []Key, now time.Time) error {
	var furthest error
	for _, label := range inputs.Names() {
		err := s.verifyOne(r, inputs, signatures, label, keys, now)
		if err == nil {
			return nil
		}
		if rank(err) > rank(furthest) {
			furthest = fmt.Errorf("%s: %.*s: %w", signatureInput, maxName, label, err)
		}
	}
	return furthest
}

// verifyOne returns nil if the signature under label counts.
func (s *Signer) verifyOne(r *request, inputs, signatures *httpsfv.Dictionary, label string, keys []Key, now time.Time) error {
	input, _ := inputs.Get(label)
	list, ok := input.(httpsfv.InnerList)
	if !ok {
		return malformed("is not a list of components")
	}
	member, _ := signatures.Get(label)
	signed, ok := byteSequence(member)
	if !ok {
		return malformed("has no signature")
	}
	components, err := s.coveredBy(list)
	if err != nil {
		return malformed(err.Error())
	}
	validity, err := s.readParameters(list.Params)
	if err != nil {
		return err
	}
	parameters, err := httpsfv.Marshal(list)
	if err != nil {
		return malformed("cannot be written back")
	}
	base, err := r.base(components, parameters)
	if errors.Is(err, errNoField) {
		return fmt.Errorf("%w: %w", err, signing.ErrMissing)
	}
	if err != nil {
		return malformed(err.Error())
	}
	found := false
	for _, k := range keys {
		found = k.verify(base, signed) || found
	}
	if !found {
		return signing.ErrMismatch
	}
	return validity.check(now)
}

func malformed(why string) error { return fmt.Errorf("%s: %w", why, signing.ErrMalformed) }

// coveredBy returns the names of the components that list covers, each once and
// without parameters. All of the Signer's must be among them.
func (s *Signer) coveredBy(list httpsfv.InnerList) ([]string, error) {
	if len(list.Items) > maxComponents {
		return nil, fmt.Errorf("covers more than %d components", maxComponents)
	}
	var names []string
	for _, item := range list.Items {
		name, ok := item.Value.(string)
		if !ok || len(item.Params.Names()) > 0 {
			return nil, errors.New("covers what is not the name of a component")
		}
		if err := checkComponent(name); err != nil {
			return nil, err
		}
		if slices.Contains(names, name) {
			return nil, fmt.Errorf("covers %q twice", name)
		}
		names = append(names, name)
	}
	for _, name := range s.components {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("does not cover %q", name)
		}
	}
	return names, nil
}

// validity is when a signature counts, in seconds since 1970.
type validity struct {
	created int64
	expires *int64 // nil for none
}

// readParameters reads the parameters that Verify honours.
func (s *Signer) readParameters(p *httpsfv.Params) (validity, error) {
	var v validity
	created, _ := p.Get("created")
	var ok bool
	if v.created, ok = created.(int64); !ok {
		return v, malformed("has no created that is a time")
	}
	if value, sent := p.Get("expires"); sent {
		expires, ok := value.(int64)
		if !ok {
			return v, malformed("has an expires that is not a time")
		}
		v.expires = &expires
	}
	if alg, sent := p.Get("alg"); sent && alg != s.algorithm {
		return v, fmt.Errorf("is not by %s: %w", s.algorithm, signing.ErrMismatch)
	}
	return v, nil
}

func (v validity) check(now time.Time) error {
	if now.Sub(time.Unix(v.created, 0)).Abs() > signing.Tolerance {
		return signing.ErrExpired
	}
	if v.expires != nil && now.After(time.Unix(*v.expires, 0)) {
		return signing.ErrExpired
	}
	return nil
}
