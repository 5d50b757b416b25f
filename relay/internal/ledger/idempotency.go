package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrOtherRequest reports that an idempotency key came with another request
// before.
var ErrOtherRequest = errors.New("the key came with another request before")

// ErrRunning reports that the first request of an idempotency key is being worked
// on, or that what became of it is not known. It is a *RefusedError.
var ErrRunning = Refused("the first request with this idempotency key is being worked on, or what became of it is not known: try again in ten minutes")

// Answer is what a request was answered with, as it was kept.
type Answer struct {
	Body   []byte // nil for a request that is new
	Sealed bool   // whether Body is encrypted
}

// A key is kept for a day. What was not answered after ten minutes will not be:
// its relay is gone, or could not tell what became of it.
const (
	sqlForgetAnswers = `DELETE FROM posthorn.idempotency WHERE key IN (
  SELECT key FROM posthorn.idempotency WHERE created_at < clock_timestamp() - interval '1 day' ORDER BY created_at LIMIT 100 FOR UPDATE SKIP LOCKED)`
	sqlBegin = `INSERT INTO posthorn.idempotency AS i (key, request) VALUES ($1, $2)
ON CONFLICT (key) DO UPDATE SET request = excluded.request, answer = NULL, sealed = false, created_at = clock_timestamp()
WHERE i.created_at < clock_timestamp() - interval '1 day' OR i.answer IS NULL AND i.created_at < clock_timestamp() - interval '10 minutes'`
	sqlAnswer = `SELECT request, answer, sealed FROM posthorn.idempotency WHERE key = $1`
)

// BeginRequest notes a request under a key, both as hashes, and returns what it was
// answered with if it came before. It returns ErrOtherRequest, or ErrRunning, for
// ten minutes also where what became of the first one is not known.
func (l *Ledger) BeginRequest(ctx context.Context, key, request []byte) (a Answer, err error) {
	if _, err := l.pool.Exec(ctx, sqlForgetAnswers); err != nil {
		return a, fmt.Errorf("forget old idempotency keys: %w", err)
	}
	noted, err := l.pool.Exec(ctx, sqlBegin, key, request)
	if err != nil {
		return a, fmt.Errorf("note an idempotency key: %w", err)
	}
	if noted.RowsAffected() > 0 {
		return a, nil
	}
	var was []byte
	err = l.pool.QueryRow(ctx, sqlAnswer, key).Scan(&was, &a.Body, &a.Sealed)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && a.Body == nil && bytes.Equal(was, request):
		return Answer{}, ErrRunning
	case err != nil:
		return Answer{}, fmt.Errorf("look up an idempotency key: %w", err)
	case !bytes.Equal(was, request):
		return Answer{}, ErrOtherRequest
	}
	return a, nil
}

// KeepAnswer keeps what the request of a key was answered with; nil forgets the
// key, so that it can be made again.
func (l *Ledger) KeepAnswer(ctx context.Context, key []byte, a Answer) error {
	var err error
	if a.Body == nil {
		_, err = l.pool.Exec(ctx, `DELETE FROM posthorn.idempotency WHERE key = $1 AND answer IS NULL`, key)
	} else {
		_, err = l.pool.Exec(ctx, `UPDATE posthorn.idempotency SET answer = $2, sealed = $3 WHERE key = $1 AND answer IS NULL`, key, a.Body, a.Sealed)
	}
	if err != nil {
		return fmt.Errorf("keep an answer for its idempotency key: %w", err)
	}
	return nil
}
