package signing

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxUnix is the last second that twelve digits can write, in the year 33658.
const maxUnix = 999_999_999_999

// hmacScheme sends an HMAC in one header.
type hmacScheme struct {
	header string
	digest digest
	// value is the header's value: its comma-separated pairs if it is a list
	// of them, else the one template that it is as a whole.
	value []valuePart
	list  bool
	// Whether value holds {id} and {timestamp}.
	sendsID, sendsTime bool
}

// valuePart is a template and what reads it back into the groups id, timestamp
// and signature.
type valuePart struct {
	template template
	pattern  *regexp.Regexp
}

func newHMAC(o Options) (method, error) {
	if o.Prefix != "" {
		return nil, fmt.Errorf("prefix: must be empty, %s does not use it", o.Scheme)
	}
	if err := checkHeaderName(o.Header); err != nil {
		return nil, err
	}
	s := &hmacScheme{header: o.Header}
	var err error
	if s.digest.algorithm, err = parseAlgorithm(orDefault(o.Algorithm, "sha256")); err != nil {
		return nil, err
	}
	if s.digest.encoding, err = parseEncoding(orDefault(o.Encoding, "hex")); err != nil {
		return nil, err
	}
	content, err := parseTemplate("content", orDefault(o.Content, bodyPart), idPart, timestampPart, bodyPart)
	if err != nil {
		return nil, err
	}
	if !content.has(bodyPart) {
		return nil, errors.New("content: must hold {body}")
	}
	if err := checkBoundaries(content); err != nil {
		return nil, err
	}
	s.digest.content = content
	if err := s.parseValue(orDefault(o.Value, signaturePart)); err != nil {
		return nil, err
	}
	return s, nil
}

func orDefault(text, value string) string {
	if text == "" {
		return value
	}
	return text
}

func checkHeaderName(name string) error {
	if name == "" {
		return errors.New("header: must name the header that carries the signature")
	}
	if !isToken(name) {
		return fmt.Errorf("header: %q is not a header's name; allowed: letters, digits and -", name)
	}
	return nil
}

// isToken reports whether a text, which is not empty, is what RFC 9110 calls so.
func isToken(text string) bool {
	for i := range len(text) {
		c := text[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		digit := c >= '0' && c <= '9'
		if !letter && !digit && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return true
}

// pair is one name=value of a list.
var pair = regexp.MustCompile(`^ *[A-Za-z0-9_-]+=`)

// parseValue reads the template of the header's value.
func (s *hmacScheme) parseValue(text string) error {
	whole, err := parseTemplate("value", text, signaturePart, timestampPart, idPart)
	if err != nil {
		return err
	}
	if !whole.has(signaturePart) {
		return errors.New("value: must hold {signature}")
	}
	if s.digest.content.has(timestampPart) && !whole.has(timestampPart) {
		return errors.New("value: must hold {timestamp}, since content does: receivers could not know it")
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return errors.New("value: must be printable ASCII")
		}
	}
	if strings.TrimSpace(text) != text {
		return errors.New("value: must not begin or end with a space")
	}
	s.sendsID, s.sendsTime = whole.has(idPart), whole.has(timestampPart)

	parts := strings.Split(text, ",")
	s.list = len(parts) > 1
	for _, part := range parts {
		s.list = s.list && pair.MatchString(part)
	}
	if !s.list {
		parts = []string{text}
	}
	for _, part := range parts {
		t, err := parseTemplate("value", part, signaturePart, timestampPart, idPart)
		if err != nil {
			return err
		}
		s.value = append(s.value, valuePart{t, s.pattern(t)})
	}
	return nil
}

// pattern compiles what reads t back, less the space that may stand before a
// pair. Go's regular expressions take time
// linear in the text, whatever a hostile header holds.
func (s *hmacScheme) pattern(t template) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^")
	for i, part := range t {
		switch part {
		case idPart:
			b.WriteString("(?P<id>[!-~]+)")
		case timestampPart:
			b.WriteString("(?P<timestamp>[0-9]{1,12})")
		case signaturePart:
			size := algorithms[s.digest.algorithm].size
			fmt.Fprintf(&b, "(?P<signature>[0-9A-Za-z+/_=-]{%d})", s.digest.encoding.length(size))
		default:
			if i == 0 {
				part = strings.TrimLeft(part, " ")
			}
			b.WriteString(regexp.QuoteMeta(part))
		}
	}
	b.WriteString("$")
	return regexp.MustCompile(b.String())
}

