package egress

import (
	"context"
	"encoding/base64"
	"errors"
)

// Auth authenticates requests to an endpoint. Use BasicAuth, BearerAuth or
// Client.OAuth2. It is safe for concurrent use.
type Auth interface {
	// authorize adds the credentials to h. It may send requests of its own,
	// within ctx. Its errors are one line for people, without secrets.
	authorize(ctx context.Context, h *Header) error
	// refused is told that the endpoint answered a request that carried h with
	// 401, once for each attempt. It reports whether authorize would now give
	// other credentials, with which to try again.
	refused(h Header) bool
}

// BasicAuth authenticates by user name and password, by RFC 7617. The name
// must not hold a colon: the receiver would take it for the name's end.
func BasicAuth(username, password string) Auth {
	return basicAuth(basic(username, password))
}

// basicAuth is the header's value.
type basicAuth string

func (a basicAuth) authorize(_ context.Context, h *Header) error {
	h.Set("Authorization", string(a))
	return nil
}

func (basicAuth) refused(Header) bool { return false }

func basic(username, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(username+":"+password))
}

// BearerAuth authenticates by a token that does not change, by RFC 6750.
func BearerAuth(token string) Auth { return bearerAuth(token) }

type bearerAuth string

func (a bearerAuth) authorize(_ context.Context, h *Header) error {
	if !isToken(string(a)) {
		return errors.New("the bearer token is empty or holds characters that no token may")
	}
	h.Set("Authorization", "Bearer "+string(a))
	return nil
}

func (bearerAuth) refused(Header) bool { return false }

// isToken reports whether a header can carry token: RFC 6749, appendix A.12,
// without the space, which would end it.
func isToken(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return token != ""
}
