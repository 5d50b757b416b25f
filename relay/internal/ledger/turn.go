package ledger

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ErrUnknownEndpoint reports that no endpoint of that name or id stands in the
// ledger, or only one that was removed.
var ErrUnknownEndpoint = errors.New("no such endpoint")

// ErrConfigured reports that the configuration disables an endpoint, which
// operators can do nothing about.
var ErrConfigured = errors.New("it is disabled in the configuration: enable it there")

// ErrDisabled is ErrConfigured for an endpoint that the API made.
var ErrDisabled = Refused("it is disabled: enable it")

// reasonLimit is how much of a reason is kept, in bytes.
const reasonLimit = 500

// Turned is what became of an endpoint that an operator paused or resumed.
type Turned struct {
	ID      uuid.UUID     `json:"id"`
	Name    string        `json:"name"`
	Tenant  string        `json:"-"` // "" for none
	State   EndpointState `json:"state"`
	Was     EndpointState `json:"was"`
	By      string        `json:"state_by"`         // operator, relay or configuration
	Reason  string        `json:"reason,omitempty"` // of the state
	Since   time.Time     `json:"since"`            // when the state was set
	Changed bool          `json:"changed"`          // false when there was nothing to do
}

// turn is what is to become of an endpoint.
type turn struct {
	to     EndpointState
	by     string
	reason string // "" for none
	actor  Actor
}

// sqlFind prefers the name: an endpoint may be named like the id of another. Of
// those with the name it prefers the configuration's.
const sqlFind = `SELECT id, name, coalesce(tenant, ''), state, state_by, coalesce(reason, ''), state_at FROM posthorn.endpoints e
WHERE (name = $1 OR id::text = lower($1)) AND ($2 = '' OR tenant = $2) AND state <> 'removed' ORDER BY name = $1 DESC, ` + sqlMade + `, id LIMIT 1 FOR UPDATE`

// lockEndpoint returns the endpoint of this name or id, which nobody else
// turns before tx ends, or ErrUnknownEndpoint: so is for a tenant, unless it
// is "", one that is not its own.
func lockEndpoint(ctx context.Context, tx pgx.Tx, name, tenant string) (*Turned, error) {
	var e Turned
	err := tx.QueryRow(ctx, sqlFind, name, tenant).Scan(&e.ID, &e.Name, &e.Tenant, &e.State, &e.By, &e.Reason, &e.Since)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrUnknownEndpoint
	}
	e.Was = e.State
	return &e, err
}

// sqlTurn forgets the failures when the endpoint gets another chance.
const sqlTurn = `UPDATE posthorn.endpoints SET state = $2, state_by = $3, reason = $4, state_at = clock_timestamp(), updated_at = clock_timestamp(),
  failing = failing AND $2 <> 'enabled',
  failures = CASE $2 WHEN 'enabled' THEN 0 ELSE failures END,
  failing_since = CASE $2 WHEN 'enabled' THEN NULL ELSE failing_since END
WHERE id = $1 RETURNING state_at`

// standing is how an endpoint stands, for the audit.
type standing struct {
	State  EndpointState `json:"state"`
	By     string        `json:"state_by"`
	Reason string        `json:"reason,omitempty"`
}

// turn gives e another state and writes the audit.
func (e *Turned) turn(ctx context.Context, tx pgx.Tx, t turn) error {
	before := standing{e.State, e.By, e.Reason}
	e.State, e.By, e.Reason, e.Changed = t.to, t.by, clean(t.reason, reasonLimit), true
	if err := tx.QueryRow(ctx, sqlTurn, e.ID, string(e.State), e.By, orNull(e.Reason)).Scan(&e.Since); err != nil {
		return err
	}
	action := map[EndpointState]string{Enabled: "endpoint.resume", Paused: "endpoint.pause", Disabled: "endpoint.disable"}[t.to]
	return t.actor.record(ctx, tx, Entry{
		Action: action, Subject: e.ID.String(), Tenant: e.Tenant, Detail: map[string]any{"name": e.Name, "reason": orNull(e.Reason), "was": e.Was},
		Before: before, After: standing{e.State, e.By, e.Reason},
	})
}

