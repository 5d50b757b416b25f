package config

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/posthorn/posthorn/relay/httpsig"
	"github.com/posthorn/posthorn/relay/signing"
)

// httpMessage is the scheme of RFC 9421, which has a package of its own.
const httpMessage = "http-message"

// schemeKeys are the keys that each scheme has beside scheme, secret and
// previous_secrets.
var schemeKeys = map[string][]string{
	"hmac":              {"header", "algorithm", "encoding", "content", "value"},
	"standard-webhooks": {"prefix"},
	"stripe":            {"header"},
	"github":            {"header"},
	httpMessage:         {"algorithm", "key_id", "label", "components"},
}

// algorithms are those of the schemes that have such.
var algorithms = map[string][]string{
	"hmac":      {"sha256", "sha512", "sha1"},
	httpMessage: {"hmac-sha256", "ed25519"},
}

// maxKeys is how many keys sign at most: a secret and the previous ones.
const maxKeys = 9

// maxMessageSignatures is how many on one request httpsig looks at.
const maxMessageSignatures = 16

// signer is what this package needs of a scheme: *signing.Signer and
// *httpsig.Signer.
type signer interface{ HeaderNames() []string }

// newSigner returns the signer of s. Its errors begin with the key that they
// are about.
func newSigner(s *Signature) (signer, error) {
	if s.Scheme == httpMessage {
		return httpsig.New(httpsig.Options{Algorithm: s.Algorithm, KeyID: s.KeyID, Label: s.Label, Components: s.Components})
	}
	return signing.New(signing.Options{
		Scheme: s.Scheme, Header: s.Header, Algorithm: s.Algorithm, Encoding: s.Encoding, Content: s.Content, Value: s.Value, Prefix: s.Prefix,
	})
}

// signers are those of the signatures that were looked at: making one costs more
// than all else of an endpoint.
type signers map[signatureKeys]madeSigner

// signatureKeys are the keys of a signature by which its signer is made.
type signatureKeys struct {
	scheme, header, algorithm, encoding, content, value, prefix, keyID, label string
	components                                                                string // joined by line breaks, which none holds
}

type madeSigner struct {
	signer signer
	err    error
}

// get is newSigner, but for making the same twice.
func (all signers) get(s *Signature) (signer, error) {
	key := signatureKeys{
		s.Scheme, s.Header, s.Algorithm, s.Encoding, s.Content, s.Value, s.Prefix, s.KeyID, s.Label,
		strings.Join(s.Components, "\n"),
	}
	made, ok := all[key]
	if !ok {
		made.signer, made.err = newSigner(s)
		all[key] = made
	}
	return made.signer, made.err
}

// signatureRules say what the keys of a signature must be, for problems that
// may not quote what they are.
var signatureRules = map[string]string{
	"header":     "it is no header's name",
	"encoding":   "it is not hex, base64 or base64url",
	"content":    "it must hold {body}, and no others in braces than {id} and {timestamp}",
	"value":      "it must hold {signature}, and no others in braces than {id} and {timestamp}",
	"prefix":     "it does not begin a header's name",
	"label":      "a label is a lower-case letter or *, and behind it digits, _, - and . too, at most 64 bytes",
	"components": "they are fields in lower case and derived components, each once, with content-digest among them",
}

// checkSecret reports what keeps signer, made of s, from signing with secret.
func checkSecret(signer signer, s *Signature, secret Secret) error {
	var err, signErr error
	switch signer := signer.(type) {
	case *signing.Signer:
		var key signing.Key
		if key, err = signing.ParseKey(s.Scheme, secret.Reveal()); err == nil {
			_, signErr = signer.Sign(signing.Message{ID: sampleID, Timestamp: sampleTime}, []signing.Key{key})
		}
	case *httpsig.Signer:
		var key httpsig.Key
		if key, err = httpsig.ParseKey(s.Algorithm, secret.Reveal()); err == nil {
			_, signErr = signer.Sign(sampleMessage(signer, sampleURL), []httpsig.Key{key})
		} else if s.Algorithm == "ed25519" && !strings.HasPrefix(secret.Reveal(), "whsk_") {
			err = errNoPrivateKey // the package's own error offers public keys too
		}
	}
	if signErr != nil { // all else is in order
		return errPublicKey
	}
	return err
}

