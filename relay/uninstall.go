package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
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

// sqlHeldSlot returns who uses the slot, "" for nobody.
const sqlHeldSlot = `SELECT coalesce(s.database = current_database(), false), CASE WHEN s.active_pid IS NULL THEN '' ELSE
  format('pid %s, application %s, address %s', s.active_pid, coalesce(nullif(a.application_name, ''), '-'), coalesce(host(a.client_addr), 'local')) END
FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE s.slot_name = $1`

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
	dropped, err := dropSlot(ctx, dbs.source.Pool, slot)
	if err != nil {
		return hinted(err)
	}
	if dropped {
		say("slot %s removed", slot)
	}
	if _, err := dbs.source.Pool.Exec(ctx, `DROP PUBLICATION IF EXISTS `+pgx.Identifier{cfg.Source.Publication}.Sanitize()); err != nil {
		return hinted(fmt.Errorf("drop publication %s: %w", cfg.Source.Publication, err))
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
		if _, err := pool.Exec(ctx, `DROP SCHEMA IF EXISTS posthorn CASCADE`); err != nil {
			return hinted(fmt.Errorf("drop schema posthorn: %w", err))
		}
		say("schema posthorn removed from database %s", pool.Config().ConnConfig.Database)
	}
	return nil
}

// dropSlot removes the slot and reports whether there was one.
func dropSlot(ctx context.Context, pool *pgxpool.Pool, slot string) (bool, error) {
	var ours bool
	var holder string
	err := pool.QueryRow(ctx, sqlHeldSlot, slot).Scan(&ours, &holder)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for slot %s: %w", slot, err)
	case !ours:
		return false, fmt.Errorf("slot %s is of another database: mend source.slot or database.url", slot)
	case holder != "":
		return false, fmt.Errorf("slot %s is in use (%s): stop the relay first, and its standbys", slot, holder)
	}
	if _, err := pool.Exec(ctx, `SELECT pg_drop_replication_slot($1)`, slot); err != nil {
		return false, fmt.Errorf("drop slot %s: %w", slot, err)
	}
	return true, nil
}
