package dashboard

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var declared = regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{3,6})`)

// palette returns the colours that a block of app.css declares.
func palette(t *testing.T, selector string) map[string]string {
	t.Helper()
	_, block, found := strings.Cut(string(ownAssets().files["app.css"]), selector+" {")
	if !found {
		t.Fatalf("app.css has no %s", selector)
	}
	block, _, _ = strings.Cut(block, "}")
	colours := map[string]string{}
	for _, m := range declared.FindAllStringSubmatch(block, -1) {
		colours[m[1]] = m[2]
	}
	return colours
}

// luminance is WCAG's relative luminance of a colour such as #fff or #18212d.
func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	hex := strings.TrimPrefix(colour, "#")
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatalf("%q is no colour", colour)
	}
	part := func(shift int) float64 {
		v := float64(n>>shift&0xff) / 255
		if v <= 0.03928 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*part(16) + 0.7152*part(8) + 0.0722*part(0)
}

// WCAG 2.2 AA: 4.5 for text, 3 for what is drawn and for the borders of fields.
func TestColoursStandOutLightAndDark(t *testing.T) {
	texts := map[string][]string{
		"text": {"bg", "surface", "raised", "code-bg"}, "muted": {"bg", "surface", "raised", "off-bg"}, "link": {"bg", "surface", "raised", "busy-bg"},
		"ok": {"ok-bg", "surface"}, "bad": {"bad-bg", "surface", "bg", "raised"}, "warn": {"warn-bg"}, "busy": {"busy-bg"}, "off": {"off-bg"},
		"on-accent": {"accent", "accent-hover", "danger"},
	}
	drawn := []string{"field", "ok-fill", "bad-fill", "warn-fill", "seg-dns", "seg-connect", "seg-tls", "seg-wait", "seg-read"}
	for _, selector := range []string{`[data-theme="light"]`, `[data-theme="dark"]`, `:root:not([data-theme])`} {
		colours := palette(t, selector)
		check := func(front, back string, least float64) {
			a, b := luminance(t, colours[front]), luminance(t, colours[back])
			if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < least {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want %v", selector, front, back, ratio, least)
			}
		}
		for front, backs := range texts {
			for _, back := range backs {
				check(front, back, 4.5)
			}
		}
		for _, front := range drawn {
			check(front, "surface", 3)
		}
	}
}
