package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// ErrUnknownReplay reports that there is no replay of that id.
var ErrUnknownReplay = errors.New("no such replay")

// The bounds of replays.
const (
	replayCounted = 100_000               // how far deliveries are counted
	previewWithin = 75 * time.Millisecond // and about how long, for a preview
	startWithin   = 2 * time.Second       // and for a replay
	maxReplays    = 20                    // that run at once
	maxOwnReplays = 2                     // of those a tenant's
	defaultRate   = 100                   // deliveries a second
	MaxReplayRate = 1000                  // deliveries a second
)

// ReplayRequest says which deliveries are made again. A zero field matches all.
type ReplayRequest struct {
	States   []State   `json:"states,omitempty"`   // pending ones become due now
	Endpoint string    `json:"endpoint,omitempty"` // name or id, as it was given
	Tenant   string    `json:"tenant,omitempty"`   // the event's
	Type     string    `json:"type,omitempty"`
	Event    uuid.UUID `json:"event,omitzero"`
	From     time.Time `json:"from,omitzero"`    // committed at this time or later
	Until    time.Time `json:"until,omitzero"`   // committed before; by default until the request
	NewIDs   bool      `json:"new_ids,omitzero"` // copies under new ids, beside those that are
	Rate     int       `json:"rate,omitempty"`   // deliveries a second; by default 100
	Scope    string    `json:"scope,omitempty"`  // the tenant of the endpoints, and of the events

	// EndpointID is whose name or id Endpoint was when the replay began: names change.
	EndpointID uuid.UUID `json:"endpoint_id,omitzero"`
}

// EndpointRef returns what to look the endpoint up by, "" for all of them.
func (r *ReplayRequest) EndpointRef() string {
	if r.EndpointID != uuid.Nil {
		return r.EndpointID.String()
	}
	return r.Endpoint
}

// ReplayPreview is how many deliveries a request is about, counted up to a bound,
// and for a moment.
type ReplayPreview struct {
	Total     int64
	More      bool            // there are more than were counted
	Endpoints []EndpointCount // the most first
}

// EndpointCount is how many deliveries there are of an endpoint.
type EndpointCount struct {
	Endpoint string // name
	Count    int64
}

// ReplayState is how far a replay is.
type ReplayState string

// The states of a replay.
const (
	ReplayRunning   ReplayState = "running"
	ReplayDone      ReplayState = "done"
	ReplayCancelled ReplayState = "cancelled"
	ReplayFailed    ReplayState = "failed" // Error says why
)

// Replay is a job of the active relay's.
type Replay struct {
	ID         uuid.UUID
	Request    ReplayRequest
	State      ReplayState
	Total      int64      // deliveries that it was about when it began, counted up to a bound
	TotalMore  bool       // there are more than were counted
	Done       int64      // deliveries that are pending again
	Skipped    int64      // that could not be
	At         *time.Time // commit time of the newest one that it has come to; nil before the first
	CreatedAt  time.Time
	CreatedBy  string
	FinishedAt *time.Time
	Error      string

	Listed    bool       // it came to the last delivery: what is left are rows of the outbox
	RowsUntil *time.Time // the rows of the outbox before this one are looked at too; nil for none
	RowsAt    *time.Time // up to which they were
}

// search returns what finds the request's deliveries. What is not final has no
// copy made of it.
func (r *ReplayRequest) search(limit int) *search {
	return &search{finals: r.NewIDs, Filter: Filter{
		States: r.States, Endpoint: r.EndpointRef(), Tenant: r.Tenant, Type: r.Type, Event: r.Event, From: r.From, Until: r.Until, Scope: r.Scope, Limit: limit,
	}}
}

// PreviewReplay counts the deliveries that a request is about.
func (l *Ledger) PreviewReplay(ctx context.Context, r ReplayRequest) (*ReplayPreview, error) {
	return l.preview(ctx, r, previewWithin)
}

