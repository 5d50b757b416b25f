package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"syscall"
)

// ErrNotPermitted reports that Options.Permit said no before the whole request
// was sent, or before its answer had come on a connection that was given up for
// that: whether the receiver acted on it is not known.
var ErrNotPermitted = errors.New("sending is not permitted")

// failure is an error of a known kind, in words for people.
type failure struct {
	kind string
	error
}

func (f *failure) Unwrap() error { return f.error }

// Kind returns why an attempt got no complete answer, in one word: blocked,
// resolve, connect, tls, timeout or closed; "" for anything else.
func Kind(err error) string {
	if known, ok := errors.AsType[*failure](err); ok {
		return known.kind
	}
	if _, ok := errors.AsType[*BlockedError](err); ok {
		return "blocked"
	}
	if _, ok := errors.AsType[*resolveError](err); ok {
		return "resolve"
	}
	if _, ok := errors.AsType[*connectError](err); ok {
		return "connect"
	}
	return ""
}

var errClosed error = &failure{"closed", errors.New("the connection was closed before the answer was complete")}

// explain returns err as one line for people: never with a URL, which may carry
// credentials, nor with what a receiver sent, which may be our own headers. by says
// what can vouch for the server.
func explain(ctx context.Context, err error, by vouching) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotPermitted), timingsOf(ctx).refused():
		return ErrNotPermitted
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	if blocked, ok := errors.AsType[*BlockedError](err); ok {
		return blocked
	}
	if failed, ok := errors.AsType[*proxyError](err); ok {
		return fmt.Errorf("proxy: %w", explain(ctx, failed.err, bySystem))
	}
	if unknown, ok := errors.AsType[*resolveError](err); ok {
		return unknown
	}
	if reason := explainTLS(err, by); reason != nil {
		return &failure{"tls", reason}
	}
	if unreachable, ok := errors.AsType[*connectError](err); ok {
		return unreachable
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errClosed
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &failure{"closed", errors.New("the connection was reset before the answer was complete")}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return &failure{"timeout", errors.New("timed out")}
	}
	return explainAnswer(err)
}

// explainAnswer says what net/http does not like of an answer, in its words,
// for which there are no types, up to where it begins to quote.
func explainAnswer(err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	if _, ok := errors.AsType[textproto.ProtocolError](err); ok {
		return errors.New("the answer's header is not valid HTTP")
	}
	text, _, _ := strings.Cut(err.Error(), `"`)
	if text == "http: server closed idle connection" { // idle only in its eyes: a request was on its way
		return errClosed
	}
	return errors.New(clean(strings.TrimRight(goNames.Replace(text), " :;=(")))
}

// goNames are what net/http's errors hold and nobody needs who sends webhooks.
var goNames = strings.NewReplacer("net/http: ", "", "http2: ", "", "http: ", "", "HTTP/1.x transport connection broken: ", "", "; aborted", "")
