package tail

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestErrorsAreFinalOrTransient(t *testing.T) {
	answer := func(state string) error { return fmt.Errorf("do: %w", &pgconn.PgError{Code: state}) }
	cases := []struct {
		name             string
		err              error
		final, transient bool
		hint             string // what the hint holds, "" for no hint
	}{
		{"none", nil, false, false, ""},
		{"wrong password", answer("28P01"), true, false, "database.url"},
		{"not admitted", answer("28000"), true, false, "pg_hba.conf"},
		{"no such database", answer("3D000"), true, false, "create the database"},
		{"no privilege", answer("42501"), true, false, "grant the role"},
		{"wal_level", answer("55000"), true, false, "wal_level"},
		{"no free slot", answer("53400"), true, false, "max_replication_slots"},
		{"slot of another database", fmt.Errorf("do: %w", &ForeignSlotError{Slot: "s", Database: "d", Plugin: "pgoutput"}), true, false, "choose another source.slot"},
		{"too many connections", answer("53300"), false, true, "max_connections"},
		{"disk full", answer("53100"), false, true, ""},
		{"shutting down", answer("57P01"), false, true, ""},
		{"lock not available", answer("55P03"), false, true, ""},
		{"connection lost", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), false, true, ""},
		{"no such table", answer("42P01"), false, false, ""},
		{"ours", errors.New("table has no column"), false, false, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := Final(c.err); got != c.final {
				t.Errorf("final: %t, want %t", got, c.final)
			}
			if got := Transient(c.err); got != c.transient {
				t.Errorf("transient: %t, want %t", got, c.transient)
			}
			if got := Hint(c.err); !strings.Contains(got, c.hint) || c.hint == "" && got != "" {
				t.Errorf("hint %q, want %q", got, c.hint)
			}
		})
	}
}