// preview counts for about as long as it is given.
func (l *Ledger) preview(ctx context.Context, r ReplayRequest, within time.Duration) (*ReplayPreview, error) {
	var p ReplayPreview
	err := l.searching(ctx, func(s *searcher) error {
		c, err := s.count(ctx, r.search(replayCounted+1), within)
		if err != nil {
			return err
		}
		p.Total, p.More = int64(min(c.total, replayCounted)), c.more
		p.Endpoints, err = s.byName(ctx, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count deliveries: %w", err)
	}
	return &p, nil
}

const sqlStartReplay = `INSERT INTO posthorn.replays (id, request, tenant, total, total_more, created_by, rows_until)
SELECT $1, $2, $3, $4, $5, $6, $8 WHERE (SELECT count(*) FROM posthorn.replays WHERE state = 'running') < $7
  AND ($3::text IS NULL OR (SELECT count(*) FROM posthorn.replays WHERE state = 'running' AND tenant = $3) < $9)`

// sqlLockReplays is taken while one begins: those that run are counted.
const sqlLockReplays = `SELECT pg_advisory_xact_lock(hashtext('posthorn.replays'))`

// missed returns before which row of the outbox events had no delivery to the
// request's endpoint, because it was made later: its first delivery's, or the
// end of the request. It is nil where they are not asked for.
func (l *Ledger) missed(ctx context.Context, r *ReplayRequest) (until *time.Time, err error) {
	if r.Endpoint == "" || r.NewIDs || !slices.Contains(r.States, Delivered) {
		return nil, nil
	}
	first := &search{Filter: Filter{Endpoint: r.EndpointRef(), Scope: r.Scope, Until: r.Until, Limit: 1}, forwards: true}
	err = l.searching(ctx, func(s *searcher) error {
		found, err := s.find(ctx, first)
		if until = &r.Until; len(found) > 0 {
			until = &found[0].CreatedAt
		}
		return err
	})
	return until, err
}

// StartReplay makes a job of a request, which the active relay takes up. What
// commits afterwards is not in it. It is a *RefusedError when too many run.
//
// Where what was delivered to one endpoint is made again, so is what is still in
// the outbox from before that endpoint had deliveries. That is not counted ahead.
func (l *Ledger) StartReplay(ctx context.Context, r ReplayRequest, actor Actor) (*Replay, error) {
	p, err := l.preview(ctx, r, startWithin)
	if err != nil {
		return nil, err
	}
	var now time.Time
	if err := l.pool.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return nil, fmt.Errorf("start a replay: %w", err)
	}
	if r.Until.IsZero() || r.Until.After(now) {
		r.Until = now
	}
	until, err := l.missed(ctx, &r)
	if err != nil {
		return nil, fmt.Errorf("start a replay: find the endpoint's first delivery: %w", err)
	}
	id := uuid.New()
	err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if r.Rate == 0 {
			r.Rate = defaultRate
		}
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sqlLockReplays); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, sqlStartReplay, id, string(text), orNull(r.Scope), p.Total, p.More, actor.Name, maxReplays, until, maxOwnReplays)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 && r.Scope != "" {
			return Refused("as many replays run already as may, %d of them of one tenant: wait, or cancel one", maxOwnReplays)
		}
		if tag.RowsAffected() == 0 {
			return Refused("%d replays run already: wait, or cancel one", maxReplays)
		}
		tenant, err := r.whose(ctx, tx)
		if err != nil {
			return err
		}
		return actor.record(ctx, tx, Entry{
			Action: "replay.start", Subject: id.String(), Tenant: tenant, Detail: map[string]any{"request": json.RawMessage(text), "deliveries": p.Total, "more": p.More},
		})
	})
	if err != nil {
		return nil, fmt.Errorf("start a replay: %w", err)
	}
	return l.Replay(ctx, id, r.Scope)
}

const (
	replayColumns = `SELECT id, request, state, total, total_more, done, skipped, at, at_id, created_at, created_by, finished_at, coalesce(error, ''), listed, rows_until, rows_at FROM posthorn.replays `
	sqlReplay     = replayColumns + `WHERE id = $1 AND ($2 = '' OR tenant = $2)`
	sqlReplays    = replayColumns + `WHERE ($1 = '' OR tenant = $1) AND (created_at, id) < ($2, $3) ORDER BY created_at DESC, id DESC LIMIT $4`
	sqlRunning    = replayColumns + `WHERE state = 'running' ORDER BY created_at, id`
)

func scanReplay(row pgx.CollectableRow) (r Replay, err error) {
	_, err = scanReplayAt(row, &r)
	return r, err
}

// scanReplayAt returns where the replay stands, too.
func scanReplayAt(row pgx.Row, r *Replay) (at Cursor, err error) {
	var id *uuid.UUID
	var request []byte
	err = row.Scan(&r.ID, &request, &r.State, &r.Total, &r.TotalMore, &r.Done, &r.Skipped, &r.At, &id, &r.CreatedAt, &r.CreatedBy, &r.FinishedAt, &r.Error, &r.Listed, &r.RowsUntil, &r.RowsAt)
	if err != nil {
		return at, err
	}
	if r.At != nil && id != nil {
		at = Cursor{CreatedAt: *r.At, ID: *id}
	}
	if err := json.Unmarshal(request, &r.Request); err != nil {
		return at, fmt.Errorf("decode the request of replay %s: %w", r.ID, err)
	}
	return at, nil
}

// replayAt returns a replay and the last delivery that it came to.
func (l *Ledger) replayAt(ctx context.Context, id uuid.UUID) (*Replay, Cursor, error) {
	var r Replay
	at, err := scanReplayAt(l.pool.QueryRow(ctx, sqlReplay, id, ""), &r)
	return &r, at, err
}

