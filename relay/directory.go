package relay

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// directory is what operators know of all endpoints: those of the configuration
// and, as of the last refresh, those that the API made.
type directory struct {
	databases *databases
	cfg       *config.Config
	keys      *keyring

	loading sync.Mutex // held while the ledger is asked, which takes a connection: mu is not

	mu       sync.Mutex
	entries  map[uuid.UUID]*entry
	named    map[string][]*entry
	revision int64 // of the newest definition that is in it; loading's
}

// entry is an endpoint. Nobody changes one.
type entry struct {
	ledger.Endpoint
	config  *config.Endpoint
	index   int      // in the configuration's endpoints
	defined *defined // nil for one of the configuration
}

// newDirectory returns one with the configuration's endpoints.
func newDirectory(cfg *config.Config, d *databases) (*directory, error) {
	keys, err := newKeyring(cfg)
	if err != nil {
		return nil, err
	}
	dir := &directory{databases: d, cfg: cfg, keys: keys, entries: map[uuid.UUID]*entry{}, named: map[string][]*entry{}}
	for i := range cfg.Endpoints {
		c := &cfg.Endpoints[i]
		ep, err := identify(c)
		if err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", c.Name, err)
		}
		dir.put(&entry{Endpoint: ep, config: c, index: i})
	}
	return dir, nil
}

// put takes an entry in, in the place of that of its id.
func (d *directory) put(e *entry) {
	d.drop(e.ID)
	d.entries[e.ID] = e
	d.named[e.Name] = append(d.named[e.Name], e)
}

func (d *directory) drop(id uuid.UUID) {
	e, ok := d.entries[id]
	if !ok {
		return
	}
	delete(d.entries, id)
	left := slices.DeleteFunc(slices.Clone(d.named[e.Name]), func(other *entry) bool { return other == e })
	if d.named[e.Name] = left; len(left) == 0 {
		delete(d.named, e.Name)
	}
}

// refresh takes in what was defined, changed and deleted since the last time.
func (d *directory) refresh(ctx context.Context) error {
	d.loading.Lock()
	defer d.loading.Unlock()
	list, err := d.databases.loadDefined(ctx, d.cfg, d.keys, d.revision)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range list {
		made := &list[i]
		d.revision = made.revision
		if made.deleted {
			d.drop(made.id)
			continue
		}
		c := &made.endpoint
		d.put(&entry{
			Endpoint: ledger.Endpoint{ID: made.id, Name: c.Name, URL: c.URL.String(), Tenant: c.Tenant, Enabled: c.Enabled},
			config:   c, defined: made,
		})
	}
	return nil
}

// get returns the endpoint of an id; nil for none.
func (d *directory) get(id uuid.UUID) *entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.entries[id]
}

// all returns the endpoints, of a tenant unless it is "", in no order.
func (d *directory) all(tenant string) []*entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Collect(maps.Values(d.entries)), func(e *entry) bool { return !e.of(tenant) })
}

// of reports whether somebody of a tenant, "" for none, may know of the
// endpoint.
func (e *entry) of(tenant string) bool { return tenant == "" || e.Tenant == tenant }

// find returns the endpoint of a name or id, among those of a tenant unless
// that is "", or ErrUnknownEndpoint. Without a tenant a name that one of the
// configuration has is that one's, whatever tenants call theirs; one that only
// several tenants' endpoints have is a *ledger.RefusedError.
func (d *directory) find(name, tenant string) (*entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []*entry
	for _, e := range d.named[name] {
		if e.of(tenant) {
			found = append(found, e)
		}
	}
	if i := slices.IndexFunc(found, func(e *entry) bool { return e.defined == nil }); tenant == "" && i >= 0 {
		return found[i], nil
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		id, err := uuid.Parse(name)
		if e := d.entries[id]; err == nil && strings.EqualFold(id.String(), name) && e != nil && e.of(tenant) {
			return e, nil
		}
		return nil, fmt.Errorf("endpoint %s: %w", name, ErrUnknownEndpoint)
	}
	ids := make([]string, min(len(found), manyNames))
	for i := range ids {
		ids[i] = found[i].ID.String()
	}
	return nil, ledger.Refused("%d endpoints of different tenants have the name %s: give the id, such as %s", len(found), name, strings.Join(ids, " or "))
}
