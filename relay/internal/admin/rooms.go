package admin

import "sync"

// rooms bounds how many do something at once, and how many of those are of one
// tenant: the others are not to wait for it. It is safe for concurrent use.
type rooms struct {
	all      chan struct{} // holds one for each who is in
	ofTenant int

	mu sync.Mutex
	by map[string]*tenantRoom
}

// tenantRoom is a tenant's share, while somebody is in or waits.
type tenantRoom struct {
	share chan struct{}
	users int
}

func newRooms(all, ofTenant int) *rooms {
	return &rooms{all: make(chan struct{}, all), ofTenant: ofTenant, by: make(map[string]*tenantRoom)}
}

// enter lets who in, and returns what lets it out again; false when there is no
// room until that is closed, or now where it is nil.
func (r *rooms) enter(who *Caller, until <-chan struct{}) (leave func(), ok bool) {
	if who.Tenant == "" {
		return func() { <-r.all }, place(r.all, until)
	}
	t := r.tenant(who.Tenant)
	if !place(t.share, until) {
		r.forget(who.Tenant, t)
		return nil, false
	}
	if !place(r.all, until) {
		<-t.share
		r.forget(who.Tenant, t)
		return nil, false
	}
	return func() {
		<-r.all
		<-t.share
		r.forget(who.Tenant, t)
	}, true
}

func (r *rooms) tenant(name string) *tenantRoom {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.by[name]
	if t == nil {
		t = &tenantRoom{share: make(chan struct{}, r.ofTenant)}
		r.by[name] = t
	}
	t.users++
	return t
}

func (r *rooms) forget(name string, t *tenantRoom) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(r.by, name)
	}
}

// place reports whether there was a place.
func place(in chan struct{}, until <-chan struct{}) bool {
	select {
	case in <- struct{}{}:
		return true
	default:
	}
	if until == nil {
		return false
	}
	select {
	case in <- struct{}{}:
		return true
	case <-until:
		return false
	}
}
