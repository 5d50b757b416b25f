package egress

import (
	"context"
	"errors"
	"net/http"
	"strings"
)

// Auth authenticates requests to an endpoint. Use BasicAuth, BearerAuth or
// Client.OAuth2. It is safe for concurrent use.
type Auth interface {
	// authorize adds the credentials to req. It may send requests of its own,
	// within ctx. Its errors are one line for people, without secrets.
	authorize(ctx context.Context, req *http.Request) error
	// refused is told that the endpoint answered req with 401, once for each
	// attempt. It reports whether authorize would now give other credentials,
	// with which to try again.
	refused(req *http.Request) bool
}

// BasicAuth authenticates by user name and password, by RFC 7617. The name
// must not hold a colon: the receiver would take it for the name's end.
func BasicAuth(username, password string) Auth {
	return basicAuth{username, password}
}

type basicAuth struct{ username, password string }

func (a basicAuth) authorize(_ context.Context, req *http.Request) error {
	dropAuthorization(req)
	req.SetBasicAuth(a.username, a.password)
	return nil
}

func (basicAuth) refused(*http.Request) bool { return false }

// BearerAuth authenticates by a token that does not change, by RFC 6750.
func BearerAuth(token string) Auth { return bearerAuth(token) }

type bearerAuth string

func (a bearerAuth) authorize(_ context.Context, req *http.Request) error {
	if !isToken(string(a)) {
		return errors.New("the bearer token is empty or holds characters that no token may")
	}
	setBearer(req, string(a))
	return nil
}

func (bearerAuth) refused(*http.Request) bool { return false }

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

func setBearer(req *http.Request, token string) {
	dropAuthorization(req)
	req.Header.Set("Authorization", "Bearer "+token)
}

// dropAuthorization removes credentials in every spelling: headers are sent as
// they are spelt, and two would leave the choice to the receiver.
func dropAuthorization(req *http.Request) {
	for name := range req.Header {
		if strings.EqualFold(name, "Authorization") {
			delete(req.Header, name)
		}
	}
}
