package browser

import (
	"fmt"
	"net/http"
	"path"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/signing"
)

// Where the pages are.
const (
	pages = "/admin/webhooks"
	login = pages + "/login"
)

// ownSecret is what the example's own endpoint, or its tenant, signs with.
const ownSecret = "the example's own secret, 12/34+56 ü"

// product is one of those whose configurations are in examples, and what its
// document promises its customers.
type product struct {
	example             string // the configuration
	profile             string // in it
	tenant              string // whose endpoint the story is about
	urlVariable, secret string // of the example's own endpoint, which the story leaves alone
	path                string // of the receiver's URL
	secure              bool   // https only
	signature           signing.Options
	env                 []string // what the story needs to be shorter than in the example
}

// story is one product's, from the first login to the audit. Its steps are
// methods, in the order in which the products' documents tell them.
type story struct {
	product
	t        testing.TB
	relay    *relay
	receiver *receiver
	b        *tab   // who tells it
	actor    string // who that is, in the audit

	endpoint string // its id
	name     string
	secrets  []string // the newest first
	seen     int      // how many requests of the receiver the story knows
	did      []string // what the audit has to say, the oldest first
}

// begin starts the product's relay, with a receiver for the example's own
// endpoint, and one for the story's.
func (p product) begin(t testing.TB) *story {
	t.Helper()
	s := &story{product: p, t: t, receiver: newReceiver(t, p.signature, p.secure)}
	own := newReceiver(t, p.signature, p.secure)
	own.knows(ownSecret)
	env := append([]string{p.urlVariable + "=" + own.server.URL + "/own", p.secret + "=" + ownSecret}, p.env...)
	if p.secure {
		env = append(env, "POSTHORN_PROFILES__"+strings.ToUpper(p.profile)+"__TLS__CA_FILE="+authority(t, s.receiver))
	}
	s.relay = startRelay(t, p.example, env...)
	return s
}

// logIn opens a tab for somebody, who logs in with a token.
func (s *story) logIn(token string) *tab {
	s.t.Helper()
	b := newTab(s.t, s.relay.base)
	b.visit(pages)
	if at := b.path(); at != login {
		s.t.Fatalf("without a session the tab is at %s", at)
	}
	b.fill("Token", token)
	b.submit("Log in")
	b.see("Overview")
	return b
}

// enterPortal opens a tab for a tenant's customer, whom the host application
// has given a token.
func (s *story) enterPortal(tenant string) *tab {
	s.t.Helper()
	b := newTab(s.t, s.relay.base)
	address := s.relay.portalToken(tenant, s.profile)
	b.visit(address)
	b.until("not entered", `location.pathname === %s && document.readyState === "complete"`, pages+"/endpoints")
	_, token, _ := strings.Cut(address, "#")
	b.lacks(token, "Overview", "Settings", "Replays")
	return b
}

// url is where the story's requests go.
func (s *story) url() string { return s.receiver.server.URL + s.path }

// newEndpoint opens the form for a new endpoint.
func (s *story) newEndpoint(name string) {
	s.t.Helper()
	s.name = name
	s.b.submit("Endpoints")
	s.b.submit("New endpoint")
	s.b.fill("Name", name)
	s.b.fill("URL", s.url())
}

// create sends the form and copies the secret, which is shown this once.
func (s *story) create() {
	s.t.Helper()
	s.b.submit("Create endpoint")
	s.b.see("The endpoint was created. This is its secret", "Copy it to the receiver now: it is shown this once.")
	s.copySecret()
	s.b.submit("I have copied it")
	s.created()
}

// created takes the endpoint's id from its page's address.
func (s *story) created() {
	s.t.Helper()
	s.b.see(s.name, "healthy")
	s.endpoint = path.Base(s.b.path())
	if _, err := uuid.Parse(s.endpoint); err != nil {
		s.t.Fatalf("the endpoint's page is at %s", s.b.path())
	}
	s.b.lacks(s.secrets...)
	s.did = append(s.did, s.actor+" endpoint.create")
}

// ownSecret gives the form and the receiver a secret of the customer's.
func (s *story) ownSecret(secret string) {
	s.t.Helper()
	s.b.press("Use my own")
	s.b.fill("My own secret", secret)
	s.secrets = []string{secret}
	s.receiver.knows(secret)
}

// copySecret presses Copy and gives the receiver what is shown, beside what it
// knows already.
func (s *story) copySecret() {
	s.t.Helper()
	secret := s.b.text(".secret pre")
	if len(secret) < 32 {
		s.t.Fatalf("the secret is %q", secret)
	}
	s.b.press("Copy")
	s.b.see("Copied")
	s.secrets = append([]string{secret}, s.secrets...)
	s.receiver.knows(s.secrets...)
}