var sampleURL = &url.URL{Scheme: "https", Host: "sample.example", Path: "/"}

// sampleMessage returns a message to u with all that signer covers.
func sampleMessage(signer *httpsig.Signer, u *url.URL) httpsig.Message {
	header := make(http.Header)
	for _, field := range signer.Fields() {
		header.Set(field, "sample")
	}
	return httpsig.Message{
		Method: http.MethodPost, URL: u, Header: header, Created: sampleTime,
	}
}

var (
	errPublicKey    = errors.New("verifies only: signing takes the private key")
	errNoPrivateKey = errors.New("must be an Ed25519 private key: whsk_ and base64, or PEM (PRIVATE KEY: PKCS#8, not encrypted)")
)

func (v *validator) signature(p place, s *Signature) {
	if s.Scheme == "" {
		return // reported as required
	}
	v.schemeKeys(p, s.Scheme)
	allowed := algorithms[s.Scheme]
	switch at := p.field("algorithm"); {
	case allowed == nil || slices.Contains(allowed, s.Algorithm):
	case s.Algorithm == "":
		v.problems.add(at, "is required with %s: %s", s.Scheme, oneOf(allowed))
	default:
		v.problems.add(at, "must be %s with %s, got %s", oneOf(allowed), s.Scheme, shown(at.node))
	}
	if _, err := v.signers.get(s); err != nil {
		key, message, _ := strings.Cut(err.Error(), ": ")
		at := p.field(key)
		if strings.Contains(message, `"`) { // it may quote the value
			message = quotable(at, message, signatureRules[key])
		}
		v.problems.add(at, "%s", message)
	}
	v.headerName(p.field("header"), s.Header, s.Header)
	v.headerName(p.field("prefix"), s.Prefix, s.Prefix+"-id")
	if s.Secret == "" {
		if len(s.PreviousSecrets) > 0 {
			v.problems.add(p.field("secret"), "is required with previous_secrets")
		}
		return
	}
	v.keys(p, "", s, s.Secret, s.PreviousSecrets)
}

// headerName reports a text at p that makes name the name of a header which a
// request may not set.
func (v *validator) headerName(p place, text, name string) {
	if problem := headerProblem(name); p.given && text != "" && problem != "" {
		v.problems.add(p, "%s", problem)
	}
}

// schemeKeys reports the keys of a signature that its scheme does not have.
func (v *validator) schemeKeys(p place, scheme string) {
	for _, key := range p.node.names {
		var others []string
		for _, other := range slices.Sorted(maps.Keys(schemeKeys)) {
			if slices.Contains(schemeKeys[other], key) {
				others = append(others, other)
			}
		}
		at := p.field(key)
		empty := at.node.text == "" && (at.node.kind == object || len(at.node.items) == 0)
		if others != nil && !slices.Contains(others, scheme) && !empty {
			v.problems.add(at, "goes with %s, not with %s", strings.Join(others, ", "), scheme)
		}
	}
}

