package relay

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/tail"
)

// InitSQL returns what Init does as SQL for psql, one statement after the
// other and not in one transaction, with the least privileges that role, the
// relay's, needs. It is for new databases: it does not look what exists.
func InitSQL(cfg *config.Config, role string) string {
	var (
		b     strings.Builder
		table = tail.ParseTable(cfg.Source.Table)
		own   = cfg.Source.Table == ownTable
		relay = pgx.Identifier{role}.Sanitize()
		p     = func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	)
	p(`-- What posthorn init does, for psql -v ON_ERROR_STOP=1, in the order of the
-- statements and outside a transaction.`)
	p("\n-- PART 1: the database of database.url\n")
	p("-- The relay's role, if it is not there yet:")
	p("-- CREATE ROLE %s LOGIN REPLICATION PASSWORD 'choose one';\n", relay)
	if own {
		p("%s", outbox.Schema())
		p("-- The role of the application, which only publishes:")
		p("-- GRANT USAGE ON SCHEMA posthorn TO app;")
		p("-- GRANT INSERT ON posthorn.outbox TO app;")
		p("-- GRANT EXECUTE ON FUNCTION posthorn.publish, posthorn.uuid_v7 TO app;\n")
	}
	p("GRANT USAGE ON SCHEMA %s TO %s;", pgx.Identifier{table.Schema}.Sanitize(), relay)
	p("GRANT SELECT, DELETE ON %s TO %s;\n", table.SQL(), relay)
	p("%s;", tail.PublicationSQL(cfg.Source.Publication, table))
	p("-- Waits for every transaction that is open now to end:")
	p("SELECT pg_create_logical_replication_slot('%s', 'pgoutput');", cfg.Source.Slot)

	separate := cfg.Ledger.URL != cfg.Database.URL
	if separate {
		p("\n-- PART 2: the database of ledger.url\n")
		p("-- The relay's role, if it is not there yet:")
		p("-- CREATE ROLE %s LOGIN PASSWORD 'choose one';\n", relay)
	} else {
		p("\n-- PART 2: the ledger, in the same database\n")
	}
	if separate || !own {
		p("CREATE SCHEMA IF NOT EXISTS posthorn;\n")
	}
	p("%s", ledger.SchemaSQL())
	p("GRANT USAGE ON SCHEMA posthorn TO %s;", relay)
	p("GRANT SELECT, INSERT, UPDATE ON posthorn.relay, posthorn.endpoints TO %s;", relay)
	p("GRANT SELECT, INSERT, UPDATE, DELETE ON posthorn.payloads, posthorn.pending, posthorn.deliveries, posthorn.sessions TO %s;", relay)
	p("GRANT SELECT, INSERT ON posthorn.attempts, posthorn.audit, posthorn.stats TO %s;", relay)
	p("GRANT SELECT, INSERT, UPDATE ON posthorn.definitions TO %s;", relay)
	p("GRANT SELECT, INSERT, UPDATE, DELETE ON posthorn.idempotency, posthorn.replays TO %s;", relay)
	p("GRANT SELECT ON posthorn.goose_db_version TO %s;", relay)
	p("GRANT EXECUTE ON FUNCTION posthorn.advance, posthorn.ensure_partition, posthorn.drop_partitions, posthorn.summarize TO %s;\n", relay)
	if separate {
		p("-- At last run posthorn init as the relay's role: it makes the slot known to the\n-- ledger, and finds everything else done.")
	} else {
		p("-- The slot's start, which the relay goes on from:")
		p("INSERT INTO posthorn.relay (slot, flushed_lsn)\n  SELECT slot_name, confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '%s';", cfg.Source.Slot)
	}
	return b.String()
}