func (s *hmacScheme) headerNames() []string { return []string{s.header} }

func (*hmacScheme) checkKey(k Key) error {
	if k.secret.pair != nil {
		return errors.New("an Ed25519 key cannot make an HMAC")
	}
	return nil
}

func (s *hmacScheme) sign(m Message, keys []Key) ([]Header, error) {
	if s.sendsID || s.digest.content.has(idPart) {
		if err := checkID(m.ID); err != nil {
			return nil, err
		}
	}
	if s.sendsTime {
		if err := checkTime(m.Timestamp); err != nil {
			return nil, err
		}
	}
	unix := m.Timestamp.Unix()
	value := make([]byte, 0, 256)
	for _, part := range s.value {
		signers := keys[:1]
		if s.list && part.template.has(signaturePart) {
			signers = keys
		}
		for _, k := range signers {
			if len(value) > 0 {
				value = append(value, ',')
			}
			for _, p := range part.template {
				if p == signaturePart {
					value = s.digest.append(value, m.ID, unix, m.Body, k)
				} else {
					value = appendPart(value, p, m.ID, unix)
				}
			}
		}
	}
	return []Header{{s.header, string(value)}}, nil
}

func (s *hmacScheme) verify(h http.Header, body []byte, keys []Key, now time.Time) error {
	value, err := headerValue(h, s.header)
	if err != nil {
		return err
	}
	sent := s.read(value)
	if len(sent.signatures) == 0 || len(sent.times) != count(s.sendsTime) || len(sent.ids) != count(s.sendsID) {
		return fmt.Errorf("%s: %w", s.header, ErrMalformed)
	}
	var id string
	if s.sendsID {
		if id = sent.ids[0]; checkID(id) != nil {
			return fmt.Errorf("%s: %w", s.header, ErrMalformed)
		}
	} else if s.digest.content.has(idPart) {
		return fmt.Errorf("%s: holds no id: %w", s.header, ErrMissing)
	}
	var unix int64
	if s.sendsTime {
		if unix, err = parseUnix(sent.times[0]); err != nil {
			return fmt.Errorf("%s: %w", s.header, err)
		}
		if err := checkFresh(unix, now); err != nil {
			return err
		}
	}
	if !s.digest.matches(sent.signatures, id, unix, body, keys) {
		return ErrMismatch
	}
	return nil
}

// count is how often a placeholder must have been sent. Twice is malformed:
// readers could disagree on which of the two was signed.
func count(sends bool) int {
	if sends {
		return 1
	}
	return 0
}

// sentValue is what a header's value carries.
type sentValue struct{ ids, times, signatures []string }

// read takes a header's value apart. Pairs of a list may come in any order,
// and unknown ones are passed over.
func (s *hmacScheme) read(value string) sentValue {
	pieces := []string{value}
	if s.list {
		pieces = strings.Split(value, ",")
	}
	var sent sentValue
	for _, piece := range pieces {
		piece = strings.Trim(piece, " \t")
		for _, part := range s.value {
			if part.read(piece, &sent) {
				break
			}
		}
	}
	return sent
}

// read adds what piece carries to sent, if it has the part's form.
func (p valuePart) read(piece string, sent *sentValue) bool {
	match := p.pattern.FindStringSubmatch(piece)
	for i, text := range match {
		switch p.pattern.SubexpNames()[i] {
		case "id":
			sent.ids = append(sent.ids, text)
		case "timestamp":
			sent.times = append(sent.times, text)
		case "signature":
			sent.signatures = append(sent.signatures, text)
		}
	}
	return match != nil
}

// parseUnix reads seconds since 1970, one to twelve digits and nothing else.
func parseUnix(text string) (int64, error) {
	unix, err := strconv.ParseUint(text, 10, 63)
	if err != nil || unix > maxUnix {
		return 0, ErrMalformed
	}
	return int64(unix), nil
}
