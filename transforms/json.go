package transforms

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// maxDepth is how deep arrays and objects may be nested in JSON that is read
// here; encoding/json has the same limit.
const maxDepth = 10_000

// Valid returns nil if src is one JSON value as RFC 8259 has it, with nothing
// but white space around it, nested at most 10,000 deep. The error is one line
// that says what is wrong at which byte, counting from 0; it quotes nothing of
// src. Invalid UTF-8 inside strings is let through, as in encoding/json.
func Valid(src []byte) error {
	s := scanner[[]byte]{src: src}
	return s.document(nil, nil)
}

// Compact appends src without the white space between its tokens to dst and
// returns the extended buffer. Everything else stays byte for byte: escapes,
// numbers, order, repeated keys. dst and src must not overlap. If src is not
// valid, the error is Valid's and dst comes back as it was.
func Compact(dst, src []byte) ([]byte, error) {
	if err := Valid(src); err != nil {
		return dst, err
	}
	return appendCompact(dst, src), nil
}

// appendCompact does what Compact does with a src that is valid.
func appendCompact(dst, src []byte) []byte {
	inString, start := false, 0
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case c == '"':
			inString = !inString
		case c == '\\':
			i++ // outside of strings there is none
		case !inString && isSpace(c):
			dst = append(dst, src[start:i]...)
			start = i + 1
		}
	}
	return append(dst, src[start:]...)
}

// scanner reads JSON strictly and keeps nothing of it but positions.
type scanner[T string | []byte] struct {
	src   T
	pos   int
	depth int
}

// span is where a value stands in the text; the zero span is none.
type span struct{ start, end int }

// document reads the one value that src is. If found is not nil, it is set to
// where the value at the path of steps stands.
func (s *scanner[T]) document(steps []string, found *span) error {
	if err := s.value(steps, found); err != nil {
		return err
	}
	return s.end()
}

// end reads the white space after the one value that src is.
func (s *scanner[T]) end() error {
	s.space()
	if s.pos < len(s.src) {
		return s.fail("text after the value")
	}
	return nil
}

func (s *scanner[T]) fail(what string) error {
	return fmt.Errorf("invalid JSON at byte %d: %s", s.pos, what)
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func (s *scanner[T]) space() {
	for s.pos < len(s.src) && isSpace(s.src[s.pos]) {
		s.pos++
	}
}

// peek returns the next byte that is not white space, and 0 at the end.
func (s *scanner[T]) peek() byte {
	if s.pos < len(s.src) && s.src[s.pos] > ' ' {
		return s.src[s.pos]
	}
	s.space()
	if s.pos == len(s.src) {
		return 0
	}
	return s.src[s.pos]
}

// value reads one value whole, looking up steps in it if found is not nil. It
// recurses once for each level, which maxDepth bounds.
func (s *scanner[T]) value(steps []string, found *span) error {
	first := s.peek()
	start := s.pos
	var err error
	switch {
	case first == '{':
		err = s.object(steps, found)
	case first == '[':
		err = s.array(steps, found)
	case first == '"':
		err = s.text()
	case first == '-' || first >= '0' && first <= '9':
		err = s.number()
	case first == 't':
		err = s.word("true")
	case first == 'f':
		err = s.word("false")
	case first == 'n':
		err = s.word("null")
	case s.pos == len(s.src):
		err = s.fail("the text ends where a value is needed")
	default:
		err = s.fail("no value begins like this")
	}
	if found != nil && len(steps) == 0 {
		*found = span{start, s.pos}
	}
	return err
}

// enter reads the opening bracket and reports whether closing follows at once.
func (s *scanner[T]) enter(closing byte) (empty bool, err error) {
	if s.depth == maxDepth {
		return false, s.fail("nested deeper than " + strconv.Itoa(maxDepth))
	}
	s.depth++
	s.pos++
	if s.peek() != closing {
		return false, nil
	}
	s.depth--
	s.pos++
	return true, nil
}

func (s *scanner[T]) object(steps []string, found *span) error {
	if empty, err := s.enter('}'); err != nil || empty {
		return err
	}
	looking := found != nil && len(steps) > 0
	for {
		key, err := s.key()
		if err != nil {
			return err
		}
		wanted := looking && isKey(s.src[key.start:key.end], steps[0])
		if err := s.member(wanted, steps, found); err != nil {
			return err
		}
		if more, err := s.next('}'); err != nil || !more {
			return err
		}
	}
}

// key reads an object's next key and its colon, and returns where the key stands
// with its quotes.
func (s *scanner[T]) key() (span, error) {
	if s.peek() != '"' {
		return span{}, s.fail("an object's key is needed")
	}
	key := span{start: s.pos}
	if err := s.text(); err != nil {
		return span{}, err
	}
	key.end = s.pos
	if s.peek() != ':' {
		return span{}, s.fail("a colon is needed after the key")
	}
	s.pos++
	return key, nil
}

func (s *scanner[T]) array(steps []string, found *span) error {
	if empty, err := s.enter(']'); err != nil || empty {
		return err
	}
	wanted := -1
	if found != nil && len(steps) > 0 {
		wanted = index(steps[0])
	}
	for i := 0; ; i++ {
		if err := s.member(i == wanted, steps, found); err != nil {
			return err
		}
		if more, err := s.next(']'); err != nil || !more {
			return err
		}
	}
}

// member reads a value inside an object or array. In the wanted one it looks up
// the rest of the path, forgetting what an earlier member of this key held.
func (s *scanner[T]) member(wanted bool, steps []string, found *span) error {
	if !wanted {
		return s.value(nil, nil)
	}
	*found = span{}
	return s.value(steps[1:], found)
}

// next reads what follows a member: a comma, or the closing bracket.
func (s *scanner[T]) next(closing byte) (more bool, err error) {
	switch s.peek() {
	case ',':
		s.pos++
		return true, nil
	case closing:
		s.pos++
		s.depth--
		return false, nil
	default:
		return false, s.fail("a comma or " + strconv.QuoteRune(rune(closing)) + " is needed")
	}
}

// text reads a string, whose opening quote is next.
func (s *scanner[T]) text() error {
	src := s.src
	for i := skipPlain(src, s.pos+1); i < len(src); i = skipPlain(src, i+1) {
		switch src[i] {
		case '"':
			s.pos = i + 1
			return nil
		case '\\':
			i++
			if i == len(src) {
				break
			}
			switch src[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; i == len(src) || !isHex(src[i]) {
						s.pos = i
						return s.fail(`four hexadecimal digits are needed after \u`)
					}
				}
			default:
				s.pos = i
				return s.fail("unknown escape in a string")
			}
		default:
			s.pos = i
			return s.fail("a control character stands in a string")
		}
	}
	s.pos = len(src)
	return s.fail("the text ends inside a string")
}

