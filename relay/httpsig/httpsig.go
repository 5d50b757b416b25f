// Package httpsig signs webhook requests and verifies them by HTTP Message
// Signatures (RFC 9421), with the body's digest by RFC 9530. The relay signs
// with it; receivers may import it to verify. What it shares with
// [github.com/posthorn/posthorn/relay/signing], the errors of Verify above all,
// stands there.
//
// A [Signer] is built once from [Options] and used by any number of
// goroutines. It signs the request's components that Options lists: fields of
// its header, and values derived from its method and URL. The body is signed
// through the header Content-Digest, which is always among them: verify the
// bytes as they were read from the request, before any JSON decoder has seen
// them.
//
// # URLs
//
// The URL is signed as the client knows it. Its host is taken in lower case,
// its scheme's default port is left out, an empty path is "/", and user info
// and fragment are never part of a signature. A server's request has the path
// and query only: receivers add the scheme and host that clients use, as the
// example of [Signer.Verify] does. Behind a proxy that changes the path, or
// forwards another Host, those are not what the server sees.
//
// # Rotation
//
// While a secret is being replaced, Sign is given the new key and then the old
// ones. It makes a signature with each, labelled "sig1", "sig1-2", "sig1-3" and
// so on. Verify accepts a signature by any of the keys it is given, under any
// label. For receivers that pick their key by keyid each key must have one of
// its own: [Key.WithID].
//
// # Several signatures
//
// A request may carry signatures by several Signers, such as one for each
// algorithm, if their labels differ. Their members of Signature-Input and
// Signature are then joined by ", "; Content-Digest is the same for all.
//
// # Limits
//
// Components have no parameters: ;sf, ;key, ;bs, ;req, ;tr and @query-param are
// refused, and a received signature that covers such a component does not
// count. Values must be ASCII of at most 8 KiB each.
package httpsig

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/posthorn/posthorn/relay/signing"
)

// Limits on what comes from outside.
const (
	maxValue      = 8 << 10 // bytes of a header that is read or set, and of a component's value
	maxMembers    = 16      // signatures on one request, digests of one body
	maxComponents = 32      // covered by one signature
	maxName       = 64      // bytes of a component's name and of a label
	maxKeyID      = 256     // bytes of Options.KeyID
)

// maxUnix is the greatest integer of a structured field.
const maxUnix = 999_999_999_999_999

// The headers of a signed request.
const (
	contentDigest  = "Content-Digest"
	signatureInput = "Signature-Input"
	signature      = "Signature"
)

const defaultLabel = "sig1"

var defaultComponents = []string{"@method", "@target-uri", digestField, "content-type"}

// Options says how requests are signed. Empty fields take the default.
type Options struct {
	Algorithm string // "hmac-sha256" or "ed25519"; no default
	KeyID     string // the parameter keyid of keys that have none of their own (Key.WithID), for receivers with many keys: printable ASCII, at most 256 bytes; default none
	Label     string // names the first key's signature; default "sig1"
	// Components lists what is signed, in this order: names of header fields
	// in lower case, and @method, @target-uri, @authority, @scheme, @path,
	// @query and @request-target. "content-digest" must be among them. At most
	// 32. Default "@method", "@target-uri", "content-digest", "content-type".
	Components []string
}

// Message is what one request says.
type Message struct {
	Method string
	URL    *url.URL    // as the client knows it, with scheme and host
	Header http.Header // as sent, in any spelling; as received for Verify
	Body   []byte      // exactly as sent, or as received
	// Created is when the signature is made; whole seconds are signed. Verify
	// does not look at it.
	Created time.Time
}

// Signer signs and verifies by one set of Options. It is safe for concurrent
// use.
type Signer struct {
	algorithm  string
	label      string
	components []string
	covered    string // components as Signature-Input lists them
	keyID      string // the parameter keyid, "" for none
	alg        string // the parameter alg
}

// New returns the Signer that o describes. An error begins with the field it
// is about, in the configuration's spelling ("key_id: …"), and says what is
// allowed there.
func New(o Options) (*Signer, error) {
	if err := checkAlgorithm(o.Algorithm); err != nil {
		return nil, err
	}
	label := o.Label
	if label == "" {
		label = defaultLabel
	}
	if err := checkLabel(label); err != nil {
		return nil, err
	}
	components := o.Components
	if len(components) == 0 {
		components = defaultComponents
	}
	if err := checkComponents(components); err != nil {
		return nil, err
	}
	keyID, err := keyIDParameter(o.KeyID)
	if err != nil {
		return nil, err
	}
	return newSigner(o.Algorithm, label, components, keyID, `;alg="`+o.Algorithm+`"`)
}

// newSigner returns a Signer of what New has checked. keyID and alg are the
// parameters behind created.
func newSigner(algorithm, label string, components []string, keyID, alg string) (*Signer, error) {
	list := httpsfv.InnerList{Params: httpsfv.NewParams()}
	for _, name := range components {
		list.Items = append(list.Items, httpsfv.NewItem(name))
	}
	covered, err := httpsfv.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("components: %w", err)
	}
	return &Signer{algorithm, label, slices.Clone(components), covered, keyID, alg}, nil
}

