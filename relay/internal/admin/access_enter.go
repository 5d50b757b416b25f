package admin

import "net/http"

// present returns who is logged in at the browser already, where a portal token
// is somebody else's: a link can bring one to people who do not expect it, and
// what they then did would be done in its tenant's portal. nil for nobody.
func (a *Access) present(r *http.Request, c *credential) (*Caller, *denial) {
	if !c.who.Portal() {
		return nil, nil // who typed it means it
	}
	who, denied := a.bySession(r, c.who.From)
	if who == nil && denied == nil {
		who, denied = a.Proxy.user(r, c.who.From)
	}
	if who == nil || denied != nil || who.Portal() && who.Name == c.who.Name && who.Tenant == c.who.Tenant {
		return nil, denied
	}
	return who, nil
}

// ask asks who is logged in whether to go on as the token's owner.
func (a *Access) ask(w http.ResponseWriter, r *http.Request, who *Caller, c *credential, next string) {
	if framed(r) {
		a.hardenPage(w.Header(), &c.who)
	}
	a.show(w, http.StatusOK, entrance{
		Title: "Go on as " + c.who.title() + "?", Instead: r.PostForm.Get("token"), Present: who.title(), Comer: c.who.title(), Next: next, Back: dashboardPath,
	})
}

// title is what the caller is called on pages.
func (c *Caller) title() string {
	if c.Tenant == "" {
		return c.Name
	}
	return c.Name + " of " + c.Tenant
}
