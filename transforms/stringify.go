package transforms

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// Stringify appends what JSON.stringify(JSON.parse(src)) yields in ECMAScript
// to dst, to the byte, and returns the extended buffer:
//
//   - there is no white space between tokens;
//   - in an object, the keys that are array indexes ("0" to "4294967294",
//     without leading zeros) come first in ascending order, then the others as
//     they stand; a repeated key keeps its first place and its last value;
//   - numbers are printed as the doubles that they are read as: 1.0 is 1, 1e21
//     is 1e+21, -0 is 0, 12345678901234567890 is 12345678901234567000, and 1e400
//     is null, as infinity has no JSON;
//   - strings keep only the escapes \" \\ \b \f \n \r \t, \u00XX for the other
//     control characters and \uDXXX for surrogates that stand alone, in lower
//     case; all else is written as it is.
//
// The result of a result is itself. If src is not valid, the error is Valid's;
// src has to be UTF-8 besides, because JSON.parse takes text and not bytes. With
// an error dst comes back as it was. dst and src must not overlap.
//
// Time grows with len(src) as sorting does. Memory besides dst is at most some
// ten times len(src), while an object of many tiny members is read.
//
// The rules are ECMA-262's: sections 25.5 (JSON), 6.1.6.1.20 (Number::toString)
// and 10.1.11.1 (OrdinaryOwnPropertyKeys).
func Stringify(dst, src []byte) ([]byte, error) {
	if err := Valid(src); err != nil {
		return dst, err
	}
	if !utf8.Valid(src) {
		return dst, fmt.Errorf("invalid JSON at byte %d: the text is not UTF-8", validUTF8(src))
	}
	s := stringifiers.Get().(*stringifier)
	defer s.release()
	return s.stringify(dst, src), nil
}

