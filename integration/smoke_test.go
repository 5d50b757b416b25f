package integration

import "testing"

func TestSmoke(t *testing.T) {
	db := newDatabase(t)
	rcv := newReceiver(t, "/plain", "/ordered")
	rcv.endpoints["/ordered"].ordered = true
	r := startRelay(t, db, rcv, `
endpoints:
  - {name: plain, url: "${RECEIVER}/plain", events: ["*"], secret: "${SECRET}"}
  - {name: ordered, url: "${RECEIVER}/ordered", events: ["*"], secret: "${SECRET}", ordering: key}
`)
	r.waitReady()
	db.mustWrite(t, bulk{From: 1, To: 2000, Keys: 20}, 50)
	rcv.endpoints["/plain"].waitDelivered(2000, 20e9)
	rcv.endpoints["/ordered"].waitDelivered(2000, 20e9)
	t.Log(r.role(), r.peakRSS()>>20, len(r.metrics()), rcv.endpoints["/ordered"].counts())
	for k, v := range r.metrics() {
		t.Log(k, v)
	}
	r.pause()
	r.resume()
	t.Log(r.stop())
	t.Log(r.tail(40))
}
