package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const clientSecret = "correct horse/battery"

// issuer is a token endpoint that numbers its tokens.
type issuer struct {
	*httptest.Server
	fetches atomic.Int32
}

func newIssuer(t *testing.T, answer func(w http.ResponseWriter, n int)) *issuer {
	t.Helper()
	s := new(issuer)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if r.Method != http.MethodPost || r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != "read write" ||
			id != "posthorn" || secret != url.QueryEscape(clientSecret) {
			t.Errorf("got %s, %v, %s:%s", r.Method, r.Form, id, secret)
		}
		answer(w, int(s.fetches.Add(1)))
	}))
	t.Cleanup(s.Close)
	return s
}

func tokens(w http.ResponseWriter, n int) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"Bearer","expires_in":3600}`, n)
}

// grant returns what oauth2 asks of the token endpoint at address.
func grant(t *testing.T, address string) OAuth2 {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return OAuth2{TokenURL: u, ClientID: "posthorn", ClientSecret: clientSecret, Scopes: []string{"read", "write"}}
}

// endpoint takes the tokens that accept does, and counts requests.
func endpoint(t *testing.T, accept func(token string) bool) (address string, requests *atomic.Int32) {
	t.Helper()
	requests = new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != `{"a":1}` {
			t.Errorf("got %q, %v", body, err)
		}
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !accept(token) {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = io.WriteString(w, token)
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

// sendWith makes one attempt at address by c.
func sendWith(t *testing.T, c *Client, a Auth, address string) Response {
	t.Helper()
	target, err := c.Target(TLS{}, a)
	if err != nil {
		t.Fatal(err)
	}
	q := newRequest(t, address)
	q.Target = target
	return c.Send(t.Context(), q)
}

func TestTokenIsFetchedOnce(t *testing.T) {
	s := newIssuer(t, tokens)
	address, requests := endpoint(t, func(token string) bool { return token == "token-1" })
	c := newClient(t, Options{Allow: loopback})
	auth := c.OAuth2(grant(t, s.URL))
	for range 3 {
		if r := sendWith(t, c, auth, address); r.Err != nil || r.Status != 200 {
			t.Errorf("got %+v", r)
		}
	}
	if s.fetches.Load() != 1 || requests.Load() != 3 {
		t.Errorf("got %d fetches for %d requests", s.fetches.Load(), requests.Load())
	}
}

func TestRefusedTokenIsRefreshedOnce(t *testing.T) {
	tests := []struct {
		name              string
		accept            func(token string) bool
		status            int
		fetches, requests int32
	}{
		{"the next is taken", func(token string) bool { return token == "token-2" }, 200, 2, 2},
		{"the next is refused", func(string) bool { return false }, 401, 2, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newIssuer(t, tokens)
			address, requests := endpoint(t, tt.accept)
			c := newClient(t, Options{Allow: loopback})
			r := sendWith(t, c, c.OAuth2(grant(t, s.URL)), address)
			if r.Err != nil || r.Status != tt.status || string(r.Excerpt) != "token-2" || s.fetches.Load() != tt.fetches || requests.Load() != tt.requests {
				t.Errorf("got %+v after %d fetches and %d requests", r, s.fetches.Load(), requests.Load())
			}
		})
	}
}

func TestTokenThatAnotherAttemptFetchedIsNotDropped(t *testing.T) {
	s := newIssuer(t, tokens)
	c := newClient(t, Options{Allow: loopback})
	auth := c.OAuth2(grant(t, s.URL))
	late, soon := new(Header), new(Header)
	for _, step := range []struct {
		refused bool
		header  *Header
		want    string
	}{{false, late, "token-1"}, {false, soon, "token-1"}, {true, soon, "token-2"}, {true, late, "token-2"}} {
		if step.refused && !auth.refused(*step.header) {
			t.Error("there is nothing to try again with")
		}
		if err := auth.authorize(t.Context(), step.header); err != nil || step.header.Get("Authorization") != "Bearer "+step.want {
			t.Errorf("got %v, %v, want %s", *step.header, err, step.want)
		}
	}
}

// roundTrip is a transport without a network, so that a test has the clock.
type roundTrip func(req *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func overFake(t *testing.T, f roundTrip) Auth {
	t.Helper()
	auth := (&Client{}).OAuth2(grant(t, "https://tokens.example/")).(*oauth2Auth)
	auth.transport = func(TLS) (http.RoundTripper, error) { return f, nil }
	return auth
}

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// authorized returns the token that a gives.
func authorized(ctx context.Context, a Auth) (string, error) {
	var h Header
	err := a.authorize(ctx, &h)
	return strings.TrimPrefix(h.Get("Authorization"), "Bearer "), err
}

func TestTokenIsFetchedAgainShortlyBeforeItExpires(t *testing.T) {
	tests := []struct {
		name, expiresIn string
		keep            time.Duration // how long the token is used
	}{
		{"none", "", time.Hour - time.Minute},
		{"zero", `,"expires_in":0`, time.Hour - time.Minute},
		{"negative", `,"expires_in":-1`, time.Hour - time.Minute},
		{"far below zero", `,"expires_in":-9000000000`, time.Hour - time.Minute},
		{"text", `,"expires_in":"7200"`, 2*time.Hour - time.Minute},
		{"two hours", `,"expires_in":7200`, 2*time.Hour - time.Minute},
		{"short", `,"expires_in":100`, 90 * time.Second},
		{"very short", `,"expires_in":1`, 900 * time.Millisecond},
		{"beyond all bounds", `,"expires_in":9000000000`, (1<<31-1)*time.Second - time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fetches := 0
				auth := overFake(t, func(*http.Request) (*http.Response, error) {
					fetches++
					return answer(200, fmt.Sprintf(`{"access_token":"t%d","token_type":"bearer"%s}`, fetches, tt.expiresIn)), nil
				})
				for _, step := range []struct {
					wait time.Duration
					want string
				}{{0, "t1"}, {tt.keep - time.Millisecond, "t1"}, {time.Millisecond, "t2"}} {
					time.Sleep(step.wait)
					if got, err := authorized(t.Context(), auth); err != nil || got != step.want {
						t.Errorf("got %s, %v after %s more, want %s", got, err, step.wait, step.want)
					}
				}
			})
		})
	}
}

func TestConcurrentAttemptsMakeOneFetch(t *testing.T) {
	tests := []struct {
		name, body string
		status     int
		want       string // the error
		requests   int
	}{
		{"a token", `{"access_token":"t","token_type":"bearer"}`, 200, "", 1},
		{"a failure, by both ways to send the secret", `{"error":"invalid_client"}`, 401, "fetch token: the token endpoint answered 401 (invalid_client)", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := 0 // one at a time, as the race detector sees
				auth := overFake(t, func(*http.Request) (*http.Response, error) {
					requests++
					time.Sleep(time.Second)
					return answer(tt.status, tt.body), nil
				})
				var wg sync.WaitGroup
				for range 50 {
					wg.Go(func() {
						token, err := authorized(t.Context(), auth)
						if tt.want == "" && (err != nil || token != "t") || tt.want != "" && (err == nil || err.Error() != tt.want) {
							t.Errorf("got %q, %v", token, err)
						}
					})
				}
				wg.Wait()
				if requests != tt.requests {
					t.Errorf("got %d requests, want %d", requests, tt.requests)
				}
				if _, err := authorized(t.Context(), auth); tt.want != "" && (err == nil || requests != tt.requests+2) {
					t.Errorf("a later attempt got %v after %d requests", err, requests)
				}
			})
		})
	}
}

func TestFetchOutlivesTheAttemptThatBeganIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := overFake(t, func(req *http.Request) (*http.Response, error) {
			select {
			case <-time.After(3 * time.Second):
				return answer(200, `{"access_token":"t","token_type":"bearer"}`), nil
			case <-req.Context().Done():
				return nil, req.Context().Err()
			}
		})
		over := errors.New("no complete answer in time")
		start := time.Now()
		var wg sync.WaitGroup
		attempt := func(timeout, ends time.Duration, want error) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), timeout, over)
			wg.Go(func() {
				defer cancel()
				token, err := authorized(ctx, auth)
				if !errors.Is(err, want) || want == nil && token != "t" || time.Since(start) != ends {
					t.Errorf("got %q, %v after %s, want %v after %s", token, err, time.Since(start), want, ends)
				}
			})
			synctest.Wait()
		}
		attempt(2*time.Second, 2*time.Second, over) // fetches, until its time is over
		attempt(time.Second, time.Second, over)     // waits no longer than its own time
		attempt(10*time.Second, 5*time.Second, nil) // then fetches itself
		attempt(10*time.Second, 5*time.Second, nil) // has that one's token
		wg.Wait()
	})
}

func TestTokenRequestGoesThroughTheGuard(t *testing.T) {
	s := newIssuer(t, tokens)
	address, requests := endpoint(t, func(string) bool { return true })
	c := newClient(t, Options{Allow: loopback, Deny: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}})
	r := sendWith(t, c, c.OAuth2(grant(t, strings.Replace(s.URL, "127.0.0.1", "127.0.0.2", 1))), address)
	if _, ok := errors.AsType[*BlockedError](r.Err); !ok || !strings.HasPrefix(r.Err.Error(), "fetch token: address 127.0.0.2 is blocked") {
		t.Errorf("got %v", r.Err)
	}
	if s.fetches.Load() != 0 || requests.Load() != 0 {
		t.Error("a request was sent")
	}
}

func TestTokenIsNotFetchedWithoutPermission(t *testing.T) {
	s := newIssuer(t, tokens)
	address, requests := endpoint(t, func(string) bool { return true })
	c := newClient(t, Options{Allow: loopback, Permit: func() bool { return false }})
	if r := sendWith(t, c, c.OAuth2(grant(t, s.URL)), address); !errors.Is(r.Err, ErrNotPermitted) {
		t.Errorf("got %v", r.Err)
	}
	if s.fetches.Load() != 0 || requests.Load() != 0 {
		t.Error("a request was sent")
	}
}

// serveBytes answers whatever arrives first with answer.
func serveBytes(t *testing.T, answer string) string {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Read(make([]byte, 1<<14)); err == nil {
				_, _ = io.WriteString(c, answer)
				_, _ = io.Copy(io.Discard, c) // a close with bytes unread would reset
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return "https://" + listener.Addr().String()
}

func TestHangingTokenEndpointEndsWithTheAttempt(t *testing.T) {
	address, requests := endpoint(t, func(string) bool { return true })
	hanging := serveBytes(t, "")
	c := newClient(t, Options{Allow: loopback})
	target, err := c.Target(TLS{}, c.OAuth2(grant(t, strings.Replace(hanging, "https", "http", 1))))
	if err != nil {
		t.Fatal(err)
	}
	q := newRequest(t, address)
	q.Target, q.Timeout = target, 300*time.Millisecond
	r := c.Send(t.Context(), q)
	if r.Err == nil || r.Err.Error() != "fetch token: no complete answer within 300ms" || r.Total > q.Timeout+time.Second || requests.Load() != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestSecretIsSentInTheBodyWhereTheHeaderIsRefused(t *testing.T) {
	forms := 0
	auth := overFake(t, func(req *http.Request) (*http.Response, error) {
		if req.Header.Get("Authorization") != "" {
			return answer(401, `{"error":"invalid_client"}`), nil
		}
		if err := req.ParseForm(); err != nil || req.PostForm.Get("client_id") != "posthorn" || req.PostForm.Get("client_secret") != clientSecret {
			t.Errorf("got %v, %v", req.PostForm, err)
		}
		forms++
		return answer(200, `{"access_token":"t"}`), nil
	})
	if token, err := authorized(t.Context(), auth); err != nil || token != "t" || forms != 1 {
		t.Errorf("got %q, %v after %d forms", token, err, forms)
	}
}

func TestHostileTokenAnswers(t *testing.T) {
	const noToken = "the token endpoint answered 200, but with no token that RFC 6749 would know"
	const noHeader = "the token endpoint answered with a token that holds characters that no token may"
	tests := []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"refused", 400, `{"error":"invalid_scope","error_description":"` + clientSecret + `"}`, "the token endpoint answered 400 (invalid_scope)"},
		{"refused with 200", 200, `{"error":"invalid_client"}`, "the token endpoint answered 200 (invalid_client)"},
		{"refused with the secret", 401, `{"error":"for-hunter2"}`, "the token endpoint answered 401"},
		{"refused with a line break", 401, `{"error":"a\nb"}`, "the token endpoint answered 401"},
		{"refused at length", 401, `{"error":"` + strings.Repeat("x", 1000) + `"}`, "the token endpoint answered 401"},
		{"refused in HTML", 503, "<html>" + clientSecret, "the token endpoint answered 503"},
		{"redirected", 307, "", "the token endpoint answered 307"},
		{"HTML", 200, "<html>sign in</html>", noToken},
		{"empty", 200, "", noToken},
		{"null", 200, "null", noToken},
		{"an array", 200, `["token"]`, noToken},
		{"no token", 200, `{"token_type":"bearer"}`, noToken},
		{"a number for a token", 200, `{"access_token":31415926}`, noToken},
		{"cut off", 200, `{"access_token":"leak`, noToken},
		{"an odd lifetime", 200, `{"access_token":"leak","expires_in":"leak"}`, noToken},
		{"another type", 200, `{"access_token":"leak","token_type":"mac"}`, "the token endpoint answered with a token that is not a bearer token"},
		{"line break in the token", 200, `{"access_token":"leak\r\nX-Evil: 1"}`, noHeader},
		{"control character in the token", 200, `{"access_token":"leak\u0000"}`, noHeader},
		{"space in the token", 200, `{"access_token":"leak leak"}`, noHeader},
		{"other script in the token", 200, `{"access_token":"leäk"}`, noHeader},
		{"huge", 200, `{"access_token":"` + strings.Repeat("x", 1<<20), "the token endpoint answered 200 with more than 64 KiB"},
		{"huge failure", 500, strings.Repeat("x", 1<<20), "the token endpoint answered 500 with more than 64 KiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					t.Error("the redirect was followed")
				}
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			defer s.Close()
			o := grant(t, strings.Replace(s.URL, "http://", "http://u:hunter2@", 1))
			o.ClientSecret = "hunter2"
			token, err := authorized(t.Context(), newClient(t, Options{Allow: loopback}).OAuth2(o))
			if token != "" || err == nil || err.Error() != "fetch token: "+tt.want {
				t.Errorf("got %q, %v, want %s", token, err, tt.want)
			}
		})
	}
}

