package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progressBar shows on a terminal how far something is. Elsewhere it shows
// nothing.
type progressBar struct {
	out     io.Writer
	width   func() int // of the terminal; nil without one
	painted time.Time
}

// barEvery is the least time between two pictures of a bar.
const barEvery = 100 * time.Millisecond

// newProgressBar returns a bar on stream, one of the process' own.
func newProgressBar(stream io.Writer) *progressBar {
	b := &progressBar{out: stream}
	if f, ok := stream.(*os.File); ok && isTerminal(f) {
		b.width = func() int {
			width, _, err := term.GetSize(int(f.Fd()))
			if err != nil || width < 1 {
				return 80
			}
			return width
		}
	}
	return b
}

// show paints the bar for done of total, unless it did a moment ago.
func (b *progressBar) show(done, total int) {
	if b.width == nil || time.Since(b.painted) < barEvery {
		return
	}
	b.painted = time.Now()
	_, _ = fmt.Fprintf(b.out, "\r\x1b[K%s", barLine(done, total, b.width()-1))
}

// clear takes the bar away.
func (b *progressBar) clear() {
	if b.width != nil && !b.painted.IsZero() {
		_, _ = fmt.Fprint(b.out, "\r\x1b[K")
	}
}

// barLine returns a bar of at most width characters, all ASCII.
func barLine(done, total, width int) string {
	text := fmt.Sprintf(" %d of %s", done, count(total, "event"))
	room := min(width-len(text)-2, 40)
	if room < 4 {
		return text[1:max(1, min(len(text), width+1))]
	}
	full := room
	if total > 0 {
		full = min(room, room*done/total)
	}
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", room-full) + "]" + text
}