// skipPlain returns the index of the first byte of src from i on that does not
// simply mean itself in a string: a quote, a backslash, a control character. It
// looks at eight bytes at a time, as
// https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord does.
func skipPlain[T string | []byte](src T, i int) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(src); i += 8 {
		b := src[i : i+8]
		word := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		quote, backslash := word^'"'*ones, word^'\\'*ones
		// Each term may be wrong about the bytes after the first that it finds.
		found := ((quote-ones)&^quote | (backslash-ones)&^backslash | (word-' '*ones)&^word) & tops
		if found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(src) && src[i] >= ' ' && src[i] != '"' && src[i] != '\\' {
		i++
	}
	return i
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func (s *scanner[T]) number() error {
	if s.src[s.pos] == '-' {
		s.pos++
	}
	if s.pos < len(s.src) && s.src[s.pos] == '0' {
		s.pos++
	} else if err := s.digits(); err != nil {
		return err
	}
	if s.pos < len(s.src) && s.src[s.pos] == '.' {
		s.pos++
		if err := s.digits(); err != nil {
			return err
		}
	}
	if s.pos < len(s.src) && s.src[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.src) && (s.src[s.pos] == '+' || s.src[s.pos] == '-') {
			s.pos++
		}
		return s.digits()
	}
	return nil
}

// digits reads at least one digit.
func (s *scanner[T]) digits() error {
	start := s.pos
	for s.pos < len(s.src) && s.src[s.pos] >= '0' && s.src[s.pos] <= '9' {
		s.pos++
	}
	if s.pos == start {
		return s.fail("a number's digit is needed")
	}
	return nil
}

func (s *scanner[T]) word(word string) error {
	if len(s.src)-s.pos < len(word) || string(s.src[s.pos:s.pos+len(word)]) != word {
		return s.fail("no value begins like this")
	}
	s.pos += len(word)
	return nil
}

// isKey reports whether quoted, a JSON string, holds name.
func isKey[T string | []byte](quoted T, name string) bool {
	if string(quoted[1:len(quoted)-1]) == name {
		return true
	}
	for i := range len(quoted) {
		if quoted[i] == '\\' || quoted[i] >= utf8.RuneSelf {
			return unquote(string(quoted)) == name
		}
	}
	return false
}

// unquote returns what a valid JSON string holds. Invalid UTF-8 and lone
// surrogates come out as U+FFFD.
func unquote(quoted string) string {
	var text string
	if err := json.Unmarshal([]byte(quoted), &text); err != nil {
		return quoted
	}
	return text
}

// stringText returns what a valid JSON string holds, as unquote does, and does
// not copy it where it has no escapes.
func stringText(quoted []byte) []byte {
	text := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text) {
		return text
	}
	return []byte(unquote(string(quoted)))
}

// quote returns text as a JSON string in which nothing is escaped for HTML.
func quote(text string) ([]byte, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("it is not UTF-8")
	}
	quoted, err := toJSON(text)
	return []byte(quoted), err
}

// index returns the number that step writes, and -1 if it is none: "01" and
// "+1" are keys, not numbers.
func index(step string) int {
	i, err := strconv.Atoi(step)
	if err != nil || strconv.Itoa(i) != step {
		return -1
	}
	return i
}
