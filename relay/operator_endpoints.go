package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// EndpointStatus is an endpoint as the ledger has it.
type EndpointStatus = ledger.EndpointStatus

// TurnedEndpoint is what became of an endpoint that was paused or resumed.
type TurnedEndpoint = ledger.Turned

// ErrUnknownEndpoint reports that no endpoint has that name or id.
var ErrUnknownEndpoint = ledger.ErrUnknownEndpoint

// The states of an endpoint.
const (
	EndpointEnabled  = ledger.Enabled
	EndpointPaused   = ledger.Paused
	EndpointDisabled = ledger.Disabled
)

// ResumeCommand returns the command that resumes an endpoint, for a shell.
func ResumeCommand(name string) string { return ledger.ResumeCommand(name) }

// Endpoints returns the endpoints by name: those that the ledger knows, of
// the removed ones only if removed is true, and those of the configuration
// that no relay ran with yet.
func (o *Operator) Endpoints(ctx context.Context, removed bool) ([]EndpointStatus, error) {
	return o.endpointsOf(ctx, "", removed)
}

// endpointsOf is Endpoints for those of a tenant, unless that is "": it asks of no
// others.
func (o *Operator) endpointsOf(ctx context.Context, tenant string, removed bool) ([]EndpointStatus, error) {
	if err := o.look(ctx); err != nil {
		return nil, err
	}
	list, err := o.ledger.Endpoints(ctx, tenant, removed)
	if err != nil {
		return nil, err
	}
	known := make(map[uuid.UUID]bool, len(list))
	for i := range list {
		known[list[i].ID] = true
	}
	for _, ep := range o.directory.all(tenant) {
		if !known[ep.ID] {
			list = append(list, ep.Status())
		}
	}
	slices.SortStableFunc(list, func(a, b EndpointStatus) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Pause parks the events of an endpoint, given by name or id, until it is
// resumed; a running relay notices within a second or two. One that is paused
// already stays as it is, but for the reason if that is another one; "" is no
// reason. actor stands in the audit.
func (o *Operator) Pause(ctx context.Context, name, reason string, actor Actor) (*TurnedEndpoint, error) {
	return o.turn(ctx, name, actor, func(name string) (*TurnedEndpoint, error) { return o.ledger.Pause(ctx, name, reason, actor) })
}

// Resume lets an endpoint, given by name or id, which is paused or answered
// 410 Gone, have its events again, and forgets its failures. One that is
// enabled stays as it is. reason, "" for none, and actor stand in the audit.
func (o *Operator) Resume(ctx context.Context, name, reason string, actor Actor) (*TurnedEndpoint, error) {
	return o.turn(ctx, name, actor, func(name string) (*TurnedEndpoint, error) { return o.ledger.Resume(ctx, name, reason, actor) })
}

// turn calls do, for an endpoint of the configuration that no relay ran with
// yet once it is known to the ledger.
func (o *Operator) turn(ctx context.Context, name string, actor Actor, do func(name string) (*TurnedEndpoint, error)) (*TurnedEndpoint, error) {
	if err := o.look(ctx); err != nil {
		return nil, err
	}
	e, err := o.directory.find(name, actor.Tenant)
	switch {
	case err == nil: // other tenants' may have the name
		name = e.ID.String()
	case err != nil && (!errors.Is(err, ErrUnknownEndpoint) || actor.Tenant != ""):
		return nil, o.unknown(ctx, actor.Tenant, err)
	}
	turned, err := do(name) // of the configuration, or of one that a relay runs with
	switch {
	case !errors.Is(err, ErrUnknownEndpoint):
		return turned, err
	case e == nil:
		return nil, o.unknown(ctx, actor.Tenant, err)
	}
	if err := o.ledger.Enlist(ctx, e.Endpoint); err != nil {
		return nil, err
	}
	return do(name)
}

// manyNames bounds how many names an error lists.
const manyNames = 10

// unknown adds to ErrUnknownEndpoint which endpoints there are, of a tenant
// unless that is "".
func (o *Operator) unknown(ctx context.Context, tenant string, err error) error {
	if !errors.Is(err, ErrUnknownEndpoint) {
		return err
	}
	list, listErr := o.named(ctx, tenant)
	switch n := len(list); {
	case listErr != nil:
		return err
	case n == 0:
		return fmt.Errorf("%w: there is none", err)
	default:
		names := make([]string, min(n, manyNames))
		for i := range names {
			names[i] = list[i].Name
		}
		more := ""
		if n > manyNames {
			more = fmt.Sprintf(" and %d more", n-manyNames)
		}
		return fmt.Errorf("%w: there are %s%s", err, strings.Join(names, ", "), more)
	}
}

// named returns the endpoints of a tenant, all for "", by name, without asking
// how they do.
func (o *Operator) named(ctx context.Context, tenant string) ([]ledger.Endpoint, error) {
	if err := o.look(ctx); err != nil {
		return nil, err
	}
	var list []ledger.Endpoint
	for _, e := range o.directory.all(tenant) {
		list = append(list, e.Endpoint)
	}
	slices.SortFunc(list, func(a, b ledger.Endpoint) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}
