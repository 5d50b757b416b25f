package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/tail"
)

// InitOptions say how Init prepares a database.
type InitOptions struct {
	// Backfill sends the rows that the outbox held before the slot, too. It is
	// an error when the slot exists already.
	Backfill bool
	// Progress, if set, is called with each step that was done and with what is
	// being waited for.
	Progress func(step string)
}

// ownTable is the outbox that Init creates; any other must exist.
const ownTable = "posthorn.outbox"

// Init prepares the databases for the relay: schema, outbox, ledger,
// publication and slot, in that order. What exists already is left as it is,
// so it can be run again, also by a role that may do no more than run the
// relay. Creating the slot waits until every transaction that is open then has
// ended.
//
// A slot that the ledger knows and that is gone is an *OutOfStepError: a new
// one would skip what was written in between.
func Init(ctx context.Context, cfg *config.Config, o InitOptions) error {
	dbs, err := openDatabases(cfg)
	if err != nil {
		return err
	}
	defer dbs.close()
	i := &initializer{InitOptions: o, cfg: cfg, databases: dbs}
	return hinted(i.run(ctx))
}

type initializer struct {
	InitOptions
	cfg       *config.Config
	databases *databases
}

func (i *initializer) say(format string, args ...any) {
	if i.Progress != nil {
		i.Progress(fmt.Sprintf(format, args...))
	}
}

func (i *initializer) run(ctx context.Context) error {
	source := i.databases.source
	for _, check := range []func(context.Context) error{source.Pool.Ping, i.databases.ledger.Ping, source.CheckLogical, source.CheckPrivilege} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	unlock, err := tail.LockSetup(ctx, i.cfg.Database.ReplicationURL.Reveal(), func() { i.say("waiting for another posthorn init to end") })
	if err != nil {
		return err
	}
	defer unlock()
	for _, step := range []func(context.Context) error{i.outbox, i.ledger, i.publication, i.slot} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (i *initializer) outbox(ctx context.Context) error {
	source := i.databases.source
	if i.cfg.Source.Table == ownTable {
		if err := source.CreateOutbox(ctx); err != nil {
			return err
		}
	}
	if _, err := source.Columns(ctx); err != nil {
		return err
	}
	i.say("outbox %s is ready", source.Table)
	return nil
}

func (i *initializer) ledger(ctx context.Context) error {
	pool := i.databases.ledger
	if ledger.CheckVersion(ctx, pool) != nil { // whatever is wrong with it, Migrate mends it or says why not
		if _, err := ledger.Migrate(ctx, pool); err != nil {
			return err
		}
	}
	i.say("ledger is ready")
	return nil
}

func (i *initializer) publication(ctx context.Context) error {
	source := i.databases.source
	if err := source.Publish(ctx); err != nil {
		return err
	}
	i.say("publication %s is ready", source.Publication)
	return nil
}

// slot makes sure that slot and ledger know each other.
func (i *initializer) slot(ctx context.Context) error {
	slot := i.cfg.Source.Slot
	led := ledger.New(i.databases.ledger, slot, ledger.Bodies(i.cfg.Ledger.Bodies), slog.New(slog.DiscardHandler))
	conn, err := tail.Connect(ctx, i.cfg.Database.ReplicationURL.Reveal(), slot)
	if err == nil {
		conn.Close()
	}
	missing := errors.Is(err, tail.ErrSlotMissing)
	if err != nil && !missing {
		return err
	}
	if i.Backfill && !missing {
		return fmt.Errorf("slot %s exists already: --backfill is possible only when init creates it", slot)
	}
	_, err = led.Place(ctx)
	known := err == nil
	if err != nil && !errors.Is(err, ledger.ErrUnknownSlot) {
		return err
	}
	switch {
	case missing && known:
		return missingSlot(ctx, slot, led)
	case missing:
		return i.createSlot(ctx)
	case !known: // an earlier init got no further, or a DBA created it
		if err := ledger.Enroll(ctx, i.databases.ledger, slot, conn.Confirmed); err != nil {
			return err
		}
	}
	i.say("slot %s is ready", slot)
	return nil
}

// createSlot creates the slot, sends the rows that the outbox held before it
// if they are asked for, and enrolls it. Nothing is left of it on an error.
func (i *initializer) createSlot(ctx context.Context) error {
	source := i.databases.source
	waiting := func(whom string) { i.say("waiting for open transactions to end: %s", whom) }
	return source.CreateSlot(ctx, i.cfg.Database.ReplicationURL.Reveal(), waiting, func(start event.LSN, snapshot string) error {
		if i.Backfill {
			rows, err := source.Backfill(ctx, snapshot)
			if err != nil {
				return err
			}
			i.say("%d rows that %s held already will be sent", rows, source.Table)
		}
		if err := ledger.Enroll(ctx, i.databases.ledger, source.Slot, start); err != nil {
			return err
		}
		i.say("slot %s is ready, from %s", source.Slot, start)
		return nil
	})
}
