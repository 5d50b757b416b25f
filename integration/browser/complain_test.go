package browser

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

const broken = `<!doctype html>
<html lang="en"><title>Broken</title><link rel="icon" href="data:,"><script src="/broken.js" defer></script>
<body><p style="color: red">Broken</p><script>console.log("inline")</script><img src="/none.png" alt=""><input></body></html>`

// TestComplaintsAreSeen holds that the other tests would see what they must not:
// else an empty console says nothing.
func TestComplaintsAreSeen(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:")
		switch q.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, broken)
		case "/broken.js":
			w.Header().Set("Content-Type", "text/javascript")
			_, _ = io.WriteString(w, `console.warn("warned"); setTimeout(() => { throw new Error("thrown"); });`)
		default:
			http.NotFound(w, q)
		}
	}))
	t.Cleanup(s.Close)
	b := newTab(t, s.URL)
	b.visit("/")
	for _, want := range []string{"console.warning: \"warned\"", "exception: Uncaught Error: thrown", "Executing inline script violates", "Applying inline style violates", "status of 404", "issue ContentSecurityPolicyIssue", "issue GenericIssue"} {
		b.expect(want)
		eventually(t, func() error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if !slices.ContainsFunc(b.problems, func(p string) bool { return strings.Contains(p, want) }) {
				return fmt.Errorf("no %q among %q", want, b.problems)
			}
			return nil
		})
	}
}
