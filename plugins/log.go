package plugins

import (
	"log/slog"
	"os"
	"strings"
)

// stderr is the process's own: go-plugin puts a pipe in the place of os.Stderr.
var stderr = os.Stderr

// Logger returns a logger whose records appear in the relay's log, with their
// levels and attributes and the plugin's name. The relay's log level decides
// which.
func Logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: hclogAttr}))
}

// hclogAttr renames what slog sets to what go-plugin's host reads.
func hclogAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	level, isLevel := a.Value.Any().(slog.Level)
	switch {
	case a.Key == slog.LevelKey && isLevel:
		return slog.String("@level", hclogLevel(level))
	case a.Key == slog.MessageKey && a.Value.Kind() == slog.KindString:
		a.Key = "@message"
	case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
		return slog.String("@timestamp", a.Value.Time().Format("2006-01-02T15:04:05.000000Z07:00"))
	default:
		a.Key = strings.TrimLeft(a.Key, "@") // which the host takes for its own
	}
	return a
}

// hclogLevel returns the name of the highest of hclog's levels that l reaches.
func hclogLevel(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warn"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}
