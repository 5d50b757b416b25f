package ledger

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrUnknownSession reports that there is no such session, or that it has ended.
var ErrUnknownSession = errors.New("no such session")

// Session is somebody's being logged in to the dashboard.
type Session struct {
	Hash    [sha256.Size]byte // of its cookie
	Name    string
	Role    string // when it was opened
	Tenant  string // "" for all
	Profile string // "" for none
	Via     string // how it came to be: web or portal
	Lasts   time.Duration
}

// A session ends when it was not used for so long, and the oldest of somebody's
// when they have more.
const (
	sessionIdle = 2 * time.Hour
	maxSessions = 20
)

const (
	sqlEndedSession = `(expires_at <= clock_timestamp() OR seen_at <= clock_timestamp() - $1::bigint * interval '1 microsecond')`
	sqlSweep        = `DELETE FROM posthorn.sessions WHERE ` + sqlEndedSession + ` OR hash IN (
  SELECT hash FROM posthorn.sessions WHERE via = $2 AND name = $3 AND tenant IS NOT DISTINCT FROM $4 ORDER BY created_at DESC OFFSET $5)`
	sqlOpenSession = `INSERT INTO posthorn.sessions (hash, name, role, tenant, profile, via, created_at, seen_at, expires_at)
SELECT $1, $2, $3, $4, $5, $6, at, at, at + $7::bigint * interval '1 microsecond' FROM clock_timestamp() AS at`
)

// OpenSession opens a session, as the audit will say. Sessions that have ended
// go, and so do the oldest of somebody who has too many.
func (l *Ledger) OpenSession(ctx context.Context, s Session, actor Actor) error {
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(sqlTransaction)
		b.Queue(sqlSweep, microseconds(sessionIdle), s.Via, s.Name, orNull(s.Tenant), maxSessions-1)
		b.Queue(sqlOpenSession, s.Hash[:], s.Name, s.Role, orNull(s.Tenant), orNull(s.Profile), s.Via, microseconds(s.Lasts))
		actor.queue(b, Entry{Action: "login", Subject: s.Name, Tenant: s.Tenant, Detail: map[string]any{"role": s.Role}})
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	return nil
}

// sqlSession notes at most once a minute that the session is used.
const (
	sqlSession = `SELECT name, role, coalesce(tenant, ''), coalesce(profile, ''), via, seen_at < clock_timestamp() - interval '1 minute'
FROM posthorn.sessions WHERE hash = $2 AND NOT ` + sqlEndedSession
	sqlSeen = `UPDATE posthorn.sessions SET seen_at = clock_timestamp() WHERE hash = $1`
)

// Session returns the session of a cookie's hash, which is used now, or
// ErrUnknownSession.
func (l *Ledger) Session(ctx context.Context, hash [sha256.Size]byte) (*Session, error) {
	s := &Session{Hash: hash}
	var note bool
	err := l.pool.QueryRow(ctx, sqlSession, microseconds(sessionIdle), hash[:]).Scan(&s.Name, &s.Role, &s.Tenant, &s.Profile, &s.Via, &note)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrUnknownSession
	}
	if err == nil && note {
		_, err = l.pool.Exec(ctx, sqlSeen, hash[:])
	}
	if err != nil {
		return nil, fmt.Errorf("read a session: %w", err)
	}
	return s, nil
}

const sqlCloseSession = `DELETE FROM posthorn.sessions WHERE hash = $1 RETURNING via, name, coalesce(tenant, '')`

// CloseSession ends the session of a cookie's hash, if there is one. from is
// the network address that asks.
func (l *Ledger) CloseSession(ctx context.Context, hash [sha256.Size]byte, from string) error {
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		var via, name, tenant string
		err := tx.QueryRow(ctx, sqlCloseSession, hash[:]).Scan(&via, &name, &tenant)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return Actor{Name: via + ":" + name, From: from}.record(ctx, tx, Entry{Action: "logout", Subject: name, Tenant: tenant})
	})
	if err != nil {
		return fmt.Errorf("end a session: %w", err)
	}
	return nil
}
