package main

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/lmittmann/tint"
)

// Texts of others may not drive the terminal that a log is read on.
func TestColouredLogHoldsNobodysEscapeSequences(t *testing.T) {
	var b strings.Builder
	logger := slog.New(tint.NewTextHandler(&b, &tint.Options{ReplaceAttr: withoutControls}))
	logger.Info("plugin output", slog.String("line", "\x1b[2Jcleared"), slog.Any("err", errors.New("\x1b]0;title\a")))
	got := b.String()
	for _, text := range []string{"\x1b[2J", "\x1b]0;", "\a"} {
		if strings.Contains(got, text) {
			t.Errorf("logged %q, which holds %q", got, text)
		}
	}
	if !strings.Contains(got, "cleared") || !strings.Contains(got, "title") {
		t.Errorf("logged %q", got)
	}
}
