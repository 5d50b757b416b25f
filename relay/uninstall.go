package relay

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// UninstallOptions say what Uninstall removes.
type UninstallOptions struct {
	// Schema removes the schema posthorn with all that is in it, the outbox and
	// the ledger, beside slot and publication.
	Schema bool
	// Progress, if set, is called with each thing that was removed.
	Progress func(step string)
}

// Uninstall removes the slot, the publication and what the ledger knows of the
// slot. What is missing already is no error; a slot that a relay holds is one,
// and nothing is removed then. Tables outside the schema posthorn stay.
func Uninstall(ctx context.Context, cfg *config.Config, o UninstallOptions) error {
	dbs, err := openDatabases(cfg)
	if err != nil {
		return err
	}
	defer dbs.close()
	say := func(format string, args ...any) {
		if o.Progress != nil {
			o.Progress(fmt.Sprintf(format, args...))
		}
	}
	slot := cfg.Source.Slot
	dropped, err := dbs.source.DropSlot(ctx)
	if err != nil {
		return hinted(err)
	}
	if dropped {
		say("slot %s removed", slot)
	}
	if err := dbs.source.DropPublication(ctx); err != nil {
		return hinted(err)
	}
	say("publication %s removed", cfg.Source.Publication)
	if ledger.CheckVersion(ctx, dbs.ledger) == nil {
		if err := ledger.Forget(ctx, dbs.ledger, slot); err != nil {
			return hinted(err)
		}
		say("ledger entry of slot %s removed", slot)
	}
	if !o.Schema {
		return nil
	}
	pools := []*pgxpool.Pool{dbs.source.Pool}
	if dbs.ledger != dbs.source.Pool {
		pools = append(pools, dbs.ledger)
	}
	for _, pool := range pools {
		if err := ledger.DropSchema(ctx, pool); err != nil {
			return hinted(err)
		}
		say("schema posthorn removed from database %s", pool.Config().ConnConfig.Database)
	}
	return nil
}
