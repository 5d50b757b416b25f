package relay

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/lane"
	"github.com/posthorn/posthorn/relay/signing"
)

func TestEndpointsShareWhatIsTheSame(t *testing.T) {
	var cfg config.Config
	for i, secret := range []config.Secret{"a secret", "a secret", "another secret"} {
		ep := config.Endpoint{Name: fmt.Sprint("e", i), URL: "https://a.example", Enabled: true, Secret: secret, Filter: "payload.amount > 1"}
		ep.Body, ep.Headers = "{{ .Payload }}", map[string]string{"X-Type": "{{ .Event.Type }}"}
		ep.Signatures = []config.Signature{{Scheme: "github"}}
		if i == 2 {
			ep.Filter, ep.Body, ep.Headers["X-Type"], ep.Signatures[0].Header = "payload.amount > 2", "{}", "two", "X-Other"
		}
		cfg.Endpoints = append(cfg.Endpoints, ep)
	}
	client, err := newClient(&cfg, func() bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	all, err := translate(&cfg, "test", client)
	if err != nil {
		t.Fatal(err)
	}
	signer := func(i int) *signing.Signer { return all.lanes[i].Signatures[0].(*lane.BodySignature).Signer }
	shared := func(i int) map[string]bool {
		return map[string]bool{
			"body": all.lanes[0].Body == all.lanes[i].Body, "header": all.lanes[0].Headers[0].Value == all.lanes[i].Headers[0].Value,
			"filter": all.routes[0].Filter == all.routes[i].Filter, "signer": signer(0) == signer(i),
			"key":    reflect.DeepEqual(all.lanes[0].Signatures[0].(*lane.BodySignature).Keys, all.lanes[i].Signatures[0].(*lane.BodySignature).Keys),
			"target": all.lanes[0].Target == all.lanes[i].Target, // remembers its own requests
		}
	}
	for i, want := range map[int]bool{1: true, 2: false} {
		for what, same := range shared(i) {
			if same != (want && what != "target") {
				t.Errorf("the %s of endpoint %d is shared: %v", what, i, same)
			}
		}
	}
}

func TestEndpointsWithTheSameGrantShareAToken(t *testing.T) {
	var mu sync.Mutex
	fetches := map[string]int{} // by scope
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		id, secret, _ := r.BasicAuth()
		scope := r.FormValue("scope")
		fetches[fmt.Sprint(r.URL.Path, " ", id, " ", secret, " ", scope)]++
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token": "token-%d", "token_type": "bearer", "expires_in": 3600}`, len(fetches))
	}))
	defer issuer.Close()
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()

	same := config.OAuth2{TokenURL: config.URL(issuer.URL + "/a"), ClientID: "posthorn", ClientSecret: "s", Scopes: []string{"hooks", "more"}}
	otherURL, otherID, otherSecret, otherScopes := same, same, same, same
	otherURL.TokenURL = config.URL(issuer.URL + "/b")
	otherID.ClientID = "other"
	otherSecret.ClientSecret = "other"
	otherScopes.Scopes = []string{"hooks"}
	var cfg config.Config
	for i, grant := range []config.OAuth2{same, same, otherURL, otherID, otherSecret, otherScopes, same} {
		ep := config.Endpoint{Name: fmt.Sprint("e", i), URL: config.URL(receiver.URL), Enabled: true}
		ep.Method, ep.Body, ep.Auth.OAuth2 = "POST", "{{ .Payload }}", grant
		cfg.Endpoints = append(cfg.Endpoints, ep)
	}
	cfg.Egress.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	client, err := newClient(&cfg, func() bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	all, err := translate(&cfg, "test", client)
	if err != nil {
		t.Fatal(err)
	}
	for _, ep := range all.lanes {
		q := &egress.Request{Method: ep.Method, URL: ep.URL, Header: egress.Header{}, Target: ep.Target, Timeout: 5 * time.Second}
		if res := client.Send(t.Context(), q); res.Err != nil || res.Status != 200 {
			t.Errorf("%s: %d, %v", ep.Name, res.Status, res.Err)
		}
	}
	for of, n := range fetches {
		if n != 1 {
			t.Errorf("%d fetches of %s", n, of)
		}
	}
	if len(fetches) != 5 {
		t.Errorf("tokens for %v, want five", fetches)
	}
}
