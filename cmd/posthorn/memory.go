package main

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// gcPercent trades memory for time: see docs/performance.md for what it gives
// and takes.
const gcPercent = 200

// limitMemory tells the runtime of the container's memory limit, of which it
// may use nine tenths. GOMEMLIMIT and GOGC have the last word.
func limitMemory(ctx context.Context, logger *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	limit, err := memlimit.Set(memlimit.WithRatio(0.9))
	if err != nil {
		logger.LogAttrs(ctx, slog.LevelDebug, "no memory limit read", slog.Any("err", err))
		return
	}
	logger.LogAttrs(ctx, slog.LevelDebug, "memory limit set", slog.Int64("bytes", limit))
}
