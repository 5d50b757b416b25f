package main

import (
	"fmt"
	"strings"
	"time"
)

// count returns n with its noun: 1 endpoint, 2 endpoints.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// short returns d in milliseconds or seconds, without the units that are zero:
// 10h, not 10h0m0s.
func short(d time.Duration) string {
	if d >= time.Second {
		d = d.Round(time.Second)
	} else {
		d = d.Round(time.Microsecond)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// oneLine joins the lines of an error, such as that of a connection that was
// tried at several addresses.
func oneLine(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		switch so := b.String(); {
		case so == "":
		case strings.HasSuffix(so, ":"):
			b.WriteString(" ")
		default:
			b.WriteString("; ")
		}
		b.WriteString(strings.TrimSpace(line))
	}
	return b.String()
}