// page opens the endpoint's.
func (s *story) page() {
	s.t.Helper()
	s.b.submit("Endpoints")
	s.b.submit(s.name)
	s.b.see(s.name, "Signature and secret")
	s.b.lacks(s.secrets...)
}

// sendTest sends a test from the endpoint's page and waits for its result in
// place.
func (s *story) sendTest(want ...string) {
	s.t.Helper()
	at := s.b.path()
	before, err := eval[float64](s.b, `performance.timeOrigin`)
	if err != nil {
		s.t.Fatal(err)
	}
	s.b.press("Send test")
	s.b.seeIn("#test-result", want...)
	if still, err := eval[bool](s.b, `performance.timeOrigin === %v`, before); err != nil || !still || s.b.path() != at {
		s.t.Errorf("the test's result is at %s, on another page than %s: %v", s.b.path(), at, err)
	}
	s.did = append(s.did, s.actor+" endpoint.test")
}

// testArrives sends a test that the receiver takes.
func (s *story) testArrives() {
	s.t.Helper()
	s.sendTest("delivered", "HTTP 200")
	q := s.arrives("")
	if q.Header.Get("Posthorn-Test") == "" {
		s.t.Errorf("the test is not marked as one: %v", q.Header)
	}
}

// wrongHost edits the endpoint's URL to a wrong one, tests that, and puts it
// right again.
func (s *story) wrongHost(url string, want ...string) {
	s.t.Helper()
	for _, to := range []string{url, s.url()} {
		s.b.submit("Edit")
		s.b.fill("URL", to)
		s.b.submit("Save")
		s.b.see("The endpoint was saved.", to)
		s.did = append(s.did, s.actor+" endpoint.edit")
		if to == url {
			s.sendTest(want...)
		}
	}
	s.testArrives()
}

// arrives returns the next request that the receiver got, which must verify
// and have a text in its body.
func (s *story) arrives(text string) received {
	s.t.Helper()
	var q received
	eventually(s.t, func() error {
		if next := s.receiver.arrived(s.seen); len(next) > 0 {
			q = next[0]
			return nil
		}
		return fmt.Errorf("nothing more than %d requests arrived", s.seen)
	})
	s.seen++
	if !q.Verified || q.Path != s.path || !strings.Contains(q.Body, text) {
		s.t.Errorf("what arrived at %s verifies: %t, and is %s", q.Path, q.Verified, q.Body)
	}
	return q
}

// quiet fails the test if the receiver got more than the story knows.
func (s *story) quiet() {
	s.t.Helper()
	for _, q := range s.receiver.arrived(s.seen) {
		s.t.Errorf("%s arrived as well", q.Body)
	}
}

// publish commits an event of the story's tenant.
func (s *story) publish(eventType, payload string) uuid.UUID {
	s.t.Helper()
	return s.relay.publish(eventType, s.tenant, payload)
}

// delivers publishes an event and sees it delivered, from the live list to its
// own page.
func (s *story) delivers(eventType, payload string) received {
	s.t.Helper()
	s.b.submit("Deliveries")
	s.b.see("Live: new deliveries come by themselves.")
	event := s.publish(eventType, payload)
	q := s.arrives("")
	id := s.relay.delivery(event, s.endpoint, "delivered", 1)
	s.openDelivery(id)
	s.b.see(eventType, "delivered", "Committed by the application", "Delivered at the first attempt", "200", s.name)
	return q
}

// openDelivery presses a delivery in the live list, once it is there.
func (s *story) openDelivery(id uuid.UUID) {
	s.t.Helper()
	s.b.until("no delivery "+id.String(), `document.getElementById(%s) !== null`, "d-"+id.String())
	s.b.follow(func() {
		if _, err := eval[any](s.b, `document.getElementById(%s).click()`, "d-"+id.String()); err != nil {
			s.t.Fatal(err)
		}
	})
}

// fails breaks the receiver, publishes an event and sees on its delivery's page
// why it failed. It returns the delivery's id.
func (s *story) fails(eventType, payload string, status int, answer string) (event, id uuid.UUID) {
	s.t.Helper()
	s.receiver.answers(status, answer)
	s.b.submit("Deliveries")
	event = s.publish(eventType, payload)
	s.arrives("")
	var state string
	eventually(s.t, func() (err error) {
		id, state, err = s.relay.find(event, s.endpoint)
		return err
	})
	s.openDelivery(id)
	why := fmt.Sprintf("answered %d %s", status, http.StatusText(status))
	s.b.see(state, why, "Attempt 1", fmt.Sprint(status))
	s.b.press("Answer")
	s.b.see(answer)
	return event, id
}

// retry presses Retry now on a delivery's page.
func (s *story) retry() {
	s.t.Helper()
	s.b.submit("Retry now")
	s.b.see("The delivery is due now.")
	s.did = append(s.did, s.actor+" delivery.retry")
}

