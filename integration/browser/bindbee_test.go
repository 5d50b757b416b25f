package browser

import (
	"net/http"
	"strings"
	"testing"

	"github.com/posthorn/posthorn/relay/signing"
)

// Bindbee's document promises no schedule: an endpoint that goes on failing is
// paused after a while, which is none here.
var bindbee = product{
	example: "bindbee/posthorn.json", profile: "bindbee", tenant: "test-org",
	urlVariable: "BINDBEE_WEBHOOK_URL", secret: "BINDBEE_SIGNATURE_KEY", path: "/8e771727c78e3a4017f374fb745313b6",
	signature: signing.Options{Scheme: "hmac", Header: "X-Bindbee-Webhook-Signature", Algorithm: "sha256", Encoding: "base64url"},
	env:       []string{`POSTHORN_PROFILES__BINDBEE__RETRY__SCHEDULE=["1h", "1h"]`, "POSTHORN_PROFILES__BINDBEE__PAUSE__FAILING_FOR=1ms"},
}

const synced = `{"connector": {"id": "018f99e2-ed3a-7f4c-ae97-83d619bdf95c", "display_name": "BreatheHR"}, "data": {"id": "018f99e7-886b-7c9f-a63a-f6fbc9da1f83", "display_status": "Syncing"}}`

// TestBindbee tells the story of Bindbee's document: an organisation has one
// signature key, with which its webhooks sign, until it is regenerated.
func TestBindbee(t *testing.T) {
	t.Parallel()
	s := bindbee.begin(t)
	s.b, s.actor = s.logIn(operatorToken), "web:ops"
	s.did = append(s.did, "web:ops login")
	s.receiver.knows(ownSecret)
	s.newEndpoint("Sync alerts")
	s.b.fill("Tenant", s.tenant)
	s.b.choose("Profile", s.profile)
	s.b.press("connector.sync_started Connector Sync Started")
	s.b.press("connector.sync_error Connector Sync Error")
	s.b.submit("Create endpoint")
	s.b.see("The endpoint was saved.")
	s.secrets = []string{ownSecret}
	s.created()
	s.b.see("events connector.sync_started, connector.sync_error own")
	s.testArrives()
	s.wrongHost("http://webhook-test.invalid"+s.path, "failed", "No answer", "cannot resolve webhook-test.invalid: ")

	q := s.delivers("connector.sync_started", synced)
	want := `{"webhook": {"webhook_id": "` + s.endpoint + `", "url": "` + s.url() + `", "event": "connector_sync_started"}, "connector": `
	if !strings.HasPrefix(q.Body, want) {
		t.Errorf("what arrived is %s, want %s…", q.Body, want)
	}
	s.publish("connector.synced", synced) // not chosen
	event, failed := s.fails("connector.sync_error", synced, http.StatusBadGateway, "the tunnel is closed")
	s.retry()
	s.arrives("connector_sync_error")
	s.pausedBecause("its attempts have failed for too long (pause.failing_for)")
	s.parks("connector.sync_started", synced, 2) // the one that failed waits, too
	s.resume()
	s.arrives("connector_sync_started")
	s.open(failed)
	s.b.see("Next attempt is due") // it is due as its schedule says, unless somebody asks
	s.retry()
	s.arrives("connector_sync_error")
	s.relay.delivery(event, s.endpoint, "delivered", 3)

	s.rotate()
	s.delivers("connector.sync_error", synced)
	s.quiet()
	s.audited()
	s.viewer(failed, "BreatheHR")
	s.stranger("other-org", failed, "BreatheHR")
	s.tour()
}
