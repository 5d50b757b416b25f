package browser

import (
	"net/http"
	"strings"
	"testing"

	"github.com/posthorn/posthorn/relay/signing"
)

// The first retry is left to whoever presses the button; the other five follow
// at once.
var byro = product{
	example: "byro/posthorn.yaml", profile: "byro", tenant: "acme",
	urlVariable: "BYRO_WEBHOOK_URL", secret: "BYRO_WEBHOOK_SECRET", path: "/webhook",
	signature: signing.Options{Scheme: "hmac", Header: "X-Byro-Signature", Algorithm: "sha256", Encoding: "hex"},
	env:       []string{`POSTHORN_PROFILES__BYRO__RETRY__SCHEDULE=["1h", "20ms", "20ms", "20ms", "20ms", "20ms"]`},
}

const submitted = `{"prId": "clx123", "amount": 4500, "currency": "AED", "submittedBy": "ahmed@acme.com"}`

// TestByro tells the story of Byro's document: "After 6 failures the endpoint
// is auto-paused."
func TestByro(t *testing.T) {
	t.Parallel()
	s := byro.begin(t)
	s.b, s.actor = s.logIn(operatorToken), "web:ops"
	s.did = append(s.did, "web:ops login")
	s.newEndpoint("acme-finance")
	s.b.fill("Tenant", s.tenant)
	s.b.choose("Profile", s.profile)
	s.b.press("pr.submitted PR submitted")
	s.b.press("pr.approved PR approved")
	s.create()
	s.b.see("events pr.submitted, pr.approved own", "profile byro own", "schedule: 1h, 20ms")
	s.testArrives()
	s.wrongHost("http://127.0.0.1:1/webhook", "failed", "No answer", "connect to 127.0.0.1:1: connection refused")

	q := s.delivers("pr.submitted", submitted)
	if !strings.HasPrefix(q.Body, `{"event": "pr.submitted", "data": `+submitted+`, "deliveredAt": "`) {
		t.Errorf("what arrived is %s", q.Body)
	}
	s.publish("pr.rejected", `{"prId": "clx124"}`) // not chosen: nothing of it arrives
	event, failed := s.fails("pr.approved", submitted, http.StatusServiceUnavailable, "closed for stocktaking")
	s.retry()
	for range 6 {
		s.arrives("pr.approved")
	}
	s.relay.delivery(event, s.endpoint, "failed", 7)
	s.pausedBecause("a delivery exhausted its retry schedule (pause.on_exhausted)")
	s.parks("pr.submitted", submitted, 1)
	s.resume()
	s.arrives("pr.submitted")
	s.open(failed)
	s.b.see("failed", "Attempt 7")
	s.retry()
	s.arrives("pr.approved")
	s.relay.delivery(event, s.endpoint, "delivered", 8)

	s.rotate()
	s.delivers("pr.submitted", submitted)
	s.quiet()
	s.audited()
	s.viewer(failed, "ahmed@acme.com")
	s.stranger("globex", failed, "ahmed@acme.com")
	s.customer()
	s.tour()
}
