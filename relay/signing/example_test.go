package signing_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/posthorn/posthorn/relay/signing"
)

// A receiver reads the body first, verifies those bytes, and decodes only then.
func ExampleSigner_Verify() {
	signer, err := signing.New(signing.Options{Scheme: "standard-webhooks"})
	if err != nil {
		panic(err)
	}
	key, err := signing.ParseKey("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		panic(err)
	}
	keys := []signing.Key{key} // while the secret is replaced: both

	receive := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "body is too large", http.StatusRequestEntityTooLarge)
			return
		}
		if err := signer.Verify(r.Header, body, keys, time.Now()); err != nil {
			http.Error(w, "invalid signature", http.StatusUnauthorized)
			fmt.Println("refused:", errors.Is(err, signing.ErrMismatch))
			return
		}
		fmt.Printf("received: %s\n", body)
	}

	body := `{"event":"pr.submitted"}`
	headers, err := signer.Sign(signing.Message{ID: "msg_1", Timestamp: time.Now(), Body: []byte(body)}, keys)
	if err != nil {
		panic(err)
	}
	for _, sent := range []string{body, `{"event":"pr.approved"}`} {
		r := httptest.NewRequest(http.MethodPost, "/webhook", strings.NewReader(sent))
		for _, h := range headers {
			r.Header.Set(h.Name, h.Value)
		}
		receive(httptest.NewRecorder(), r)
	}
	// Output:
	// received: {"event":"pr.submitted"}
	// refused: true
}
