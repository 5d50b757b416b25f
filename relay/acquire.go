package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/tail"
)

// OutOfStepError reports that slot and ledger do not belong together any more:
// delivering would lose or repeat events. An operator has to decide.
type OutOfStepError struct {
	What string // what was found
	Mend string // what to do
}

func (e *OutOfStepError) Error() string { return e.What + "; " + e.Mend }

// errTakenOver ends a session whose slot another relay has.
var errTakenOver = errors.New("another relay took over")

// The waits between tries while Postgres is not reachable.
const (
	firstReconnect = 100 * time.Millisecond
	lastReconnect  = 5 * time.Second
	sayAgain       = 30 * time.Second
)

// standbyEvery is how often a standby looks whether the slot is free; the wait
// is spread so that standbys do not ask at once.
const standbyEvery = time.Second

// acquire waits until the slot is ours and returns a session that is ready to
// run. Errors are those that trying again cannot mend.
func (r *Relay) acquire(ctx context.Context) (*session, error) {
	var s *session
	err := r.untilConnected(ctx, func() error {
		led := r.newLedger()
		columns, err := r.checkDatabases(ctx)
		if err != nil {
			return err
		}
		conn, err := r.connect(ctx, led)
		if err != nil {
			return err
		}
		if s, err = r.newSession(ctx, led, conn, columns); err != nil {
			conn.Close()
		}
		return err
	})
	return s, err
}

func (r *Relay) newLedger() *ledger.Ledger {
	return ledger.New(r.databases.ledger, r.cfg.Source.Slot, ledger.Bodies(r.cfg.Ledger.Bodies), r.logger)
}

// untilConnected repeats try until it succeeds or fails for good, waiting
// while another relay holds the slot or Postgres is not reachable.
func (r *Relay) untilConnected(ctx context.Context, try func() error) error {
	wait := firstReconnect
	var said time.Time
	for {
		err := try()
		var active *tail.ActiveError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &active):
			if err := r.standBy(ctx, active); err != nil {
				return err
			}
			wait = firstReconnect
			continue
		case final(err):
			return hinted(err)
		}
		if time.Since(said) > sayAgain {
			said = time.Now()
			r.logger.LogAttrs(ctx, slog.LevelWarn, "Postgres cannot be used, trying again", slog.Any("err", hinted(err)))
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, lastReconnect)
	}
}

// finalError marks an error that trying again cannot mend.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

func final(err error) bool {
	var f finalError
	var step *OutOfStepError
	return errors.As(err, &f) || errors.As(err, &step) || errors.Is(err, errTakenOver) || tail.Final(err)
}

