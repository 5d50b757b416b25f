package relay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/tail"
)

// maxDocument bounds an endpoint's document, in bytes.
const maxDocument = 64 << 10

// maxOfTenant bounds how many endpoints a tenant makes.
const maxOfTenant = 100

// What is done to definitions, as the audit calls it. It shows their documents.
const (
	actionCreate = "endpoint.create"
	actionEdit   = "endpoint.edit"
	actionRotate = "endpoint.rotate"
	actionDelete = "endpoint.delete"
)

var definingActions = []string{actionCreate, actionEdit, actionRotate, actionDelete}

// lookUp returns the endpoint that somebody names, and the operator that knows
// it.
func (c *control) lookUp(ctx context.Context, who *admin.Caller, name string) (*Operator, *entry, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, nil, err
	}
	if err := o.look(ctx); err != nil {
		return nil, nil, err
	}
	e, err := o.directory.find(name, who.Tenant)
	return o, e, err
}

// Endpoint implements admin.Control.
func (c *control) Endpoint(ctx context.Context, who *admin.Caller, name string) (*admin.EndpointDetail, error) {
	o, e, err := c.lookUp(ctx, who, name)
	if err != nil {
		return nil, err
	}
	return o.detail(ctx, who, e)
}

// detail returns all about an endpoint that is for who to see.
func (o *Operator) detail(ctx context.Context, who *admin.Caller, e *entry) (*admin.EndpointDetail, error) {
	status, err := o.ledger.EndpointStatus(ctx, e.ID)
	if errors.Is(err, ErrUnknownEndpoint) {
		unknown := e.Status()
		status, err = &unknown, nil
	}
	if err != nil {
		return nil, err
	}
	d := &admin.EndpointDetail{
		EndpointStatus: *status, HasSecret: e.config.Secret != "", PublicKey: publicKey(e.config.Secret), Patterns: append([]string{}, patterns(e.config)...),
	}
	for _, p := range e.config.PreviousSecrets {
		if p.Expires.After(time.Now()) {
			d.PreviousSecrets = append(d.PreviousSecrets, p.Expires)
		}
	}
	if made := e.defined; made != nil {
		r := &made.record
		d.Origin, d.Revision, d.CreatedAt, d.UpdatedAt, d.CreatedBy, d.Broken = ledger.OfAPI, r.Revision, &r.CreatedAt, &r.UpdatedAt, r.CreatedBy, made.broken
		d.Document, d.Effective = r.Document, o.directory.cfg.ShowDocument(e.config, r.Document)
	} else {
		d.Document, d.Effective = o.directory.cfg.ShowEndpoint(e.index)
	}
	if who.Tenant != "" {
		d.Document, d.Effective = forTenant(d.Document), forTenant(d.Effective)
		if d.CreatedBy != "" && !shownToTenants(d.CreatedBy) {
			d.CreatedBy = someOperator
		}
		if d.Broken != "" { // it may tell of the configuration
			d.Broken = notUsable
		}
	}
	return d, nil
}

// notUsable is what tenants' callers learn of an endpoint that is broken.
const notUsable = "it does not fit the relay's configuration any more: whoever runs the relay can mend that"

// publicKey returns the public key of an Ed25519 key in Standard Webhooks' form,
// in the same form; "" for another secret.
func publicKey(secret config.Secret) string {
	encoded, ok := strings.CutPrefix(secret.Reveal(), "whsk_")
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if !ok || err != nil || len(key) < ed25519.SeedSize {
		return ""
	}
	public, ok := ed25519.NewKeyFromSeed(key[:ed25519.SeedSize]).Public().(ed25519.PublicKey)
	if !ok {
		return ""
	}
	return "whpk_" + base64.StdEncoding.EncodeToString(public)
}

