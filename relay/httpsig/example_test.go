package httpsig_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/posthorn/posthorn/relay/httpsig"
	"github.com/posthorn/posthorn/relay/signing"
)

// A receiver reads the body first, adds what clients know of the URL, verifies,
// and decodes only then.
func ExampleSigner_Verify() {
	signer, err := httpsig.New(httpsig.Options{Algorithm: "ed25519"})
	if err != nil {
		panic(err)
	}
	key, err := httpsig.ParseKey("ed25519", "whpk_JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=")
	if err != nil {
		panic(err)
	}
	keys := []httpsig.Key{key} // while the secret is replaced: both

	receive := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "body is too large", http.StatusRequestEntityTooLarge)
			return
		}
		// Clients know this server as https://hooks.example.com, whoever
		// terminates TLS. A fixed name also keeps requests out that were
		// signed for another host.
		u := *r.URL
		u.Scheme, u.Host = "https", "hooks.example.com"
		m := httpsig.Message{Method: r.Method, URL: &u, Header: r.Header, Body: body}
		if err := signer.Verify(m, keys, time.Now()); err != nil {
			http.Error(w, "invalid signature", http.StatusUnauthorized)
			fmt.Println("refused:", errors.Is(err, signing.ErrMismatch))
			return
		}
		fmt.Printf("received: %s\n", body)
	}

	// The sender has the private key.
	private, err := httpsig.ParseKey("ed25519", "whsk_n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU=")
	if err != nil {
		panic(err)
	}
	sent := httpsig.Message{
		Method:  http.MethodPost,
		URL:     &url.URL{Scheme: "https", Host: "hooks.example.com", Path: "/webhook"},
		Header:  http.Header{"Content-Type": {"application/json"}},
		Body:    []byte(`{"event":"pr.submitted"}`),
		Created: time.Now(),
	}
	headers, err := signer.Sign(sent, []httpsig.Key{private})
	if err != nil {
		panic(err)
	}
	for _, body := range []string{string(sent.Body), `{"event":"pr.approved"}`} {
		r := httptest.NewRequest(sent.Method, "/webhook", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		for _, h := range headers {
			r.Header.Set(h.Name, h.Value)
		}
		receive(httptest.NewRecorder(), r)
	}
	// Output:
	// received: {"event":"pr.submitted"}
	// refused: true
}