// open goes to a delivery's page by its address.
func (s *story) open(id uuid.UUID) {
	s.t.Helper()
	s.b.visit(pages + "/deliveries/" + id.String())
}

// retriesAll has two deliveries fail and retries them together, by the filter
// of the page of failed ones, whose preview counts them.
func (s *story) retriesAll(eventType, payload string) {
	s.t.Helper()
	s.receiver.answers(http.StatusBadGateway, "away")
	events := []uuid.UUID{s.publish(eventType, payload), s.publish(eventType, payload)}
	for _, e := range events {
		s.arrives("")
		s.relay.delivery(e, s.endpoint, "failed", 1)
	}
	s.receiver.answers(http.StatusOK, "received")
	s.b.submit("Failed")
	s.b.fill("Endpoint", s.name)
	s.b.submit("Search")
	s.b.see("answered 502 Bad Gateway")
	s.b.press("Retry all of these")
	s.b.seeIn("#preview", "2 deliveries would be retried", s.name)
	s.b.submit("Retry them")
	s.b.see("done 100 %", "2 of 2 done")
	for _, e := range events {
		s.arrives("")
		s.relay.delivery(e, s.endpoint, "delivered", 2)
	}
	s.did = append(s.did, s.actor+" replay.start")
}

// pausedBecause waits for the endpoint to be paused and sees the reason.
func (s *story) pausedBecause(reason string) {
	s.t.Helper()
	eventually(s.t, func() error {
		var state string
		err := s.relay.pool.QueryRow(s.t.Context(), `SELECT state FROM posthorn.endpoints WHERE id = $1`, s.endpoint).Scan(&state)
		if err == nil && state != "paused" {
			err = fmt.Errorf("the endpoint is %s", state)
		}
		return err
	})
	s.page()
	s.b.see("auto-paused", reason)
	s.did = append(s.did, "relay endpoint.pause")
}

// pause pauses the endpoint by hand, on its page.
func (s *story) pause(reason string) {
	s.t.Helper()
	s.b.press("Pause")
	s.b.fill("Why", reason)
	s.b.follow(func() { s.b.pressIn("details.pop form", "Pause") })
	s.b.see("The endpoint is paused.", reason)
	s.relay.logged(`"msg":"(endpoint paused)".*"reason":"` + reason) // the relay hears of it within a second
	s.did = append(s.did, s.actor+" endpoint.pause")
}

// resume resumes the endpoint on its page, with the receiver in order again.
func (s *story) resume() {
	s.t.Helper()
	s.receiver.answers(http.StatusOK, "received")
	s.b.submit("Resume")
	s.b.see("The endpoint is resumed.", "enabled")
	s.did = append(s.did, s.actor+" endpoint.resume")
}

// parks publishes an event while the endpoint is paused: it waits, and nothing
// arrives. So many wait then.
func (s *story) parks(eventType, payload string, waiting int) {
	s.t.Helper()
	event := s.publish(eventType, payload)
	s.relay.delivery(event, s.endpoint, "pending", 0)
	s.quiet()
	s.page()
	s.b.see(fmt.Sprint("Waiting ", waiting))
}

// rotate makes another secret: for a day the receiver takes both.
func (s *story) rotate() {
	s.t.Helper()
	s.page()
	s.b.press("Rotate the secret")
	s.b.choose("The old one signs too for", "24 hours")
	s.b.submit("Rotate")
	s.b.see("This is the new secret")
	s.copySecret()
	s.b.submit("I have copied it")
	s.b.see("A previous secret signs too, until")
	s.b.lacks(s.secrets...)
	s.did = append(s.did, s.actor+" endpoint.rotate")
}

// deletes deletes the endpoint, from its page.
func (s *story) deletes() {
	s.t.Helper()
	s.b.submit("Delete this endpoint")
	s.b.see("Delete "+s.name+"?", "nothing waits for it")
	s.b.submit("Delete")
	s.b.see("The endpoint was deleted.")
	s.did = append(s.did, s.actor+" endpoint.delete")
}

// tour opens every page that the navigation leads to: their consoles must be
// silent.
func (s *story) tour() {
	s.t.Helper()
	links, err := eval[[]string](s.b, `[...document.querySelectorAll("nav.side a")].map((a) => a.pathname)`)
	if err != nil || len(links) < 5 {
		s.t.Fatalf("the navigation leads to %q: %v", links, err)
	}
	for _, link := range links {
		s.b.visit(link)
		s.b.until("not loaded", `document.readyState === "complete" && document.querySelector("h1") !== null`)
		s.b.lacks(s.secrets...)
	}
	s.b.submit("Log out")
	if at := s.b.path(); s.actor == "web:ops" && at != login {
		s.t.Errorf("after the logout the tab is at %s", at)
	}
}
