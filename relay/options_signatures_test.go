package relay

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/egress"
)

func TestPreviousSecretsSignWithAKeyIDOfTheirOwn(t *testing.T) {
	later := time.Now().Add(time.Hour)
	ep := config.Endpoint{
		Secret:          "endpoint",
		PreviousSecrets: []config.PreviousSecret{{Secret: "older", Expires: later, KeyID: "older"}, {Secret: "oldest", Expires: later}},
	}
	components := []string{"content-digest"}
	ep.Signatures = []config.Signature{
		{Scheme: "http-message", Algorithm: "hmac-sha256", KeyID: "new", Components: components},
		{
			Scheme: "http-message", Algorithm: "hmac-sha256", KeyID: "own", Label: "own", Components: components, Secret: "own",
			PreviousSecrets: []config.PreviousSecret{{Secret: "own older", Expires: later, KeyID: "own-older"}},
		},
		{Scheme: "github"},
	}
	signatures, err := new(translator).signatures(&ep)
	if err != nil {
		t.Fatal(err)
	}
	q := &egress.Request{Method: http.MethodPost, URL: &url.URL{Scheme: "https", Host: "a.example"}, Header: egress.Header{}}
	for _, s := range signatures {
		if err := s.Sign(q, uuid.New(), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	got := regexp.MustCompile(`[a-z0-9-]+=\(|keyid="[^"]*"`).FindAllString(q.Header.Get("Signature-Input"), -1)
	want := []string{"sig1=(", `keyid="new"`, "sig1-2=(", `keyid="older"`, "sig1-3=(", `keyid="new"`, "own=(", `keyid="own"`, "own-2=(", `keyid="own-older"`}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
