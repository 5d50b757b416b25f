package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/lane"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/tail"
)

// Delivery is a delivery as the ledger has it.
type Delivery = ledger.Delivery

// DeliveryDetail is all that the ledger holds of a delivery.
type DeliveryDetail = ledger.Detail

// DeliveryRequest is what is sent for a delivery, but for what is made at each
// attempt.
type DeliveryRequest = ledger.Request

// Attempt is one try of a delivery.
type Attempt = ledger.Attempt

// DeliveryState is what became of a delivery.
type DeliveryState = ledger.State

// DeliveryFilter says which deliveries are listed. A zero field matches all.
type DeliveryFilter = ledger.Filter

// ReplayState is how a replay stands.
type ReplayState = ledger.ReplayState

// Cursor is where something stands in a list.
type Cursor = ledger.Cursor

// ErrUnknownDelivery reports that no delivery of that id stands in the ledger.
var ErrUnknownDelivery = ledger.ErrUnknownDelivery

// Actor is who does something, for the audit.
type Actor = ledger.Actor

// DeliveryStates are the states that a delivery can have.
var DeliveryStates = []DeliveryState{ledger.Pending, ledger.Sending, ledger.Delivered, ledger.Failed, ledger.Skipped}

// Operator looks into the ledger and acts on deliveries and endpoints, beside a
// relay that runs or not. Use OpenOperator, and Close at the end.
type Operator struct {
	databases *databases
	ledger    *ledger.Ledger
	directory *directory
}

// OpenOperator returns an operator of the configuration's ledger. It connects
// to nothing yet, and reads no file: an operator may have none of the relay's.
func OpenOperator(cfg *config.Config) (*Operator, error) {
	d, err := openDatabases(cfg)
	if err != nil {
		return nil, err
	}
	o, err := newOperator(cfg, d)
	if err != nil {
		d.close()
	}
	return o, err
}

// newOperator returns an operator of the configuration's endpoints, and those
// that the API made, on d.
func newOperator(cfg *config.Config, d *databases) (*Operator, error) {
	dir, err := newDirectory(cfg, d)
	if err != nil {
		return nil, err
	}
	o := &Operator{databases: d, directory: dir}
	o.ledger = ledger.New(o.databases.ledger, cfg.Source.Slot, ledger.Bodies(cfg.Ledger.Bodies), slog.New(slog.DiscardHandler))
	return o, nil
}

// Close ends the operator's connections.
func (o *Operator) Close() { o.databases.close() }

// List returns the deliveries that match f, the newest event's first.
func (o *Operator) List(ctx context.Context, f DeliveryFilter) ([]Delivery, error) {
	if err := ledger.CheckVersion(ctx, o.databases.ledger); err != nil {
		return nil, hinted(err)
	}
	return o.ledger.List(ctx, f)
}

// Show returns all that the ledger holds of a delivery, or ErrUnknownDelivery.
func (o *Operator) Show(ctx context.Context, id uuid.UUID) (*DeliveryDetail, error) {
	if err := ledger.CheckVersion(ctx, o.databases.ledger); err != nil {
		return nil, hinted(err)
	}
	return o.ledger.Show(ctx, id)
}

// Retry makes a delivery, whether final or pending, due now: a running relay
// makes one more attempt within a second or two. It returns whether the
// event will be transformed and rendered again, because the ledger has no request
// of the delivery: none was rendered, or it was not kept. actor stands in the
// audit.
func (o *Operator) Retry(ctx context.Context, id uuid.UUID, actor Actor) (again bool, err error) {
	if err := o.look(ctx); err != nil {
		return false, err
	}
	return o.ledger.Retry(ctx, ledger.Retry{ID: id, Actor: actor, Endpoint: o.takesRetry, Original: o.original})
}

// look makes sure that the ledger is there, and that the directory has what
// the API made.
func (o *Operator) look(ctx context.Context) error {
	if err := ledger.CheckVersion(ctx, o.databases.ledger); err != nil {
		return hinted(err)
	}
	return hinted(o.directory.refresh(ctx))
}

// takesRetry reports whether an endpoint orders by key, or why nothing that is
// retried would be sent to it.
func (o *Operator) takesRetry(id uuid.UUID) (ordered bool, err error) {
	switch e := o.directory.get(id); {
	case e == nil:
		return false, ledger.RefusedButTold("its endpoint is gone", "its endpoint %s is not in the configuration, nor made by the API", id)
	case !e.Enabled:
		return false, ledger.Refused("its endpoint %s is disabled: enable it first", e.Name)
	default:
		return e.config.Ordering == "key", nil
	}
}

// original reads an event's row from the outbox again.
func (o *Operator) original(ctx context.Context, id uuid.UUID) (ledger.Original, error) {
	row, err := o.databases.source.Row(ctx, id)
	switch {
	case errors.Is(err, tail.ErrRowMissing):
		return ledger.Original{}, ledger.RefusedButTold("what was sent is not kept any more", "its payload was not kept (ledger.bodies), and its row is gone from the outbox")
	case err != nil:
		return ledger.Original{}, fmt.Errorf("its payload was not kept (ledger.bodies), and its row cannot be read from the outbox: %w", err)
	}
	return ledger.Original{Payload: row.Payload, Headers: row.Headers, CreatedAt: row.CreatedAt}, nil
}

// Try is one try of a delivery that goes on failing. Times are since the
// event's commit and leave out how long the tries themselves take.
type Try struct {
	Number           int           // counting from 1
	Wait             time.Duration // after the try before, without jitter
	Earliest, Latest time.Duration // with jitter
	Doubtful         bool          // made only where jitter keeps it within max_age
}

// Simulate returns the tries that a retry schedule makes, by the code that
// the relay decides with.
func Simulate(c config.Retry) []Try {
	r := lane.Retry{Schedule: c.Schedule, Jitter: c.Jitter, MaxAge: c.MaxAge}
	tries := []Try{{Number: 1}}
	for n := 1; ; n++ {
		last := tries[n-1]
		shortest, ok := r.Next(n, last.Earliest, 0, 0)
		if !ok {
			return tries
		}
		longest, within := r.Next(n, last.Latest, 0, 1)
		if !within { // it is cut off where max_age ends
			longest = max(0, c.MaxAge-last.Latest)
		}
		tries = append(tries, Try{
			Number: n + 1, Wait: c.Schedule[n-1], Doubtful: !within || last.Doubtful,
			Earliest: last.Earliest + shortest, Latest: last.Latest + longest,
		})
	}
}
