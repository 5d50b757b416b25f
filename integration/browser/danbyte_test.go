package browser

import (
	"net/http"
	"testing"

	"github.com/posthorn/posthorn/relay/signing"
)

var danbyte = product{
	example: "danbyte/posthorn.toml", profile: "danbyte",
	urlVariable: "DANBYTE_WEBHOOK_URL", secret: "DANBYTE_WEBHOOK_SECRET", path: "/danbyte",
	signature: signing.Options{Scheme: "hmac", Header: "X-Danbyte-Signature", Algorithm: "sha512", Encoding: "hex", Value: "sha512={signature}"},
}

const (
	device = `{"id": 412, "name": "edge-ams-01", "site": "AMS1", "status": "active"}`
	site   = `{"id": 7, "name": "AMS1", "region": "Amsterdam"}`
)

// TestDanbyte tells the story of Danbyte's document: the form with its object
// types, triggers, method, headers and a secret of one's own, which is never
// shown; deliveries that fail are logged and change nothing else; "every create,
// edit, and delete is recorded in the change log".
func TestDanbyte(t *testing.T) {
	t.Parallel()
	s := danbyte.begin(t)
	s.b, s.actor = s.logIn(operatorToken), "web:ops"
	s.did = append(s.did, "web:ops login")
	s.newEndpoint("inventory-sync")
	s.b.choose("Profile", s.profile)
	s.b.press("By object and trigger")
	s.b.fill("Object types", "device, site")
	s.b.press("create")
	s.b.press("update")
	s.b.press("Request What is sent.")
	s.b.choose("Method", "PUT")
	s.b.fill("Additional headers", "X-Source: danbyte\nX-Environment: production")
	s.ownSecret("a long secret of our own, 12/34+56 ü")
	s.b.submit("Create endpoint")
	s.b.see("The endpoint was saved.", "method PUT own", "objects device, site own", "triggers create, update own")
	s.created()
	s.testArrives()
	s.wrongHost("http://10.1.2.3/danbyte", "failed", "No answer", "address 10.1.2.3 is blocked: it is not a public address and egress.allow does not hold it")

	q := s.delivers("device.update", device)
	if want := `{"event": "update", "object": {"type": "device", "id": 412}, "data": ` + device + `}`; q.Body != want {
		t.Errorf("what arrived is %s, want %s", q.Body, want)
	}
	if q.Method != http.MethodPut || q.Header.Get("X-Danbyte-Event") != "update" || q.Header.Get("X-Danbyte-Delivery") == "" || q.Header.Get("X-Source") != "danbyte" || q.Header.Get("X-Environment") != "production" {
		t.Errorf("what arrived is a %s with %v", q.Method, q.Header)
	}
	s.publish("device.delete", device) // that trigger was not chosen
	event, failed := s.fails("site.create", site, http.StatusInternalServerError, "no room for another site")
	s.b.see("failed")
	s.page()
	s.b.see("enabled", "answered 500 Internal Server Error")
	s.b.press("Send test") // its own result in place, while the receiver is broken
	s.b.seeIn("#test-result", "HTTP 500", "answered 500 Internal Server Error", "its own log says why")
	s.b.press("What was sent and answered")
	s.b.seeIn("#test-result", "no room for another site")
	s.arrives("")
	s.receiver.answers(http.StatusOK, "received")
	s.open(failed)
	s.retry()
	s.arrives(site)
	s.relay.delivery(event, s.endpoint, "delivered", 2)

	s.retriesAll("site.update", site)
	s.page()
	s.pause("the inventory moves house")
	s.parks("device.create", device, 1)
	s.resume()
	s.arrives(device)
	s.rotate()
	s.delivers("site.update", site)
	s.quiet()
	s.viewer(failed, "no room for another site")
	s.stranger("noc", failed, "no room for another site")
	s.page()
	s.deletes()
	s.audited()
	s.tour()
}