// secrets checks that those of an endpoint's signatures that have no secret of
// their own can use the endpoint's or its tenant's.
func (v *validator) secrets(root, p place, endpoint *Endpoint) {
	holder := p
	if !p.field("secret").given {
		holder = root.field("tenants").field(endpoint.Tenant)
	}
	if previous := p.field("previous_secrets"); previous.given && !p.field("secret").given && previous.node.kind == list && len(previous.node.items) > 0 {
		v.problems.add(p.field("secret"), "is required with previous_secrets")
		return
	}
	if own := p.field("secret"); own.given && len(endpoint.Signatures) == 0 {
		v.warnings.add(own, "is never used: signatures is []")
	}
	for _, s := range endpoint.Signatures {
		switch {
		case s.Secret != "" || s.Scheme == "": // checked where it stands
		case endpoint.Secret == "":
			v.problems.add(p.field("secret"), "is required to sign; give one here, to the tenant or to each signature, or set signatures to []")
			return
		default:
			v.keys(holder, "for "+s.name()+": ", &s, endpoint.Secret, endpoint.PreviousSecrets)
		}
	}
}

// name says which signature s is, where its key is not the place to look.
func (s *Signature) name() string {
	if s.Algorithm == "" {
		return s.Scheme
	}
	return s.Scheme + " (" + s.Algorithm + ")"
}

// keys checks the secrets that stand at p for what s makes of them. What it
// says of them begins with who.
func (v *validator) keys(p place, who string, s *Signature, secret Secret, previous []PreviousSecret) {
	signer, err := v.signers.get(s)
	if err != nil {
		return // reported where it stands
	}
	check := func(at place, secret Secret) {
		switch err := checkSecret(signer, s, secret); {
		case secret == "": // reported where it stands
		case err != nil:
			v.problems.add(at, "%s%s", who, strings.TrimPrefix(err.Error(), "secret: "))
		case isShort(s, secret):
			v.warnings.add(at, "is short: fewer than %d bytes can be found by trying, from one signature; take as many at random", shortSecret)
		}
	}
	check(p.field("secret"), secret)
	for i, old := range previous {
		at := p.field("previous_secrets").item(i)
		check(at.field("secret"), old.Secret)
		if s.Scheme != httpMessage {
			continue
		}
		if _, err := new(httpsig.Key).WithID(old.KeyID); err != nil {
			v.problems.add(at.field("key_id"), "%s", strings.TrimPrefix(err.Error(), "key_id: "))
		}
	}
}

// shortSecret is how many bytes of a shared secret are enough.
const shortSecret = 16

// isShort reports whether s makes its signatures with fewer bytes than that.
// The secret is one that s can use.
func isShort(s *Signature, secret Secret) bool {
	text := secret.Reveal()
	encoded, isBase64 := strings.CutPrefix(text, "whsec_")
	switch {
	case s.Algorithm == "ed25519", s.Scheme == "standard-webhooks" && strings.HasPrefix(text, "whsk_"):
		return false
	case isBase64 && (s.Scheme == httpMessage || s.Scheme == "standard-webhooks"):
		return base64.RawStdEncoding.DecodedLen(len(strings.TrimRight(encoded, "="))) < shortSecret
	}
	return len(text) < shortSecret
}

