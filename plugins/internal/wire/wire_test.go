package wire

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLineIsOneLineOfValidText(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"plain", "no such tenant", "no such tenant"},
		{"empty", "", ""},
		{"lines", "first\nsecond\r\n\tthird", "first second third"},
		{"spaces around", " \n no \u00a0 such ", "no such"},
		{"terminal", "a\x1b[31mred\x00", "a [31mred"},
		{"reversed text", "a\u202eb", "a b"},
		{"not UTF-8", "a\xffb", "a\ufffdb"},
		{"umlauts", "Straße fehlt", "Straße fehlt"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Line(tt.text); got != tt.want {
				t.Errorf("Line(%q) = %q, want %q", tt.text, got, tt.want)
			}
		})
	}
}

func TestLineIsBounded(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("x", 1<<20), strings.Repeat("ß", 1<<20), strings.Repeat("x ", 1<<20),
		"x" + strings.Repeat("\U0001f4ef", 1<<20), strings.Repeat("\xff", 1<<20),
	} {
		got := Line(text)
		if len(got) > maxLine || len(got) < maxLine-8 || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
			t.Errorf("Line(%q…) has %d bytes and ends with %q", text[:8], len(got), got[len(got)-8:])
		}
	}
}

func TestMismatchNamesBothVersions(t *testing.T) {
	const want = "speaks protocol version 7, this Posthorn speaks version 1"
	if got := Mismatch(7); got != want {
		t.Errorf("Mismatch(7) = %q, want %q", got, want)
	}
}
