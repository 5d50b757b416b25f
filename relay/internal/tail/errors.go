package tail

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// Hint returns what mends err, be it Final or not, or "" when that is not
// known.
func Hint(err error) string {
	var foreign *ForeignSlotError
	if errors.As(err, &foreign) {
		if foreign.Database != "" {
			return "choose another source.slot"
		}
		return "choose another source.slot, or drop that slot and run posthorn init"
	}
	switch sqlState(err) {
	case "28000", "28P01":
		if replicates(err) {
			return "mend user or password in database.replication_url, by default database.url, or let pg_hba.conf admit it"
		}
		return "mend user, password or database in database.url, or pg_hba.conf"
	case "3D000":
		return "create the database or mend database.url"
	case "42501":
		return "grant the role what it lacks: posthorn init --sql prints it; replication needs ALTER ROLE … REPLICATION"
	case "55000":
		return "set wal_level = logical and restart Postgres; posthorn doctor says more"
	case "53300":
		if replicates(err) {
			return "raise max_wal_senders and restart Postgres, or end replication connections that nobody uses"
		}
		return "raise max_connections or the role's CONNECTION LIMIT, or end connections that nobody uses"
	case "53400":
		return "raise max_replication_slots and restart Postgres, or drop slots that nobody uses"
	}
	return ""
}

// replicates reports whether it was a replication connection that failed.
func replicates(err error) bool {
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) && connect.Config.RuntimeParams["replication"] != ""
}

// Final reports whether err is a matter of configuration, in Postgres or in
// ours, so that trying again is in vain until somebody mends it. Connections
// that run out are not: others end.
func Final(err error) bool {
	var foreign *ForeignSlotError
	if errors.As(err, &foreign) {
		return true
	}
	switch sqlState(err) {
	case "28000", "28P01", "3D000", "42501", "53400", "55000":
		return true
	}
	return false
}

// Transient reports whether err came of the connection or of the server's
// state, so that the same may succeed later. An error that is neither Final
// nor Transient is an answer to one statement.
func Transient(err error) bool {
	if err == nil || Final(err) {
		return false
	}
	if state := sqlState(err); state != "" {
		switch state[:min(2, len(state))] {
		case "08", "53", "57", "58", "40", "55": // connection, resources, intervention, system, rollback, lock
			return true
		}
		return false
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded) || pgconn.SafeToRetry(err)
}

// sqlState returns the SQLSTATE of err, or "".
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
