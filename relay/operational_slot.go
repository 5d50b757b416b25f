package relay

import (
	"context"
	"log/slog"
	"time"

	"github.com/posthorn/posthorn/relay/internal/tail"
)

// aboutSlot is the payload of posthorn.slot.at_risk.
type aboutSlot struct {
	Slot      string `json:"slot"`
	WALStatus string `json:"wal_status"`
	Lag       int64  `json:"lag_bytes"`
	Retained  int64  `json:"retained_bytes"`
	Safe      *int64 `json:"safe_bytes,omitempty"` // that can still be written; absent where nothing is removed
}

// tellSlot logs and announces that the slot is at risk.
func (r *Relay) tellSlot(ctx context.Context, s tail.SlotStatus) {
	level := slog.LevelWarn
	if s.WALStatus == "unreserved" || s.WALStatus == "lost" {
		level = slog.LevelError
	}
	attrs := []slog.Attr{
		slog.String("slot", r.databases.source.Slot), slog.String("wal_status", s.WALStatus), slog.Int64("lag_bytes", s.Lag), slog.Int64("retained_bytes", s.Retained),
	}
	if s.Safe != nil {
		attrs = append(attrs, slog.Int64("safe_bytes", *s.Safe))
	}
	r.logger.LogAttrs(ctx, level, "the slot is at risk: Postgres keeps much WAL for it, and may come to remove some", attrs...)
	r.announcer.announce(ctx, typeSlotRisk, "", aboutSlot{
		Slot: r.databases.source.Slot, WALStatus: s.WALStatus, Lag: s.Lag, Retained: s.Retained, Safe: s.Safe,
	})
}

// slotCalm is for how long a slot must be out of risk before a new risk is news.
const slotCalm = time.Minute

// slotRisk notices when the slot comes into more risk than before.
type slotRisk struct {
	worst int       // that was noticed since the slot was last out of risk
	calm  time.Time // since when it is; zero while it is not
}

// worse takes how the slot stands and reports whether that is news.
func (k *slotRisk) worse(s tail.SlotStatus, now time.Time) bool {
	risk := riskOf(s)
	switch {
	case risk > k.worst:
		k.worst, k.calm = risk, time.Time{}
		return true
	case risk > 0:
		k.calm = time.Time{}
	case k.calm.IsZero():
		k.calm = now
	case now.Sub(k.calm) >= slotCalm:
		k.worst = 0
	}
	return false
}

// riskOf returns how near Postgres is to removing WAL that the slot needs:
// 0 for not near, 3 when it did.
func riskOf(s tail.SlotStatus) int {
	switch {
	case s.WALStatus == "lost":
		return 3
	case s.WALStatus == "unreserved": // it goes at the next checkpoint
		return 2
	case s.WALStatus == "extended", s.Safe != nil && *s.Safe <= s.Retained/4: // beyond max_wal_size, or four fifths of max_slot_wal_keep_size
		return 1
	}
	return 0
}
