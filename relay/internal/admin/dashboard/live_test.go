package dashboard

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// sessions is a ledger of at most one session.
type sessions struct {
	mu   sync.Mutex
	open *ledger.Session
}

func (s *sessions) OpenSession(_ context.Context, opened ledger.Session, _ ledger.Actor) error {
	s.set(&opened)
	return nil
}

func (s *sessions) Session(context.Context, [sha256.Size]byte) (*ledger.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return nil, ledger.ErrUnknownSession
	}
	return s.open, nil
}

func (s *sessions) CloseSession(context.Context, [sha256.Size]byte, string) error {
	s.set(nil)
	return nil
}

func (s *sessions) Note(context.Context, ledger.Actor, ledger.Entry) error { return nil }

func (s *sessions) set(to *ledger.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = to
}

func TestALivePageEndsWithItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const token = "viewer-0102030405060708090a"
		kept := &sessions{}
		access := admin.NewAccess(admin.AccessOptions{
			Listen: "127.0.0.1:8080", Tokens: []admin.Token{{Name: "watcher", Role: admin.Viewer, Hash: sha256.Sum256([]byte(token))}},
			Sessions: kept, Logger: slog.New(slog.DiscardHandler),
		})
		d, err := New(Options{Control: newFake(time.Now()), Access: access, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		access.Mount(mux)
		mux.Handle(Base+"/", d)
		login := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost:8080"+Base+"/login", strings.NewReader(url.Values{"token": {token}}.Encode()))
		login.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, login)
		live := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:8080"+Base+"/deliveries/live", http.NoBody)
		for _, c := range w.Result().Cookies() {
			live.AddCookie(c)
		}
		time.AfterFunc(90*time.Second, func() { kept.set(nil) })
		began := time.Now()
		w = httptest.NewRecorder()
		mux.ServeHTTP(w, live)
		if took := time.Since(began); w.Code != http.StatusOK || took < 90*time.Second || took > 151*time.Second {
			t.Errorf("it is live for %s: %d %.100s", took, w.Code, w.Body)
		}
	})
}
