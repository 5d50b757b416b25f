package egress

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestCredentialsAreSent(t *testing.T) {
	tests := []struct {
		name   string
		auth   Auth
		header Header
		user   string // of the URL
		want   string
	}{
		{"basic", BasicAuth("Aladdin", "open sesame"), nil, "", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
		{"basic without password", BasicAuth("key", ""), nil, "", "Basic a2V5Og=="},
		{"bearer", BearerAuth("abc.DEF-_~+/="), nil, "", "Bearer abc.DEF-_~+/="},
		{"instead of the URL's", BearerAuth("abc"), nil, "u:p@", "Bearer abc"},
		{"instead of a header", BearerAuth("abc"), Header{{"Authorization", "Other x"}, {"Authorization", "Other y"}}, "", "Bearer abc"},
		{"instead of a header in lower case", BasicAuth("a", "b"), Header{{"authorization", "Other x"}}, "", "Basic YTpi"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Values("Authorization"); len(got) != 1 || got[0] != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				w.WriteHeader(http.StatusUnauthorized)
			}))
			defer server.Close()
			c := newClient(t, Options{Allow: loopback})
			target, err := c.Target(TLS{}, tt.auth)
			if err != nil {
				t.Fatal(err)
			}
			q := newRequest(t, strings.Replace(server.URL, "http://", "http://"+tt.user, 1))
			q.Target, q.Header = target, tt.header
			if r := c.Send(t.Context(), q); r.Err != nil || r.Status != http.StatusUnauthorized {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestTokensThatNoHeaderCarriesAreRefused(t *testing.T) {
	for _, token := range []string{"", "a b", "a\r\nX-Evil: 1", "a\n", "tab\t", "\x00", "ü", "\x7f"} {
		var h Header
		err := BearerAuth(token).authorize(t.Context(), &h)
		if err == nil || err.Error() != "the bearer token is empty or holds characters that no token may" || len(h) > 0 {
			t.Errorf("%q: got %v, %v", token, err, h)
		}
	}
}

// fakeAuth sends a number that grows when it is refused, up to last.
type fakeAuth struct {
	number, last, refusals int
	fail                   error
	wait                   bool // for the end of the context
}

func (a *fakeAuth) authorize(ctx context.Context, h *Header) error {
	if a.wait {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	h.Set("Authorization", strconv.Itoa(a.number))
	return a.fail
}

func (a *fakeAuth) refused(h Header) bool {
	a.refusals++
	if a.number == a.last || h.Get("Authorization") != strconv.Itoa(a.number) {
		return false
	}
	a.number++
	return true
}

func TestRefusedCredentialsAreRefreshedOnce(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, r.Header.Get("Authorization")+" "+string(body))
		if r.Header.Get("Authorization") != "2" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	tests := []struct {
		name     string
		auth     *fakeAuth
		want     []string
		status   int
		refusals int
	}{
		{"good ones", &fakeAuth{number: 2}, []string{`2 {"a":1}`}, 200, 0},
		{"fresh ones are good", &fakeAuth{number: 1, last: 9}, []string{`1 {"a":1}`, `2 {"a":1}`}, 200, 1},
		{"fresh ones are refused too", &fakeAuth{number: 0, last: 9}, []string{`0 {"a":1}`, `1 {"a":1}`}, 401, 1},
		{"there are no fresh ones", &fakeAuth{number: 1, last: 1}, []string{`1 {"a":1}`}, 401, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, Options{Allow: loopback})
			q := newRequest(t, strings.Replace(server.URL, "http://", "http://u:p@", 1))
			header := slices.Clone(q.Header)
			var err error
			if q.Target, err = c.Target(TLS{}, tt.auth); err != nil {
				t.Fatal(err)
			}
			got = nil
			r := c.Send(t.Context(), q)
			if r.Err != nil || r.Status != tt.status || !slices.Equal(got, tt.want) || tt.auth.refusals != tt.refusals {
				t.Errorf("got %+v after %q and %d refusals, want %d after %q", r, got, tt.auth.refusals, tt.status, tt.want)
			}
			if !slices.Equal(q.Header, header) {
				t.Errorf("the request's header became %v", q.Header)
			}
		})
	}
}

func TestNothingIsSentWithoutCredentials(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
	defer server.Close()
	c := newClient(t, Options{Allow: loopback})
	tests := []struct {
		name string
		auth *fakeAuth
		want string
	}{
		{"an error", &fakeAuth{fail: errors.New("fetch token: no")}, "fetch token: no"},
		{"no end", &fakeAuth{wait: true}, "no complete answer within 100ms"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := newRequest(t, server.URL)
			q.Timeout = 100 * time.Millisecond
			var err error
			if q.Target, err = c.Target(TLS{}, tt.auth); err != nil {
				t.Fatal(err)
			}
			if r := c.Send(t.Context(), q); r.Err == nil || r.Err.Error() != tt.want {
				t.Errorf("got %+v, want %s", r, tt.want)
			}
		})
	}
}
