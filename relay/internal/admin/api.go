package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// APIOptions say what an API is for, and for whom.
type APIOptions struct {
	Control  Control
	Snapshot func() Snapshot
	Access   *Access
	Version  string
	Logger   *slog.Logger

	bodyWithin time.Duration // how long a request's body may take; 0 for 10s
}

// API answers under /api: /api/openapi.json to everybody, since it holds
// nothing but what is in this package, and the operations under /api/v1 to who
// has a token.
type API struct {
	APIOptions
	mux      *http.ServeMux // the operations
	huma     huma.API
	document []byte
	busy     *rooms // for requests that are worked on
	testing  *rooms // for tests that are sent

	listeners listeners
}

// Bounds of what the API takes on. Lists and their pages have their own.
const (
	maxURI     = 4 << 10  // bytes of a request's path and query
	smallBody  = 4 << 10  // bytes of a body that has a reason at most
	maxPayload = 1 << 20  // bytes of a body with a payload
	maxBusy    = 16       // requests at once; more wait
	maxOwnBusy = 4        // of those a tenant's
	maxTests   = 4        // tests at once; more are refused
	maxOwnTest = 1        // of those a tenant's
	maxText    = 64 << 10 // bytes of a payload or body in an answer

	answerWithin = 20 * time.Second
	testWithin   = 6 * time.Minute  // an endpoint's timeout is 5m at most
	writeWithin  = 10 * time.Second // after either of these
)

const apiPrefix = "/api/v1"

// NewAPI returns the API for its options.
func NewAPI(o APIOptions) (*API, error) {
	a := &API{
		APIOptions: o, mux: http.NewServeMux(), busy: newRooms(maxBusy, maxOwnBusy), testing: newRooms(maxTests, maxOwnTest),
	}
	a.bodyWithin = cmp.Or(a.bodyWithin, 10*time.Second)
	// Not huma.DefaultConfig: its routes for documents, schemas and a page with
	// scripts from elsewhere stay off.
	a.huma = humago.NewWithPrefix(a.mux, apiPrefix, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Posthorn", Version: o.Version,
				Description: "What operators see and do. Errors are problems as in RFC 9457; lists come in pages, newest or first in the alphabet first.",
			},
			Components: &huma.Components{
				Schemas:         huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer", Description: "A token of http.tokens, or a portal token; the role that an operation lists is the least that it takes."}},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{withoutValues},
	})
	a.endpointOperations()
	a.definitionOperations()
	a.deliveryOperations()
	a.replayOperations()
	a.statsOperations()
	a.relayOperations()
	a.accessOperations()
	a.liveOperations()
	a.mux.HandleFunc("/", a.noSuchOperation)
	var err error
	if a.document, err = json.Marshal(a.huma.OpenAPI()); err != nil {
		return nil, fmt.Errorf("write the API's OpenAPI document: %w", err)
	}
	return a, nil
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	harden(w.Header())
	denied := a.Access.admit(r)
	switch {
	case denied != nil:
		denied.write(w)
	case r.URL.Path == "/api/openapi.json" && !changes(r):
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(a.document)
	default:
		a.serveKnown(w, r)
	}
}

// serveKnown serves who is known.
func (a *API) serveKnown(w http.ResponseWriter, r *http.Request) {
	who, denied := a.Access.know(r)
	if denied != nil {
		denied.write(w)
		return
	}
	who.conn = http.NewResponseController(w)
	a.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, who)))
}

// noSuchOperation answers for what has no operation, or not by this method.
func (a *API) noSuchOperation(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		other := *r
		other.Method = method
		if _, pattern := a.mux.Handler(&other); pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		refuse(w, http.StatusNotFound, "there is no such operation: /api/openapi.json lists them")
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	refuse(w, http.StatusMethodNotAllowed, "this takes "+strings.Join(allowed, " and ")+" only")
}

// operation is one operation of the API.
type operation struct {
	id, method, path string
	summary, doc     string
	role             Role  // the least
	creates          bool  // it answers 201 Created
	portal           bool  // whether a tenant may use it: what it does is bounded to the tenant's own
	body             int64 // most bytes of the request's; 0 for smallBody
	within           time.Duration
	errors           []int          // beside those that every operation has
	answer           *huma.Response // of a success; nil: what it does shows
}