// Replay returns a replay, or ErrUnknownReplay. A scope lets it be one of that
// tenant's only.
func (l *Ledger) Replay(ctx context.Context, id uuid.UUID, scope string) (*Replay, error) {
	var r Replay
	_, err := scanReplayAt(l.pool.QueryRow(ctx, sqlReplay, id, scope), &r)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrUnknownReplay
	}
	if err != nil {
		return nil, fmt.Errorf("replay %s: %w", id, err)
	}
	return &r, nil
}

// Replays returns replays, the newest first: those that a list has after before,
// at most limit of them, and of a tenant's only with a scope.
func (l *Ledger) Replays(ctx context.Context, limit int, before Cursor, scope string) ([]Replay, error) {
	at := pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}
	if before != (Cursor{}) {
		at = pgtype.Timestamptz{Time: before.CreatedAt, Valid: true}
	}
	rows, err := l.pool.Query(ctx, sqlReplays, scope, at, before.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("list replays: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanReplay)
	if err != nil {
		return nil, fmt.Errorf("list replays: %w", err)
	}
	return list, nil
}

// RunningReplays returns the replays that are not over, the oldest first.
func (l *Ledger) RunningReplays(ctx context.Context) ([]Replay, error) {
	rows, err := l.pool.Query(ctx, sqlRunning)
	if err != nil {
		return nil, fmt.Errorf("look for replays: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanReplay)
	if err != nil {
		return nil, fmt.Errorf("look for replays: %w", err)
	}
	return list, nil
}

const sqlCancelReplay = `UPDATE posthorn.replays SET state = 'cancelled', finished_at = clock_timestamp() WHERE id = $1 AND state = 'running' AND ($2 = '' OR tenant = $2) RETURNING request`

// sqlWhose is for no row where endpoints of several tenants have the name.
const sqlWhose = `SELECT min(coalesce(e.tenant, '')) FROM posthorn.endpoints e WHERE ` + sqlNamed + ` HAVING count(DISTINCT coalesce(e.tenant, '')) = 1`

// whose returns the tenant whose deliveries alone a request is about; "" for none.
func (r *ReplayRequest) whose(ctx context.Context, tx pgx.Tx) (tenant string, err error) {
	if r.Scope != "" {
		return r.Scope, nil
	}
	if r.Endpoint == "" {
		return r.Tenant, nil
	}
	err = tx.QueryRow(ctx, sqlWhose, r.Endpoint, "").Scan(&tenant)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return tenant, err
}

// CancelReplay ends a replay where it is. One that is over stays as it is. It
// returns ErrUnknownReplay, also for one of another scope.
func (l *Ledger) CancelReplay(ctx context.Context, id uuid.UUID, scope string, actor Actor) (*Replay, error) {
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		var text []byte
		err := tx.QueryRow(ctx, sqlCancelReplay, id, scope).Scan(&text)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		var request ReplayRequest
		if err == nil {
			err = json.Unmarshal(text, &request)
		}
		if err != nil {
			return err
		}
		tenant, err := request.whose(ctx, tx)
		if err != nil {
			return err
		}
		return actor.record(ctx, tx, Entry{Action: "replay.cancel", Subject: id.String(), Tenant: tenant})
	})
	if err != nil {
		return nil, fmt.Errorf("cancel replay %s: %w", id, err)
	}
	return l.Replay(ctx, id, scope)
}

const sqlReplayFailed = `UPDATE posthorn.replays SET error = $2,
  state = CASE WHEN $3 THEN 'failed' ELSE state END, finished_at = CASE WHEN $3 THEN clock_timestamp() END WHERE id = $1 AND state = 'running'
  AND EXISTS (SELECT FROM posthorn.relay WHERE slot = $4 AND epoch = $5)`

// ReplayFailed records why a replay does not go on: for good where Postgres
// refuses its data, else until a later step.
func (l *Ledger) ReplayFailed(ctx context.Context, id uuid.UUID, why error) error {
	if _, err := l.pool.Exec(ctx, sqlReplayFailed, id, clean(why.Error(), errorLimit), refusedForData(why), l.slot, l.epoch.Load()); err != nil {
		return fmt.Errorf("record why replay %s does not go on: %w", id, err)
	}
	return nil
}

// ForgetReplays removes the replays that ended longer than retention ago.
func (l *Ledger) ForgetReplays(ctx context.Context, retention time.Duration) error {
	_, err := l.pool.Exec(ctx, `DELETE FROM posthorn.replays WHERE finished_at < now() - $1 * interval '1 microsecond'`, microseconds(retention))
	if err != nil {
		return fmt.Errorf("remove old replays: %w", err)
	}
	return nil
}
