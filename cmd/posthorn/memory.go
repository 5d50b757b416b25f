package main

import (
	"context"
	"log/slog"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// limitMemory tells the runtime of the container's memory limit, of which it
// may use nine tenths. GOMEMLIMIT has the last word.
func limitMemory(ctx context.Context, logger *slog.Logger) {
	limit, err := memlimit.Set(memlimit.WithRatio(0.9))
	if err != nil {
		logger.LogAttrs(ctx, slog.LevelDebug, "no memory limit read", slog.Any("err", err))
		return
	}
	logger.LogAttrs(ctx, slog.LevelDebug, "memory limit set", slog.Int64("bytes", limit))
}
