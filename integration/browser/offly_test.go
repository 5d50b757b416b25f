package browser

import (
	"net/http"
	"strings"
	"testing"

	"github.com/posthorn/posthorn/relay/signing"
)

// The first retry is left to whoever presses the button; the other two follow
// at once.
var offly = product{
	example: "offly/posthorn.yaml", profile: "offly", tenant: "northwind",
	urlVariable: "OFFLY_WEBHOOK_URL", secret: "OFFLY_WEBHOOK_SECRET", path: "/webhooks/offly", secure: true,
	signature: signing.Options{Scheme: "hmac", Header: "X-Offly-Signature", Algorithm: "sha256", Encoding: "hex"},
	env:       []string{`POSTHORN_PROFILES__OFFLY__RETRY__SCHEDULE=["1h", "20ms", "20ms"]`},
}

const leave = `{"id":"lr_8f14e45f-ceea-467f","user_id":"usr_a1b2c3d4","leave_type":"annual_leave","status":"approved"}`

// TestOffly tells the story of Offly's document, whose customers manage their
// own endpoints under Settings → Webhooks: in the portal. "After all retries
// are exhausted, the delivery is marked as failed. You can view failed
// deliveries and manually retry them".
func TestOffly(t *testing.T) {
	t.Parallel()
	s := offly.begin(t)
	s.b, s.actor = s.enterPortal(s.tenant), "portal:jo@northwind"
	s.did = append(s.did, "portal:jo@northwind login")
	s.b.see("northwind-backend") // which stands in the configuration
	s.newEndpoint("hr-calendar")
	s.b.lacks("Profile", "Retries and pausing")
	s.b.press("leave_request.approved A leave request was approved")
	s.b.press("user.created A new user was added")
	s.create()
	s.b.see("events leave_request.approved, user.created own")
	s.testArrives()
	plain := "http" + strings.TrimPrefix(s.url(), "https")
	s.b.submit("Edit")
	s.b.fill("URL", plain)
	s.b.expect("status of 422")
	s.b.submit("Save")
	s.b.see("must begin with https://, since egress.require_https is set")
	s.b.submit("Cancel")
	s.wrongHost(strings.Replace(s.url(), "127.0.0.1", "localhost", 1), "failed", "No answer", "certificate")

	q := s.delivers("leave_request.approved", leave)
	if !strings.HasPrefix(q.Body, `{"id":"wh_evt_`) || !strings.Contains(q.Body, `"type":"leave_request.approved"`) || !strings.HasSuffix(q.Body, `"data":`+leave+`}`) {
		t.Errorf("what arrived is %s", q.Body)
	}
	s.publish("leave_request.declined", leave) // not chosen
	event, failed := s.fails("leave_request.approved", leave, http.StatusServiceUnavailable, "the calendar is being indexed")
	s.retry()
	for range 3 {
		s.arrives("leave_request.approved")
	}
	s.relay.delivery(event, s.endpoint, "failed", 4)
	s.page()
	s.b.see("enabled")
	s.receiver.answers(http.StatusOK, "received")
	s.b.submit("Failed")
	s.b.see("answered 503 Service Unavailable")
	s.openDelivery(failed)
	s.retry()
	s.arrives("leave_request.approved")
	s.relay.delivery(event, s.endpoint, "delivered", 5)

	s.page()
	s.pause("our calendar moves")
	s.parks("user.created", `{"id":"usr_a1b2c3d4"}`, 1)
	s.resume()
	s.arrives("user.created")
	s.rotate()
	s.delivers("leave_request.approved", leave)
	s.quiet()
	s.audited()
	s.viewer(failed, "annual_leave")
	s.stranger("globex", failed, "annual_leave")
	s.tour()
}
