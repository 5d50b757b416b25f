package browser

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestTab(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; form-action 'self'")
		if r.URL.Path != "/" {
			w.WriteHeader(404)
		}
		_, _ = w.Write([]byte(`<!doctype html><html lang="en"><title>x</title><link rel="icon" href="data:,"><body onload="alert(1)"><form action="/next"><label for="a">Name</label><input id="a" name="a"><button>Send it</button></form><style>p{color:red}</style><script>console.log("hi")</script></body></html>`))
	}))
	t.Cleanup(s.Close)
	b := newTab(t, s.URL)
	b.visit("/")
	b.fill("Name", "Zoë")
	b.submit("Send it")
	t.Log(b.describe())
	t.Log(b.problems)
}
