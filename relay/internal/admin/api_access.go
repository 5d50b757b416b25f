package admin

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"time"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// auditEntry is an entry of the audit as the API shows it.
type auditEntry struct {
	ID      int64           `json:"id"`
	At      time.Time       `json:"at"`
	Actor   string          `json:"actor" doc:"Who, with how they came in: api:ops, web:ops, portal:jo, proxy:jane, cli:root@host, relay, configuration. To a tenant the host's people are all operator."`
	From    string          `json:"from,omitempty" doc:"The network address that it came from; absent for what was done on the spot."`
	Action  string          `json:"action"`
	Subject string          `json:"subject" doc:"The id of what it was done to; of a login the name."`
	Tenant  string          `json:"tenant,omitempty" doc:"Whose that is."`
	Detail  json.RawMessage `json:"detail,omitempty"`
	Before  json.RawMessage `json:"before,omitempty" doc:"What was changed, as it was, without secrets."`
	After   json.RawMessage `json:"after,omitempty" doc:"What was changed, as it is."`
}

type auditInput struct {
	PageInput
	Actor   string    `query:"actor" maxLength:"256" doc:"Only of this actor, such as api:ops."`
	Action  string    `query:"action" maxLength:"256" doc:"Only this action, such as endpoint.pause."`
	Subject string    `query:"subject" maxLength:"256" doc:"Only on what has this id."`
	Tenant  string    `query:"tenant" maxLength:"256" doc:"Only on what is this tenant's."`
	From    time.Time `query:"from" doc:"Only at or after this time."`
	Until   time.Time `query:"until" doc:"Only before this time."`
}

type auditPage struct {
	Entries []auditEntry `json:"entries" nullable:"false"`
	Next    string       `json:"next,omitempty" doc:"The next page's cursor; absent on the last page."`
}

type auditOutput struct{ Body auditPage }

// portalBody says for whom a portal token is to be.
type portalBody struct {
	Tenant    string `json:"tenant" minLength:"1" maxLength:"256" doc:"Whose endpoints and deliveries it opens, and no other's."`
	Subject   string `json:"subject" minLength:"1" maxLength:"128" doc:"Who uses it, for the audit: as the host application knows them."`
	Role      string `json:"role,omitempty" enum:"viewer,operator" default:"operator"`
	Profile   string `json:"profile,omitempty" maxLength:"256" doc:"Of the endpoints that are created with it."`
	ExpiresIn string `json:"expires_in,omitempty" maxLength:"40" default:"1h" doc:"How long it is good for, at most 24h, and so the sessions that it opens."`
}

type portalInput struct {
	OnceInput
	Body portalBody
}

// PortalToken is a new portal token.
type PortalToken struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
	URL       string    `json:"url" doc:"Where a browser is led to be let in, at the address by which it reaches the relay."`
}

type portalOutput struct{ Body PortalToken }

func (a *API) accessOperations() {
	register(a, operation{
		id: "list-audit", method: http.MethodGet, path: "/audit", role: Operator, portal: true,
		summary: "List the audit", doc: "Who did what, from where, and what it changed; the newest first.",
	}, a.listAudit)
	register(a, operation{
		id: "create-portal-token", method: http.MethodPost, path: "/portal-tokens", role: Admin, creates: true,
		summary: "Create a portal token", doc: "A short-lived token with which somebody of a tenant sees and manages what is that tenant's, by this API or in the dashboard. It needs a key in ledger.encryption_keys.",
		errors: []int{http.StatusConflict},
	}, a.createPortalToken)
}

func writeAuditCursor(id int64) string {
	return writeCursor(auditList, string(binary.BigEndian.AppendUint64(nil, uint64(id))))
}

func readAuditCursor(cursor string) (id int64, err error) {
	place, err := readCursor(auditList, cursor)
	if err != nil || place == "" {
		return 0, err
	}
	if len(place) != 8 {
		return 0, badCursor()
	}
	n := binary.BigEndian.Uint64([]byte(place))
	if n == 0 || n > math.MaxInt64 {
		return 0, badCursor()
	}
	return int64(n), nil
}

func (a *API) listAudit(ctx context.Context, who *Caller, in *auditInput) (*auditOutput, error) {
	for field, text := range map[string]string{"query.actor": in.Actor, "query.action": in.Action, "query.subject": in.Subject, "query.tenant": in.Tenant} {
		if err := checkText(field, text); err != nil {
			return nil, err
		}
	}
	for field, at := range map[string]time.Time{"query.from": in.From, "query.until": in.Until} {
		if err := checkTime(field, at); err != nil {
			return nil, err
		}
	}
	before, err := readAuditCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := a.Control.Audit(ctx, who, ledger.AuditFilter{
		Actor: in.Actor, Action: in.Action, Subject: in.Subject, Tenant: in.Tenant, From: in.From, Until: in.Until, Before: before, Limit: in.Limit + 1,
	})
	if err != nil {
		return nil, err
	}
	out := &auditOutput{auditPage{Entries: []auditEntry{}}}
	if len(list) > in.Limit {
		list = list[:in.Limit]
		out.Body.Next = writeAuditCursor(list[in.Limit-1].ID)
	}
	for _, e := range list {
		out.Body.Entries = append(out.Body.Entries, auditEntry(e))
	}
	return out, nil
}

func (a *API) createPortalToken(ctx context.Context, who *Caller, in *portalInput) (*portalOutput, error) {
	body := &in.Body
	for field, text := range map[string]string{"body.tenant": body.Tenant, "body.subject": body.Subject, "body.profile": body.Profile} {
		if err := checkText(field, text); err != nil {
			return nil, err
		}
	}
	lasts, err := time.ParseDuration(body.ExpiresIn)
	if err != nil || lasts < time.Minute || lasts > maxPortalFor {
		return nil, invalid("body.expires_in", "is a duration of 1m to 24h, such as 1h")
	}
	if body.Profile != "" && !a.Access.HasProfile(body.Profile) {
		return nil, invalid("body.profile", "is no profile of the configuration")
	}
	return once(ctx, a, who, "create-portal-token", &in.OnceInput, body, func(ctx context.Context) (*portalOutput, error) {
		token, err := a.Access.mint(ctx, who, portalClaims{Tenant: body.Tenant, Subject: body.Subject, Role: body.Role, Profile: body.Profile}, lasts)
		if err != nil {
			return nil, err
		}
		return &portalOutput{*token}, nil
	})
}