// CreateEndpoint implements admin.Control.
func (c *control) CreateEndpoint(ctx context.Context, who *admin.Caller, document json.RawMessage) (*admin.NewSecret, error) {
	o, cfg, err := c.operator()
	if err != nil {
		return nil, err
	}
	if err := o.look(ctx); err != nil {
		return nil, err
	}
	made, secret, err := draftNew(cfg, who, document)
	if err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	d, err := c.redefine(ctx, o, who, ledger.Redefinition{
		ID: id, New: true, Action: actionCreate,
		Decide: func(context.Context, *ledger.Definition) (*ledger.Redefined, error) {
			return o.directory.redefined(who, id, nil, made)
		},
	})
	if err != nil {
		return nil, err
	}
	return &admin.NewSecret{EndpointDetail: *d, Secret: secret}, nil
}

// errSame ends a change that changes nothing.
var errSame = errors.New("nothing changes")

// EditEndpoint implements admin.Control.
func (c *control) EditEndpoint(ctx context.Context, who *admin.Caller, name string, patch json.RawMessage, revision int64) (*admin.EndpointDetail, error) {
	o, e, err := c.lookUpOwn(ctx, who, name)
	if err != nil {
		return nil, err
	}
	return c.redefine(ctx, o, who, ledger.Redefinition{
		ID: e.ID, Action: actionEdit,
		Decide: func(_ context.Context, was *ledger.Definition) (*ledger.Redefined, error) {
			if revision != 0 && revision != was.Revision {
				return nil, ledger.ErrChanged
			}
			before, err := o.directory.draftOf(was)
			if err != nil {
				return nil, err
			}
			after, err := before.patched(o.directory.cfg, who, patch)
			if err != nil {
				return nil, err
			}
			if bytes.Equal(before.document, after.document) {
				return nil, errSame
			}
			return o.directory.redefined(who, e.ID, before, after)
		},
	})
}

// RotateSecret implements admin.Control.
func (c *control) RotateSecret(ctx context.Context, who *admin.Caller, name string, r admin.Rotation) (*admin.NewSecret, error) {
	o, e, err := c.lookUpOwn(ctx, who, name)
	if err != nil {
		return nil, err
	}
	made := ""
	d, err := c.redefine(ctx, o, who, ledger.Redefinition{
		ID: e.ID, Action: actionRotate,
		Decide: func(_ context.Context, was *ledger.Definition) (*ledger.Redefined, error) {
			before, err := o.directory.draftOf(was)
			if err != nil {
				return nil, err
			}
			after, secret, err := before.rotated(o.directory.cfg, r, time.Now())
			if err != nil {
				return nil, err
			}
			made = secret
			return o.directory.redefined(who, e.ID, before, after)
		},
	})
	if err != nil {
		return nil, err
	}
	return &admin.NewSecret{EndpointDetail: *d, Secret: made}, nil
}

// DeleteEndpoint implements admin.Control.
func (c *control) DeleteEndpoint(ctx context.Context, who *admin.Caller, name string) error {
	o, e, err := c.lookUpOwn(ctx, who, name)
	if err != nil {
		return err
	}
	return c.commit(ctx, o, who, ledger.Redefinition{
		ID: e.ID, Action: actionDelete,
		Decide: func(_ context.Context, was *ledger.Definition) (*ledger.Redefined, error) {
			return &ledger.Redefined{Name: was.Name, Tenant: was.Tenant, URL: e.URL, Deleted: true, Document: []byte("{}"), Before: was.Document}, nil
		},
	})
}

// CheckEndpoint implements admin.Control.
func (c *control) CheckEndpoint(ctx context.Context, who *admin.Caller, name string, document json.RawMessage) error {
	if name == "" {
		o, cfg, err := c.operator()
		if err != nil {
			return err
		}
		if err := o.look(ctx); err != nil {
			return err
		}
		made, _, err := draftNew(cfg, who, document)
		if err != nil {
			return err
		}
		return o.directory.nameProblem(who, uuid.Nil, made)
	}
	o, e, err := c.lookUpOwn(ctx, who, name)
	if err != nil {
		return err
	}
	before, err := o.directory.draftOf(&e.defined.record)
	if err != nil {
		return told(who, err)
	}
	after, err := before.patched(o.directory.cfg, who, document)
	if err != nil {
		return err
	}
	return o.directory.nameProblem(who, e.ID, after)
}

