package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// tokenBytes bounds the answer of a token endpoint.
const tokenBytes = 64 << 10

// A token is used for all of its lifetime but a tenth, or tokenMargin if that
// is less, so that it does not end on the way. One that comes without a
// lifetime is taken to have usualLifetime, since not every receiver says 401 to
// a token that is too old.
const (
	tokenMargin   = time.Minute
	usualLifetime = time.Hour
)

// OAuth2 is how to get a token by the client credentials grant of RFC 6749.
type OAuth2 struct {
	TokenURL               *url.URL
	ClientID, ClientSecret string
	Scopes                 []string
}

// OAuth2 authenticates by tokens that are fetched when they are needed, through
// the same guard as every request and with the default TLS. One is used until
// shortly before it expires or until an endpoint refuses it. ID and secret are
// sent in the header; a token endpoint that refuses them there is asked again
// with both in the body, and that way from then on if it is the right one.
func (c *Client) OAuth2(o OAuth2) Auth {
	return &oauth2Auth{
		transport: func(t TLS) (http.RoundTripper, error) { return c.transportFor(t) },
		grant: clientcredentials.Config{
			ClientID: o.ClientID, ClientSecret: o.ClientSecret,
			TokenURL: o.TokenURL.String(), Scopes: o.Scopes,
		},
		turn: make(chan struct{}, 1),
	}
}

type oauth2Auth struct {
	transport func(TLS) (http.RoundTripper, error)
	grant     clientcredentials.Config
	turn      chan struct{} // full while somebody fetches

	mu      sync.Mutex
	token   string
	until   time.Time
	fetches int   // how many have ended
	err     error // of the last one
}

func (a *oauth2Auth) authorize(ctx context.Context, h *Header) error {
	token, err := a.current(ctx)
	if err != nil {
		return fmt.Errorf("fetch token: %w", err)
	}
	h.Set("Authorization", "Bearer "+token)
	return nil
}

// refused forgets the token that h carries. Another attempt may have done so
// before, and fetched the next one.
func (a *oauth2Auth) refused(h Header) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if h.Get("Authorization") == "Bearer "+a.token {
		a.token = ""
	}
	return true
}

// current returns the token, and fetches one if there is none. Attempts that
// need one at the same time take turns: the first fetches, with what is left
// of its own time, and the others find its token, or fail as it did. When only
// its time was over, the next one fetches.
func (a *oauth2Auth) current(ctx context.Context) (string, error) {
	token, fetches, _ := a.cached()
	if token != "" {
		return token, nil
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	token, now, err := a.cached()
	if token != "" || now != fetches && err != nil {
		return token, err
	}
	answer, ok := within(ctx, func() tokenAnswer { return a.fetch(ctx) })
	if !ok {
		answer.err = context.Cause(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fetches++
	a.token, a.until, a.err = answer.token, time.Now().Add(answer.lifetime-min(answer.lifetime/10, tokenMargin)), answer.err
	if ctx.Err() != nil {
		a.err = nil
	}
	return answer.token, answer.err
}

// cached returns the token, or "" if there is none to use, and how many fetches
// have ended and with what the last one did.
func (a *oauth2Auth) cached() (token string, fetches int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Now().Before(a.until) {
		token = a.token
	}
	return token, a.fetches, a.err
}

// tokenAnswer is what came of a token request.
type tokenAnswer struct {
	token    string
	lifetime time.Duration
	err      error
}

// fetch asks the token endpoint. Its errors hold nothing that the endpoint
// sent but the status and the error's code.
func (a *oauth2Auth) fetch(ctx context.Context) tokenAnswer {
	transport, err := a.transport(TLS{})
	if err != nil {
		return tokenAnswer{err: err}
	}
	ctx = new(timings).trace(ctx) // they are not the attempt's, and nobody asks for them
	bounded := &tokenTransport{base: transport}
	client := &http.Client{
		Transport:     bounded,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := a.grant.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
	if err != nil {
		return tokenAnswer{err: a.explain(ctx, err, bounded.status)}
	}
	if !strings.EqualFold(answer.TokenType, "bearer") && answer.TokenType != "" {
		return tokenAnswer{err: errors.New("the token endpoint answered with a token that is not a bearer token")}
	}
	if !isToken(answer.AccessToken) {
		return tokenAnswer{err: errors.New("the token endpoint answered with a token that holds characters that no token may")}
	}
	lifetime := time.Until(answer.Expiry)
	if lifetime <= 0 { // none, or a way to say never
		lifetime = usualLifetime
	}
	return tokenAnswer{token: answer.AccessToken, lifetime: lifetime}
}

// explain returns err as one line for people, never with an URL, a body or
// what a decoder says of it: they may hold credentials.
func (a *oauth2Auth) explain(ctx context.Context, err error, status int) error {
	if refusal, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		status = refusal.Response.StatusCode
		if code := refusal.ErrorCode; isCode(code) && (a.grant.ClientSecret == "" || !strings.Contains(code, a.grant.ClientSecret)) {
			return fmt.Errorf("the token endpoint answered %d (%s)", status, code)
		}
		return fmt.Errorf("the token endpoint answered %d", status)
	}
	if failure, ok := errors.AsType[*url.Error](err); ok {
		return explain(ctx, failure.Err, bySystem)
	}
	return fmt.Errorf("the token endpoint answered %d, but with no token that RFC 6749 would know", status)
}

// isCode reports whether code is like those of RFC 6749, section 5.2.
func isCode(code string) bool {
	for _, r := range code {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-.", r) {
			return false
		}
	}
	return code != "" && len(code) <= 64
}

// tokenTransport reads answers of a token endpoint to their end, which must be
// within tokenBytes, and remembers the status of the last one.
type tokenTransport struct {
	base   http.RoundTripper
	status int
}

func (t *tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	t.status = res.StatusCode
	body, err := io.ReadAll(io.LimitReader(res.Body, tokenBytes+1))
	if err != nil {
		return nil, err
	}
	if len(body) > tokenBytes {
		return nil, fmt.Errorf("the token endpoint answered %d with more than %d KiB", res.StatusCode, tokenBytes>>10)
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}