// headerConflicts reports headers that two parts of a profile would set, and
// labels that two of its http-message signatures have: those share their
// headers.
func (v *validator) headerConflicts(p place, profile *Profile) {
	setBy := make(map[string]string) // by the header's name in lower case
	claim := func(at place, header, by string) {
		lower := strings.ToLower(header)
		if other, taken := setBy[lower]; taken {
			v.problems.add(at, "would set the header %s, which %s sets already", header, other)
			return
		}
		setBy[lower] = by
	}
	var messages []labelled
	for i, s := range profile.Signatures {
		signer, err := v.signers.get(&s)
		if err != nil {
			continue // reported where it stands
		}
		at := p.field("signatures").item(i)
		if message, ok := signer.(*httpsig.Signer); ok {
			next := labelled{fmt.Sprintf("signatures[%d]", i), message.Labels(maxKeys)}
			v.labels(at.field("label"), next, messages)
			if messages = append(messages, next); len(messages) > 1 {
				continue
			}
		}
		for _, header := range signer.HeaderNames() {
			claim(at, header, fmt.Sprintf("signatures[%d]", i))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(profile.Headers)) {
		claim(p.field("headers").field(name), name, fieldKey("headers", name))
	}
	if profile.Auth.sent() {
		claim(p.field("auth"), "Authorization", "auth")
	}
}

// labelled is a signature with all the labels that it may use: its own, and
// one for each previous secret.
type labelled struct {
	name   string
	labels []string
}

// labels reports a label of next's, which stands at p, that one of others uses
// too.
func (v *validator) labels(p place, next labelled, others []labelled) {
	for _, other := range others {
		own, its := next.labels[0], other.labels[0]
		switch {
		case own == its:
			v.problems.add(p, "%s", quotable(p, "two signatures have the label "+own, "two signatures have that label"))
		case slices.Contains(other.labels, own):
			v.problems.add(p, "is what %s may need for a previous secret: its label and a number", other.name)
		case slices.Contains(next.labels, its):
			v.problems.add(p, "with a number, for a previous secret, is the label of %s", other.name)
		}
	}
}

// components checks that an endpoint's requests have the headers that its
// http-message signatures cover. An endpoint that inherits them is free to set
// such a header itself, so a profile alone is no place to check it.
func (v *validator) components(profile, p place, endpoint *Endpoint) {
	at := p.field("signatures")
	if !at.given {
		at = profile.field("signatures")
	}
	made := 0
	for i := range endpoint.Signatures {
		s := &endpoint.Signatures[i]
		if s.Scheme != httpMessage {
			continue
		}
		signer, err := v.signers.get(s)
		covering, ok := signer.(*httpsig.Signer)
		if err != nil || !ok {
			continue
		}
		if made++; s.Secret != "" {
			made += len(s.PreviousSecrets)
		} else {
			made += len(endpoint.PreviousSecrets)
		}
		v.signedURL(p.field("url"), endpoint, s, covering)
		sent := v.sentHeaders(endpoint, i)
		for _, field := range covering.Fields() {
			if sent[field] {
				continue
			}
			where := at.item(i).field("components").item(slices.Index(s.Components, field))
			v.problems.add(where, "names a header that requests to endpoint %q do not have: set it in headers", endpoint.Name)
		}
	}
	if made > maxMessageSignatures {
		v.problems.add(at, "make %d http-message signatures with the previous secrets of endpoint %q, at most %d are verified", made, endpoint.Name, maxMessageSignatures)
	}
}

// signedURL reports an endpoint's URL that signer, made of s, cannot cover: no
// request could be signed. What is wrong with the secret or the URL as such is
// reported elsewhere.
func (v *validator) signedURL(p place, endpoint *Endpoint, s *Signature, signer *httpsig.Signer) {
	u, err := url.Parse(endpoint.URL.Reveal())
	if err != nil || !p.given || checkSecret(signer, s, cmp.Or(s.Secret, endpoint.Secret)) != nil {
		return
	}
	key, err := httpsig.ParseKey(s.Algorithm, cmp.Or(s.Secret, endpoint.Secret).Reveal())
	if err != nil {
		return
	}
	if _, err := signer.Sign(sampleMessage(signer, u), []httpsig.Key{key}); err != nil {
		v.problems.add(p, "cannot be signed with %s: it must be ASCII, at most 8 KiB; write its host as xn--… and percent-encode the rest", httpMessage)
	}
}

// sentHeaders returns, in lower case, the headers that a request has before
// signature i signs it: auth adds its own at each attempt only.
func (v *validator) sentHeaders(endpoint *Endpoint, i int) map[string]bool {
	sent := map[string]bool{"content-type": true, "user-agent": true}
	for name := range endpoint.Headers {
		sent[strings.ToLower(name)] = true
	}
	for j, s := range endpoint.Signatures {
		signer, err := v.signers.get(&s)
		if err != nil || j == i {
			continue
		}
		for _, name := range signer.HeaderNames() {
			sent[strings.ToLower(name)] = true
		}
	}
	return sent
}
