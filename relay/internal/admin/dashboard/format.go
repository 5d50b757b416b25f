package dashboard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// dash stands where there is nothing to say.
const dash = "–"

// number returns n with its thousands apart.
func number(n int64) string {
	text := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, text = "−", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}

// decimal returns f with three digits that matter, at most two after the point.
func decimal(f float64) string {
	switch abs := math.Abs(f); {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return dash
	case abs >= 99.95:
		return number(int64(math.Round(f)))
	case abs >= 9.995:
		return trimZeros(strconv.FormatFloat(f, 'f', 1, 64))
	default:
		return trimZeros(strconv.FormatFloat(f, 'f', 2, 64))
	}
}

func trimZeros(text string) string {
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// percent returns a share of 1. Only all is 100 %, and only nothing 0 %.
func percent(share float64) string {
	switch {
	case math.IsNaN(share):
		return dash
	case share < 1 && share > 0.9999:
		return "99.99 %"
	case share > 0 && share < 0.0001:
		return "0.01 %"
	}
	return trimZeros(strconv.FormatFloat(share*100, 'f', 2, 64)) + " %"
}

// byteSize returns a number of bytes in the largest unit that fits.
func byteSize(n int64) string {
	size, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; size >= 1024 && i < len(units)-1; i++ {
		size /= 1024
	}
	return decimal(size) + " " + units[i]
}

// duration returns d for people, by its two largest units.
func duration(d time.Duration) string {
	two := func(a int64, unit string, b int64, lower string) string {
		if b == 0 {
			return fmt.Sprintf("%d %s", a, unit)
		}
		return fmt.Sprintf("%d %s %d %s", a, unit, b, lower)
	}
	switch {
	case d < 0:
		return "−" + duration(-d)
	case d == 0:
		return "0 s"
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return decimal(float64(d.Microseconds())/1000) + " ms"
	case d < time.Minute:
		return decimal(d.Seconds()) + " s"
	}
	d = d.Round(time.Second)
	switch {
	case d < time.Hour:
		return two(int64(d/time.Minute), "min", int64(d%time.Minute/time.Second), "s")
	case d < 24*time.Hour:
		return two(int64(d/time.Hour), "h", int64(d%time.Hour/time.Minute), "min")
	default:
		return two(int64(d/(24*time.Hour)), "d", int64(d%(24*time.Hour)/time.Hour), "h")
	}
}

// latency is duration, for what may never have been measured.
func latency(d time.Duration) string {
	if d == 0 {
		return dash
	}
	return duration(d)
}

// relative returns how far t is from now.
func relative(t, now time.Time) string {
	d := now.Sub(t)
	ahead := d < 0
	if ahead {
		d = -d
	}
	var text string
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		text = fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		text = fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		text = fmt.Sprintf("%d h", d/time.Hour)
	default:
		text = fmt.Sprintf("%d d", d/(24*time.Hour))
	}
	if ahead {
		return "in " + text
	}
	return text + " ago"
}

// moment returns t in UTC, to the millisecond where that matters.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func precise(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000 UTC") }

// machine returns t as HTML's time element takes it.
func machine(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// short returns the beginning of an id that people tell others apart by.
func short(id fmt.Stringer) string {
	text := id.String()
	return text[:8] + "…" + text[len(text)-4:]
}

// excerpt returns the beginning of a text that may be long, or no text.
func excerpt(b []byte) string { return excerptOf(b, 0) }

// excerptOf is excerpt of a text of which b is at least the beginning.
func excerptOf(b []byte, size int64) string {
	if len(b) == 0 {
		return ""
	}
	cut := b
	if len(cut) > maxText {
		cut = cut[:maxText]
	}
	text := strings.ToValidUTF8(string(cut), "\uFFFD")
	if size = max(size, int64(len(b))); size > maxText {
		text += fmt.Sprintf("\n… (%s in all)", byteSize(size))
	}
	return text
}

// maxPretty bounds what pretty makes, in bytes: the indentation of values that
// are deep in others is many times what came.
const maxPretty = 256 << 10

// pretty returns JSON with its lines indented, and as it is what is none, is
// long, or would become long.
func pretty(b []byte) string { return prettyOf(b, 0) }

// prettyOf is pretty of JSON of which b is at least the beginning.
func prettyOf(b []byte, size int64) string {
	var out bytes.Buffer
	if len(b) > maxText || indented(b) > maxPretty || json.Indent(&out, b, "", "  ") != nil {
		return excerptOf(b, size)
	}
	return strings.ToValidUTF8(out.String(), "\uFFFD")
}

// indented returns how many bytes JSON has once it is indented, or some more.
func indented(b []byte) int64 {
	var depth, size int64
	inText, escaped := false, false
	for _, c := range b {
		size++
		switch {
		case escaped:
			escaped = false
		case inText:
			escaped, inText = c == '\\', c != '"'
		case c == '"':
			inText = true
		case c == '{' || c == '[':
			depth++
			size += 1 + 2*depth
		case c == '}' || c == ']':
			depth = max(0, depth-1)
			size += 1 + 2*depth
		case c == ',':
			size += 1 + 2*depth
		case c == ':':
			size++
		}
	}
	return size
}

// cut returns at most n characters of a text.
func cut(n int, text string) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}

// plural returns a number with what it counts.
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}