// lookUpOwn is lookUp for an endpoint that is to be changed.
func (c *control) lookUpOwn(ctx context.Context, who *admin.Caller, name string) (*Operator, *entry, error) {
	o, e, err := c.lookUp(ctx, who, name)
	if err == nil && e.defined == nil {
		err = ledger.Refused("endpoint %s stands in the configuration: change it there", e.Name)
	}
	return o, e, err
}

// redefine commits a change, and returns the endpoint as it is then.
func (c *control) redefine(ctx context.Context, o *Operator, who *admin.Caller, r ledger.Redefinition) (*admin.EndpointDetail, error) {
	if err := c.commit(ctx, o, who, r); err != nil && !errors.Is(err, errSame) {
		return nil, err
	}
	if err := o.directory.refresh(ctx); err != nil {
		return nil, err
	}
	e := o.directory.get(r.ID)
	if e == nil { // somebody deleted it
		return nil, fmt.Errorf("endpoint %s: %w", r.ID, ErrUnknownEndpoint)
	}
	return o.detail(ctx, who, e)
}

// commit writes a change to the ledger, and tells the running relay.
func (c *control) commit(ctx context.Context, o *Operator, who *admin.Caller, r ledger.Redefinition) error {
	source := c.databases.source
	r.Actor, r.Message, r.InStream = who.Actor(), tail.EndpointsChanged, c.databases.ledger == source.Pool
	if !r.InStream {
		var err error
		if r.Now, err = source.Position(ctx); err != nil {
			return err
		}
	}
	d, err := o.ledger.Redefine(ctx, r)
	if errors.Is(err, ledger.ErrNameTaken) {
		return invalidName()
	}
	err = told(who, err)
	if err == nil && !r.InStream {
		c.announce(ctx, d.Revision)
	}
	return err
}

// announceWithin is how long a change is announced in another database than that
// which it is in.
const announceWithin = 5 * time.Second

// announce tells the running relay of a change that is committed, whether or not
// the caller waits for it. Where the source does not take it the relay finds out by
// itself, if later: events that commit until then are not matched by it.
func (c *control) announce(ctx context.Context, revision int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), announceWithin)
	defer cancel()
	for c.databases.source.AnnounceEndpoints(ctx, revision) != nil && pause(ctx, 100*time.Millisecond) == nil {
	}
}

// redefined returns what the ledger is to have of a draft; before is nil for a
// new one.
func (d *directory) redefined(who *admin.Caller, id uuid.UUID, before, after *draft) (*ledger.Redefined, error) {
	if err := d.nameProblem(who, id, after); err != nil {
		return nil, err
	}
	masked, secrets, err := config.SplitEndpoint(after.document)
	if err != nil {
		return nil, err
	}
	c := &after.endpoint
	r := &ledger.Redefined{Name: c.Name, Tenant: c.Tenant, URL: c.URL.String(), Enabled: c.Enabled, Document: masked, After: masked}
	if secrets != nil {
		if r.Sealed, err = d.keys.seal(secrets, id[:]); err != nil {
			return nil, err
		}
	}
	if who.Tenant != "" {
		r.MaxOfTenant = maxOfTenant
	}
	if before != nil {
		r.Anew = !before.endpoint.Enabled && c.Enabled
		if r.Before, _, err = config.SplitEndpoint(before.document); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// nameProblem returns an *admin.InvalidError where a draft's name would lead to
// another endpoint too.
func (d *directory) nameProblem(who *admin.Caller, id uuid.UUID, made *draft) error {
	name := made.endpoint.Name
	if uuid.Validate(name) == nil {
		return &admin.InvalidError{Fields: []admin.FieldProblem{{Field: "name", Message: "must not be a UUID: ids are"}}}
	}
	taken := slices.ContainsFunc(d.all(""), func(e *entry) bool {
		sameTenant := e.Tenant == made.endpoint.Tenant
		return e.Name == name && e.ID != id && (sameTenant || e.defined == nil && who.Tenant == "")
	})
	if taken {
		return invalidName()
	}
	return nil
}

func invalidName() error {
	return &admin.InvalidError{Fields: []admin.FieldProblem{{Field: "name", Message: ledger.ErrNameTaken.Error()}}}
}