// register adds an operation, which do answers. Its errors become problems.
func register[I, O any](a *API, o operation, do func(context.Context, *Caller, *I) (*O, error)) {
	errs := append([]int{
		http.StatusUnauthorized, http.StatusForbidden, http.StatusMisdirectedRequest, http.StatusUnprocessableEntity,
		http.StatusTooManyRequests, http.StatusServiceUnavailable,
	}, o.errors...)
	if _, hasBody := reflect.TypeFor[I]().FieldByName("Body"); hasBody {
		errs = append(errs, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	slices.Sort(errs)
	if o.portal {
		o.doc += " A portal token may use it, for what is its tenant's."
	}
	responses := map[string]*huma.Response{}
	if o.answer != nil {
		responses[strconv.Itoa(http.StatusOK)] = o.answer
	}
	success := http.StatusOK
	if o.creates {
		success = http.StatusCreated
	}
	huma.Register(a.huma, huma.Operation{
		DefaultStatus: success,
		OperationID:   o.id, Method: o.method, Path: o.path, Summary: o.summary, Description: o.doc, Responses: responses,
		Security: []map[string][]string{{"token": {o.role.String()}}}, Errors: slices.Compact(errs),
		MaxBodyBytes: max(o.body, smallBody), BodyReadTimeout: a.bodyWithin, Middlewares: huma.Middlewares{a.require(o)},
	}, func(ctx context.Context, in *I) (*O, error) {
		who := callerOf(ctx)
		// What the server allows for an answer is too short for some operations.
		// Every connection can, but for those of tests.
		_ = who.conn.SetWriteDeadline(time.Now().Add(answerWithin + writeWithin))
		_ = who.conn.SetReadDeadline(time.Time{}) // the body's: it has been read
		leave, err := a.room(ctx, who)
		if err != nil {
			return nil, err
		}
		defer leave()
		within := max(o.within, answerWithin)
		_ = who.conn.SetWriteDeadline(time.Now().Add(within + writeWithin))
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		out, err := do(ctx, who, in)
		_ = who.conn.SetWriteDeadline(time.Now().Add(writeWithin))
		if err != nil {
			return nil, a.problem(ctx, o.id, err)
		}
		return out, nil
	})
}

// room waits for a while until a request may be worked on. Its body has been read:
// who sends that slowly keeps nobody from anything.
func (a *API) room(ctx context.Context, who *Caller) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	leave, ok := a.busy.enter(who, ctx.Done())
	if !ok {
		return nil, huma.ErrorWithHeaders(huma.Error503ServiceUnavailable("too many requests are being worked on"), http.Header{"Retry-After": {"5"}})
	}
	return leave, nil
}

// require returns what lets only those pass who may use an operation.
func (a *API) require(o operation) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		who := callerOf(ctx.Context())
		switch {
		case who.Role < o.role:
			_ = huma.WriteErr(a.huma, ctx, http.StatusForbidden, fmt.Sprintf("this takes the role %s; the token's is %s", o.role, who.Role))
		case who.Tenant != "" && !o.portal:
			_ = huma.WriteErr(a.huma, ctx, http.StatusForbidden, "this is not for a tenant's portal")
		default:
			next(ctx)
		}
	}
}

// problem returns what an operation's error is for who asked. What is no
// business of theirs is logged.
func (a *API) problem(ctx context.Context, id string, err error) error {
	var known huma.StatusError
	var refused *ledger.RefusedError
	var wrong *InvalidError
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, ledger.ErrUnknownEndpoint), errors.Is(err, ledger.ErrUnknownDelivery), errors.Is(err, ledger.ErrUnknownReplay):
		return huma.Error404NotFound(err.Error())
	case errors.As(err, &wrong):
		return wrong.problem()
	case errors.Is(err, ledger.ErrOtherRequest):
		return invalid("header.Idempotency-Key", err.Error())
	case errors.Is(err, ledger.ErrConfigured), errors.Is(err, ledger.ErrChanged), errors.As(err, &refused):
		return huma.Error409Conflict(err.Error())
	case errors.Is(ctx.Err(), context.Canceled): // nobody waits for an answer
		return huma.Error503ServiceUnavailable("the request was cancelled, or the relay stops")
	}
	a.Logger.LogAttrs(ctx, slog.LevelWarn, "API request failed", slog.String("operation", id), slog.Any("err", err))
	return huma.Error503ServiceUnavailable("it could not be done, the relay's log says why; try again later")
}

// invalid returns the problem of one field of the request, such as query.since.
func invalid(field, message string) error {
	return huma.Error422UnprocessableEntity("validation failed", &huma.ErrorDetail{Location: field, Message: message})
}

// withoutValues keeps what was sent out of problems: it may be long, and it
// may be a secret in the wrong place.
func withoutValues(_ huma.Context, _ string, v any) (any, error) {
	if problem, ok := v.(*huma.ErrorModel); ok {
		for _, e := range problem.Errors {
			e.Value = nil
		}
	}
	return v, nil
}

// refuse answers with a problem, outside of operations.
func refuse(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(&huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail})
}

// denial is why somebody is not let in.
type denial struct {
	status     int
	detail     string
	challenge  string        // WWW-Authenticate
	retryAfter time.Duration // 0 for none
}

func (d *denial) write(w http.ResponseWriter) {
	d.headers(w.Header())
	refuse(w, d.status, d.detail)
}