// keyIDParameter returns the parameter keyid, or "" without an id.
func keyIDParameter(id string) (string, error) {
	if id == "" {
		return "", nil
	}
	if len(id) > maxKeyID || !printable(id) {
		return "", fmt.Errorf("key_id: must be printable ASCII, at most %d bytes", maxKeyID)
	}
	quoted, err := httpsfv.Marshal(httpsfv.NewItem(id))
	if err != nil {
		return "", fmt.Errorf("key_id: %w", err)
	}
	return ";keyid=" + quoted, nil
}

func checkAlgorithm(name string) error {
	if name != algorithmHMAC && name != algorithmEd25519 {
		return fmt.Errorf("algorithm: unknown %q; allowed: %s, %s", name, algorithmHMAC, algorithmEd25519)
	}
	return nil
}

// checkLabel allows what RFC 9651 calls a key.
func checkLabel(label string) error {
	if len(label) > maxName {
		return fmt.Errorf("label: has %d bytes, at most %d are allowed", len(label), maxName)
	}
	for i := range len(label) {
		c := label[i]
		first := c >= 'a' && c <= 'z' || c == '*'
		if !first && (i == 0 || (c < '0' || c > '9') && c != '_' && c != '-' && c != '.') {
			return fmt.Errorf("label: %q is none; allowed: a lower-case letter or *, and behind it digits, _, - and . too", label)
		}
	}
	return nil
}

// HeaderNames returns the names of the headers that Sign sets, so that nothing
// else sets them too.
func (s *Signer) HeaderNames() []string { return []string{contentDigest, signatureInput, signature} }

// Labels returns the labels of the signatures that Sign makes with so many keys.
func (s *Signer) Labels(keys int) []string {
	labels := make([]string, keys)
	for i := range labels {
		labels[i] = string(s.appendLabel(nil, i))
	}
	return labels
}

// Fields returns the names of the header fields that a request must carry for
// Sign to succeed, in lower case. Content-Digest is not one of them, since Sign
// sets it.
func (s *Signer) Fields() []string {
	var fields []string
	for _, name := range s.components {
		if name != digestField && !strings.HasPrefix(name, "@") {
			fields = append(fields, name)
		}
	}
	return fields
}

// Sign returns the headers that carry the body's digest and a signature by each
// of the keys. A Content-Digest that m.Header has is passed over, the returned
// one must replace it. It fails without a key, with more than 16, with one of
// another algorithm or that only verifies, when m lacks a component or Created,
// and when a component's value or a header would break the package's limits.
func (s *Signer) Sign(m Message, keys []Key) ([]signing.Header, error) {
	headers, err := s.sign(m, keys)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return headers, nil
}

func (s *Signer) sign(m Message, keys []Key) ([]signing.Header, error) {
	if err := s.checkKeys(keys); err != nil {
		return nil, err
	}
	if len(keys) > maxMembers {
		return nil, fmt.Errorf("%d keys, at most %d are allowed", len(keys), maxMembers)
	}
	unix := m.Created.Unix()
	if unix < 0 || unix > maxUnix {
		return nil, errors.New("created is not set")
	}
	r := newRequest(m)
	var headers []signing.Header
	if slices.Contains(s.components, digestField) {
		digest := digestValue(m.Body)
		r.fields[digestField] = []string{digest}
		headers = append(headers, signing.Header{Name: contentDigest, Value: digest})
	}
	created := s.covered + ";created=" + strconv.FormatInt(unix, 10)
	base, err := r.base(s.components, created)
	if err != nil {
		return nil, err
	}
	var inputs, signatures []byte
	for i, k := range keys {
		behind := s.parameters(k)
		signed, err := k.sign(append(base[:len(base):len(base)], behind...))
		if err != nil {
			return nil, err
		}
		inputs = append(s.appendMember(inputs, i), created...)
		inputs = append(inputs, behind...)
		signatures = append(s.appendMember(signatures, i), ':')
		signatures = append(base64.StdEncoding.AppendEncode(signatures, signed), ':')
	}
	// Sixteen signatures fit in any case; what they cover and key ids may not.
	if len(inputs) > maxValue {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are allowed", signatureInput, len(inputs), maxValue)
	}
	return append(headers, signing.Header{Name: signatureInput, Value: string(inputs)},
		signing.Header{Name: signature, Value: string(signatures)}), nil
}

// parameters returns what stands behind the parameter created in k's signature.
func (s *Signer) parameters(k Key) string {
	keyID := k.id
	if keyID == "" {
		keyID = s.keyID
	}
	return keyID + s.alg
}

// appendMember begins the member of a dictionary that is about keys[i].
func (s *Signer) appendMember(dst []byte, i int) []byte {
	if i > 0 {
		dst = append(dst, ", "...)
	}
	return append(s.appendLabel(dst, i), '=')
}

// appendLabel appends the label of keys[i]'s signature.
func (s *Signer) appendLabel(dst []byte, i int) []byte {
	dst = append(dst, s.label...)
	if i > 0 {
		dst = strconv.AppendInt(append(dst, '-'), int64(i)+1, 10)
	}
	return dst
}

func (s *Signer) checkKeys(keys []Key) error {
	if len(keys) == 0 {
		return errors.New("no key")
	}
	for _, k := range keys {
		if k.secret == nil {
			return errors.New("a key is empty; make keys with ParseKey")
		}
		if k.secret.algorithm != s.algorithm {
			return fmt.Errorf("a key is for %s, must be for %s", k.secret.algorithm, s.algorithm)
		}
	}
	return nil
}
