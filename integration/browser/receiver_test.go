package browser

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/posthorn/posthorn/relay/signing"
)

// receiver is a customer's: it verifies every request as the product's document
// says, and answers 401 to what does not verify.
type receiver struct {
	t      testing.TB
	server *httptest.Server
	signer *signing.Signer

	mu       sync.Mutex
	secrets  []string // it verifies with any of them
	answer   int      // to what verifies
	text     string
	requests []received
}

// received is a request that arrived.
type received struct {
	Method   string
	Path     string
	Header   http.Header
	Body     string
	Verified bool
}

// newReceiver returns a receiver that knows no secret yet.
func newReceiver(t testing.TB, signature signing.Options, secure bool) *receiver {
	t.Helper()
	signer, err := signing.New(signature)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{t: t, signer: signer, answer: http.StatusOK, text: "received"}
	if secure {
		r.server = httptest.NewTLSServer(r)
	} else {
		r.server = httptest.NewServer(r)
	}
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, 1<<20))
	if err != nil {
		r.t.Errorf("a request's body: %v", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	verified := r.verifies(q.Header, body)
	r.requests = append(r.requests, received{q.Method, q.URL.Path, q.Header, string(body), verified})
	if !verified {
		http.Error(w, "invalid signature", http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(r.answer)
	_, _ = io.WriteString(w, r.text) // the relay may have gone
}

func (r *receiver) verifies(h http.Header, body []byte) bool {
	var keys []signing.Key
	for _, secret := range r.secrets {
		key, err := signing.ParseKey("hmac", secret)
		if err != nil {
			r.t.Errorf("the secret that was copied: %v", err)
			return false
		}
		keys = append(keys, key)
	}
	return len(keys) > 0 && r.signer.Verify(h, body, keys, time.Now()) == nil
}

// knows sets the secrets that the receiver verifies by.
func (r *receiver) knows(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets = secrets
}

// answers sets what the receiver answers to what verifies.
func (r *receiver) answers(status int, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer, r.text = status, text
}

// arrived returns what has arrived since the first n requests.
func (r *receiver) arrived(n int) []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests[n:]
}

// authority returns the path of a file with the certificate of a receiver that
// speaks https.
func authority(t testing.TB, r *receiver) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