// Pause parks the events of an endpoint, given by name or id, until it is
// resumed. One that is paused already stays as it is, unless the reason is
// another one: that replaces the reason, whoever gave it. It returns
// ErrUnknownEndpoint, or ErrConfigured or ErrDisabled for one that gets no
// events anyway.
func (l *Ledger) Pause(ctx context.Context, name, reason string, actor Actor) (*Turned, error) {
	e, err := l.act(ctx, name, actor, func(e *Turned, tx pgx.Tx) error {
		if e.State == Paused && (reason == "" || clean(reason, reasonLimit) == e.Reason) {
			return nil
		}
		return e.turn(ctx, tx, turn{to: Paused, by: byOperator, reason: reason, actor: actor})
	})
	if err != nil {
		return nil, fmt.Errorf("pause endpoint %s: %w", e.called(name), err)
	}
	return e, nil
}

// Resume lets an endpoint, given by name or id, which is paused or was
// disabled by the relay, have its events again, and forgets its failures. A
// reason, "" for none, takes the place of the one that it was held for. It
// returns ErrUnknownEndpoint, or ErrConfigured or ErrDisabled for one that is
// disabled where it is defined.
func (l *Ledger) Resume(ctx context.Context, name, reason string, actor Actor) (*Turned, error) {
	e, err := l.act(ctx, name, actor, func(e *Turned, tx pgx.Tx) error {
		if e.State == Enabled {
			return nil
		}
		return e.turn(ctx, tx, turn{to: Enabled, by: byOperator, reason: reason, actor: actor})
	})
	if err != nil {
		return nil, fmt.Errorf("resume endpoint %s: %w", e.called(name), err)
	}
	return e, nil
}

// ResumeCommand returns the command that resumes an endpoint, for a shell.
func ResumeCommand(name string) string {
	if !plainWord.MatchString(name) {
		name = "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
	}
	return "posthorn endpoints resume " + name
}

var plainWord = regexp.MustCompile(`^[\pL\pN._:/@+-]+$`)

const sqlStands = `SELECT name, state, state_by, coalesce(reason, '') FROM posthorn.endpoints WHERE id = $1 FOR NO KEY UPDATE`

// takesRetry returns why a retry of an endpoint's delivery would only be
// parked, nil when it would be made. It stays so until tx ends: what is pending for
// one that is deleted afterwards is failed with all that it has.
func takesRetry(ctx context.Context, tx pgx.Tx, endpoint uuid.UUID) error {
	var e EndpointStatus
	err := tx.QueryRow(ctx, sqlStands, endpoint).Scan(&e.Name, &e.State, &e.By, &e.Reason)
	if errors.Is(err, pgx.ErrNoRows) { // no relay ran with it yet
		return nil
	}
	if err == nil && e.State == Removed && e.Reason == reasonDeleted {
		return RefusedButTold("its endpoint was deleted", "its endpoint %s was deleted", e.Name)
	}
	if err != nil || !e.Held() {
		return err
	}
	why := ""
	if e.Reason != "" {
		why = " (" + e.Reason + ")"
	}
	told := fmt.Sprintf("its endpoint %s is %s: resume it first", e.Name, e.State)
	return RefusedButTold(told, "its endpoint %s is %s%s: resume it first: %s", e.Name, e.State, why, ResumeCommand(e.Name))
}

// act calls do with an endpoint that the actor may turn.
func (l *Ledger) act(ctx context.Context, name string, actor Actor, do func(*Turned, pgx.Tx) error) (e *Turned, err error) {
	err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlTransaction); err != nil {
			return err
		}
		if e, err = lockEndpoint(ctx, tx, name, actor.Tenant); err != nil {
			return err
		}
		if e.State == Disabled && e.By == byConfiguration {
			return e.disabled(ctx, tx)
		}
		return do(e, tx)
	})
	return e, err
}

// called returns the endpoint's name, or what it was asked for by where there is
// none.
func (e *Turned) called(asked string) string {
	if e == nil {
		return asked
	}
	return e.Name
}

const sqlIsDefined = `SELECT EXISTS (SELECT FROM posthorn.definitions WHERE id = $1)`

// disabled returns why operators can do nothing about an endpoint that is
// disabled where it is defined.
func (e *Turned) disabled(ctx context.Context, tx pgx.Tx) error {
	var defined bool
	if err := tx.QueryRow(ctx, sqlIsDefined, e.ID).Scan(&defined); err != nil {
		return err
	}
	if defined {
		return ErrDisabled
	}
	return ErrConfigured
}
