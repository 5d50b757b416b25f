package plugins

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRecordsAreLinesThatTheHostReads(t *testing.T) {
	tests := []struct {
		name  string
		level slog.Level
		attrs []slog.Attr
		want  map[string]any
	}{
		{"plain", slog.LevelInfo, nil, map[string]any{"@level": "info"}},
		{"debug", slog.LevelDebug, nil, map[string]any{"@level": "debug"}},
		{"warning", slog.LevelWarn, nil, map[string]any{"@level": "warn"}},
		{"above an error", slog.LevelError + 3, nil, map[string]any{"@level": "error"}},
		{"between", slog.LevelInfo + 1, nil, map[string]any{"@level": "info"}},
		{"attributes", slog.LevelInfo, []slog.Attr{slog.Int("n", 3), slog.Group("g", slog.String("level", "x"), slog.String("@message", "y"))},
			map[string]any{"@level": "info", "n": 3.0, "g": map[string]any{"level": "x", "@message": "y"}}},
		{"the host's keys", slog.LevelInfo, []slog.Attr{slog.Int("@level", 1), slog.Bool("@message", true), slog.Int("msg", 2), slog.String("time", "now")},
			map[string]any{"@level": "info", "level": 1.0, "message": true, "msg": 2.0, "time": "now"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var line bytes.Buffer
			handler := slog.NewJSONHandler(&line, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: hclogAttr})
			record := slog.NewRecord(time.Date(2026, 5, 22, 9, 30, 0, 0, time.UTC), tt.level, "cache is full", 0)
			record.AddAttrs(tt.attrs...)
			if err := handler.Handle(context.Background(), record); err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal(line.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			tt.want["@message"], tt.want["@timestamp"] = "cache is full", "2026-05-22T09:30:00.000000Z"
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("the record differs (-want +got):\n%s", diff)
			}
		})
	}
}