func TestUnreachableTokenEndpointIsAReadableError(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	const advice = "add it to the system's authorities or name a file of them in the environment variable SSL_CERT_FILE"
	private := newCertificate(t, "token.example", newAuthority(t, "MyCA", nil, nil), nil)
	selfSigned := newCertificate(t, "token.example", nil, nil)
	tests := []struct {
		name, address, want string
	}{
		{"plain HTTP", strings.Replace(s.URL, "http://", "https://u:hunter2@", 1), "fetch token: the server answered in plain HTTP, not in TLS"},
		{"self-signed", strings.Replace(serveTLS(t, &tls.Config{Certificates: []tls.Certificate{selfSigned}}), "https://", "https://u:hunter2@", 1) + "/?key=hunter2", "fetch token: the server's certificate is self-signed (if it is the right one, " + advice},
		{"unknown authority", serveTLS(t, &tls.Config{Certificates: []tls.Certificate{private}}), "fetch token: the server's certificate is signed by an authority that is not known, MyCA (if it is a private one, " + advice + "; the server may"},
		{"not found", s.URL + "/?key=hunter2", "fetch token: the token endpoint answered 404"},
		{"nobody listens", "http://u:hunter2@127.0.0.1:1/?key=hunter2", "fetch token: connect"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := authorized(t.Context(), newClient(t, Options{Allow: loopback}).OAuth2(grant(t, tt.address)))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	s.Close()
}
