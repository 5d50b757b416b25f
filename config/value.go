package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// mask stands in for a secret wherever one would be printed.
const mask = "***"

// Secret is a text that no printing, logging or marshalling shows. The zero
// value means that there is none.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns "***", or "" for the empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// Format prints what String returns, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements [encoding.TextMarshaler], for JSON and YAML alike.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// URL is the address of a database or an endpoint, whose credentials no
// printing, logging or marshalling shows.
type URL string

// Reveal returns the URL with its credentials.
func (u URL) Reveal() string { return string(u) }

var (
	wholeURL = regexp.MustCompile(`^(?i)[a-z][a-z0-9+.-]*://`)
	// secretName is the name of a parameter that holds a credential.
	secretName = regexp.MustCompile(`(?i)pass|token|secret|key|sig`)
	// keyword is one keyword=value of a connection string.
	keyword = regexp.MustCompile(`([A-Za-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'?|(?:[^\s\\]|\\.)*)`)
)

// String returns the URL with its user information and parameters such as
// password masked; likewise a keyword=value connection string. What cannot be
// parsed is masked whole.
func (u URL) String() string {
	if !wholeURL.MatchString(string(u)) {
		return keyword.ReplaceAllStringFunc(string(u), func(pair string) string {
			if name, _, _ := strings.Cut(pair, "="); secretName.MatchString(name) {
				return name + "=" + mask
			}
			return pair
		})
	}
	parsed, err := url.Parse(string(u))
	if err != nil {
		return mask
	}
	text, query, hasQuery := strings.Cut(string(u), "?")
	if parsed.User != nil {
		scheme, rest, _ := strings.Cut(text, "://")
		host, _, _ := strings.Cut(rest, "/")
		text = scheme + "://" + mask + host[strings.LastIndexByte(host, '@'):] + strings.TrimPrefix(rest, host)
	}
	if !hasQuery {
		return text
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err != nil || secretName.MatchString(plain) {
			pairs[i] = name + "=" + mask
		}
	}
	return text + "?" + strings.Join(pairs, "&")
}

// Format prints what String returns, whatever the verb.
func (u URL) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, u.String()) }

// LogValue implements [slog.LogValuer].
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText implements [encoding.TextMarshaler], for JSON and YAML alike.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// StatusRange is the status codes of responses from First to Last, both
// included: one code or a class.
type StatusRange struct{ First, Last int }

var statusText = regexp.MustCompile(statusPattern)

// UnmarshalText reads a code of 300 to 599, or a class: 3xx, 4xx or 5xx.
func (r *StatusRange) UnmarshalText(text []byte) error {
	if !statusText.Match(text) {
		return errors.New("must be 300 to 599, 3xx, 4xx or 5xx")
	}
	first, err := strconv.Atoi(strings.ReplaceAll(string(text), "x", "0"))
	if err != nil {
		return err
	}
	r.First, r.Last = first, first
	if text[1] == 'x' {
		r.Last += 99
	}
	return nil
}

// String returns the range as the configuration has it: 404 or 4xx.
func (r StatusRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(r.First)
	}
	return strconv.Itoa(r.First/100) + "xx"
}

// Contains reports whether status is in the range.
func (r StatusRange) Contains(status int) bool { return status >= r.First && status <= r.Last }

// JSON is a JSON text, its keys in the order in which they were written.
type JSON string

// Bytes is a size in bytes.
type Bytes int64

var (
	bytesPattern = regexp.MustCompile(`^([0-9]{1,18}) ?(KiB|MiB|GiB|KB|MB|GB)?$`)
	bytesUnits   = map[string]int64{
		"": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	}
)

// parseBytes reads a size: a whole number, with KiB, MiB, GiB, KB, MB or GB
// behind it or nothing.
func parseBytes(text string) (Bytes, bool) {
	m := bytesPattern.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || n > math.MaxInt64/bytesUnits[m[2]] {
		return 0, false
	}
	return Bytes(n * bytesUnits[m[2]]), true
}

// String returns the size in the largest binary unit that divides it.
func (b Bytes) String() string {
	for _, unit := range []string{"GiB", "MiB", "KiB"} {
		if size := bytesUnits[unit]; b != 0 && int64(b)%size == 0 {
			return strconv.FormatInt(int64(b)/size, 10) + unit
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// shortDuration is Duration.String without zero minutes and seconds: 168h, not 168h0m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// parseNumber reads a number as any of the three formats writes it. A leading
// zero is refused: YAML reads 0123 as octal, people do not.
func parseNumber(text string) (any, bool) {
	plain := strings.ReplaceAll(text, "_", "")
	digits := strings.TrimLeft(plain, "+-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return nil, false
	}
	if n, err := strconv.ParseInt(plain, 0, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(plain, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, false
	}
	return f, true
}