// validUTF8 returns how many bytes of src precede the first that is not UTF-8.
func validUTF8(src []byte) int {
	n := 0
	for n < len(src) {
		r, size := utf8.DecodeRune(src[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

// stringifier rewrites one valid JSON text in two passes. The first copies the
// text token by token, and whole stretches of tokens where they need no change;
// it notes the objects whose members have to change places. The second puts
// those in order, moving each byte once, however deep objects are nested. It is
// left out when there are none.
type stringifier struct {
	src    []byte
	pos    int // how much of src is read
	copied int // how much of it is in out; the rest up to pos is to be copied as it is
	out    []byte

	order
}

// stringifiers keeps what stringifiers have allocated for the next ones.
var stringifiers = sync.Pool{New: func() any { return new(stringifier) }}

func (s *stringifier) release() {
	s.src, s.out = nil, nil
	if s.reset() {
		stringifiers.Put(s)
	}
}

func (s *stringifier) stringify(dst, src []byte) []byte {
	s.src, s.pos, s.copied, s.out = src, 0, 0, dst
	s.value()
	s.flush()
	if len(s.moves) > 0 {
		return s.arrange(s.out, len(dst))
	}
	return s.out
}

// flush copies what has been read and needs no change.
func (s *stringifier) flush() {
	s.out = append(s.out, s.src[s.copied:s.pos]...)
	s.copied = s.pos
}

// at returns where in out stands, or will stand, what is read next.
func (s *stringifier) at() int { return len(s.out) + s.pos - s.copied }

// space leaves out white space. There is a token after it.
func (s *stringifier) space() {
	if s.src[s.pos] <= ' ' {
		s.skipSpace()
	}
}

func (s *stringifier) skipSpace() {
	s.flush()
	for isSpace(s.src[s.pos]) {
		s.pos++
	}
	s.copied = s.pos
}

// value rewrites one value. It recurses once for each level, which Valid has
// bounded.
func (s *stringifier) value() {
	s.space()
	switch s.src[s.pos] {
	case '{':
		s.object()
	case '[':
		s.array()
	case '"':
		s.text()
	case 'f':
		s.pos += len("false")
	case 'n', 't':
		s.pos += len("true")
	default:
		s.number()
	}
}

// empty reads the opening bracket, and the closing one if it follows at once.
func (s *stringifier) empty(closing byte) bool {
	s.pos++
	s.space()
	if s.src[s.pos] != closing {
		return false
	}
	s.pos++
	return true
}

// more reads what follows a member, and reports whether that is a comma.
func (s *stringifier) more() bool {
	s.space()
	s.pos++
	return s.src[s.pos-1] == ','
}

func (s *stringifier) object() {
	start, first := s.at(), len(s.members)
	if s.empty('}') {
		return
	}
	for {
		s.space()
		m := member{key: s.at()}
		s.text()
		m.colon = s.at()
		s.space()
		s.pos++
		s.value()
		m.end = s.at()
		s.members = append(s.members, m)
		if !s.more() {
			break
		}
	}
	s.flush()
	s.settle(s.out, start, first)
}

func (s *stringifier) array() {
	if s.empty(']') {
		return
	}
	for {
		s.value()
		if !s.more() {
			return
		}
	}
}

// text rewrites a string, whose opening quote is next.
func (s *stringifier) text() {
	s.pos++
	for {
		s.pos = skipPlain(s.src, s.pos)
		c := s.src[s.pos]
		if c == '"' {
			s.pos++
			return
		}
		s.escape()
	}
}

// escape rewrites one escape, whose backslash is next.
func (s *stringifier) escape() {
	switch s.src[s.pos+1] {
	case '/':
		s.flush()
		s.copied++
		s.pos += 2
	case 'u':
		s.flush()
		r := unit(s.src[s.pos+2:])
		s.pos += 6
		if utf16.IsSurrogate(r) && s.src[s.pos] == '\\' && s.src[s.pos+1] == 'u' {
			if pair := utf16.DecodeRune(r, unit(s.src[s.pos+2:])); pair != utf8.RuneError {
				r = pair
				s.pos += 6
			}
		}
		s.out = appendQuoted(s.out, r)
		s.copied = s.pos
	default:
		s.pos += 2
	}
}

// unit returns the number that the first four bytes of src, hexadecimal digits,
// write.
func unit(src []byte) rune {
	var r rune
	for _, c := range src[:4] {
		digit := c - '0'
		if c > '9' {
			digit = (c | 0x20) - 'a' + 10
		}
		r = r<<4 | rune(digit)
	}
	return r
}

// appendQuoted appends a character, or a surrogate that stands alone, as
// ECMAScript's QuoteJSONString writes it.
func appendQuoted(dst []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	switch {
	case r == '"' || r == '\\':
		return append(dst, '\\', byte(r))
	case r >= '\b' && r <= '\r' && r != '\v':
		return append(dst, '\\', "btn.fr"[r-'\b'])
	case r < ' ' || utf16.IsSurrogate(r):
		return append(dst, '\\', 'u', hex[r>>12], hex[r>>8&0xf], hex[r>>4&0xf], hex[r&0xf])
	default:
		return utf8.AppendRune(dst, r)
	}
}

func (s *stringifier) number() {
	end, same := readNumber(s.src[s.pos:])
	if same == end {
		s.pos += end
		return
	}
	s.pos += same
	s.flush()
	if same == 0 {
		s.out = appendNumber(s.out, s.src[s.pos:s.pos+end])
	}
	s.pos += end - same
	s.copied = s.pos
}

// readNumber returns the length of the number that src begins with, and how
// much of that is printed if it is known to be printed as it stands, less the
// zeros that a fraction ends in; 0 if it has to be printed anew.
//
// It is printed so if it has no exponent and at most 15 digits, is not -0, and
// is at least 0.000001 unless it is 0. For the doubles lie closer together than
// decimals of 15 digits, so no two such decimals are read as the same double,
// and the shortest decimal that is read as this one, which Number::toString
// prints, is the one that stands here. Without an exponent it prints what is at
// least 1e-6 and less than 1e21.
func readNumber(src []byte) (end, same int) {
	whole := 0
	if src[0] == '-' {
		whole = 1
	}
	end = skipDigits(src, whole)
	digits, point := end-whole, end
	same = end
	if end < len(src) && src[end] == '.' {
		end = skipDigits(src, end+1)
		digits += end - point - 1
		same = trimFraction(src, point, end)
	}
	zero := src[whole] == '0'
	switch {
	case end < len(src) && src[end]|0x20 == 'e':
		return skipDigits(src, end+2), 0 // its sign or first digit is there
	case digits > 15,
		zero && whole == 1 && same == point, // -0
		zero && same > point+7 && string(src[point+1:point+7]) == "000000":
		return end, 0
	}
	return end, same
}

// trimFraction returns where the fraction that stands in src from its point to
// end ends without its last zeros, and without the point if nothing remains.
func trimFraction(src []byte, point, end int) int {
	for src[end-1] == '0' {
		end--
	}
	if end-1 == point {
		return point
	}
	return end
}

// skipDigits returns the index of the first byte of src from i on that is no
// digit.
func skipDigits(src []byte, i int) int {
	for i < len(src) && src[i] >= '0' && src[i] <= '9' {
		i++
	}
	return i
}

// appendNumber appends the double that text is read as in the way of
// ECMAScript's Number::toString; null if it is infinite.
func appendNumber(dst, text []byte) []byte {
	// A valid number is an error only when it is too large, and infinite then.
	f, _ := strconv.ParseFloat(string(text), 64)
	size := math.Abs(f)
	switch {
	case f == 0:
		return append(dst, '0')
	case math.IsInf(f, 0):
		return append(dst, "null"...)
	case size >= 1e-6 && size < 1e21:
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	// Go writes an exponent in two digits at least: 1e-07.
	if n := len(dst); dst[n-3] == '-' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}