// hinted adds to err what mends it, where that is known.
func hinted(err error) error {
	if hint := tail.Hint(err); hint != "" {
		return fmt.Errorf("%w: %s", err, hint)
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// standBy returns when the slot looks free.
func (r *Relay) standBy(ctx context.Context, active *tail.ActiveError) error {
	if r.role.Swap(admin.RoleStandby) != admin.RoleStandby {
		r.logger.LogAttrs(ctx, slog.LevelInfo, "another relay holds the slot, waiting to take over", slog.String("slot", active.Slot), slog.Any("err", active.Err))
	}
	for {
		spread := time.Duration(rand.Int64N(int64(standbyEvery / 2)))
		if err := pause(ctx, standbyEvery/2+spread); err != nil {
			return err
		}
		// After an error, too, the next try says what is wrong.
		status, err := r.databases.source.SlotStatus(ctx)
		if held := err == nil && status.Active; !held {
			return nil
		}
	}
}

// checkDatabases returns the outbox's columns, or what is wrong with the
// databases. Only the server's own words are final: it may be starting.
func (r *Relay) checkDatabases(ctx context.Context) (tail.Columns, error) {
	source := r.databases.source
	if err := source.Pool.Ping(ctx); err != nil {
		return tail.Columns{}, err
	}
	if err := r.databases.ledger.Ping(ctx); err != nil {
		return tail.Columns{}, err
	}
	checks := []func(context.Context) error{
		source.CheckLogical,
		source.CheckPrivilege,
		func(ctx context.Context) error { return ledger.CheckVersion(ctx, r.databases.ledger) },
		source.CheckPublication,
		func(ctx context.Context) error { return r.keys.check(ctx, r.newLedger()) },
	}
	for _, check := range checks {
		if err := check(ctx); err != nil {
			return tail.Columns{}, finalUnlessLost(err)
		}
	}
	columns, err := source.Columns(ctx)
	return columns, finalUnlessLost(err)
}

// finalUnlessLost marks err as final when it is a finding about the database,
// not the loss of the connection to it.
func finalUnlessLost(err error) error {
	if err == nil || tail.Transient(err) {
		return err
	}
	return finalError{err}
}

// connect opens the stream from where the ledger stands, after it made sure
// that slot and ledger belong together.
func (r *Relay) connect(ctx context.Context, led *ledger.Ledger) (*tail.Conn, error) {
	conn, err := tail.Connect(ctx, r.cfg.Database.ReplicationURL.Reveal(), r.cfg.Source.Slot)
	if errors.Is(err, tail.ErrSlotMissing) {
		return nil, missingSlot(ctx, r.cfg.Source.Slot, led)
	}
	if err != nil {
		return nil, err
	}
	// The slot was read before the ledger: the ledger is always ahead of it.
	place, err := led.Place(ctx)
	if err == nil {
		err = compare(r.cfg.Source.Slot, conn, place)
	} else if errors.Is(err, ledger.ErrUnknownSlot) {
		err = finalError{fmt.Errorf("slot %s exists but the ledger does not know it: run posthorn init", r.cfg.Source.Slot)}
	}
	if err == nil {
		err = conn.Start(ctx, place.Flushed, r.cfg.Source.Publication)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// missingSlot says what it means that slot does not exist: an OutOfStepError
// when the ledger knows it.
func missingSlot(ctx context.Context, slot string, led *ledger.Ledger) error {
	place, err := led.Place(ctx)
	switch {
	case errors.Is(err, ledger.ErrUnknownSlot):
		return finalError{fmt.Errorf("slot %s does not exist: run posthorn init", slot)}
	case err != nil:
		return err
	}
	return &OutOfStepError{
		What: fmt.Sprintf("slot %s is missing although the ledger knows it up to %s: it was dropped, or a failover lost it, and events that were written since are not in any stream", slot, place.Flushed),
		Mend: "posthorn uninstall followed by posthorn init starts anew from now; compare the outbox with posthorn.deliveries for what lies between",
	}
}

// compare returns an OutOfStepError unless the slot's stream goes on where the
// ledger stands.
func compare(slot string, conn *tail.Conn, place ledger.Place) error {
	const mend = "if you are sure, posthorn uninstall followed by posthorn init starts anew from now"
	switch {
	case conn.Lost:
		return &OutOfStepError{What: fmt.Sprintf("Postgres removed WAL that slot %s needs (max_slot_wal_keep_size): events are missing from its stream", slot), Mend: mend}
	case place.SystemID != "" && place.SystemID != conn.SystemID:
		return &OutOfStepError{
			What: fmt.Sprintf("this is another database system (%s) than the one the ledger belongs to (%s): a clone or a restored copy, whose events may be another's", conn.SystemID, place.SystemID),
			Mend: mend,
		}
	case place.SystemID != "" && place.Timeline != conn.Timeline:
		return &OutOfStepError{What: fmt.Sprintf("the server is on timeline %d, the ledger on %d: a failover or restore happened, and the slot may have skipped events", conn.Timeline, place.Timeline), Mend: mend}
	case conn.Confirmed > place.Flushed:
		return &OutOfStepError{What: fmt.Sprintf("slot %s is confirmed up to %s, ahead of the ledger at %s: it was recreated or advanced by somebody else, and what lies between was not delivered", slot, conn.Confirmed, place.Flushed), Mend: mend}
	}
	return nil
}
