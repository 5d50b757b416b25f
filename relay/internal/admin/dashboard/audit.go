package dashboard

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// auditBody is what the audit shows.
type auditBody struct {
	Rows    []auditRow
	Actor   string
	Action  string
	Subject string
	Tenant  string // of what it was done to
	From    string // as datetime-local, in UTC
	Until   string
	Actions []string
	Problem string // what of the filter makes no sense
	Next    string
}

// auditRow is an entry with what its subject is called, and its page.
type auditRow struct {
	ledger.AuditEntry
	Name, Path string
}

func auditRowOf(e *ledger.AuditEntry) auditRow {
	row := auditRow{AuditEntry: *e}
	var detail struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(e.Detail, &detail) == nil {
		row.Name = detail.Name
	}
	kind, verb, _ := strings.Cut(e.Action, ".")
	if path, ok := map[string]string{"endpoint": "/endpoints/", "delivery": "/deliveries/", "replay": "/replays/"}[kind]; ok && verb != "delete" {
		row.Path = path + url.PathEscape(e.Subject)
	}
	return row
}

// auditActions are what people look for most.
var auditActions = []string{
	"endpoint.create", "endpoint.edit", "endpoint.rotate", "endpoint.delete", "endpoint.pause", "endpoint.resume", "endpoint.disable", "endpoint.test",
	"delivery.retry", "replay.start", "replay.cancel", "portal.token", "login", "logout",
}

func (d *Dashboard) audit(q *request) (*answer, error) {
	v := q.URL.Query()
	text := func(name string) string { return cut(maxFilter, strings.TrimSpace(v.Get(name))) }
	b := &auditBody{Actor: text("actor"), Action: text("action"), Subject: text("subject"), From: text("from"), Until: text("until"), Actions: auditActions}
	if !q.portal() {
		b.Tenant = text("tenant")
	}
	a := &answer{page: "audit", title: "Audit", section: "audit", body: b}
	f := ledger.AuditFilter{Actor: b.Actor, Action: b.Action, Subject: b.Subject, Tenant: b.Tenant, Limit: pageSize + 1}
	if b.Problem = readTimes(b.From, b.Until, &f.From, &f.Until); b.Problem != "" {
		return a, nil
	}
	before, _ := strconv.ParseInt(v.Get("before"), 10, 64)
	f.Before = max(0, before)
	list, err := d.Control.Audit(q.Context(), q.who, f)
	if err != nil {
		return nil, err
	}
	more := len(list) > pageSize
	for i := range list[:min(len(list), pageSize)] {
		b.Rows = append(b.Rows, auditRowOf(&list[i]))
	}
	if more {
		next := url.Values{"before": {strconv.FormatInt(b.Rows[pageSize-1].ID, 10)}}
		for _, p := range []pair{{"actor", b.Actor}, {"action", b.Action}, {"subject", b.Subject}, {"tenant", b.Tenant}, {"from", b.From}, {"until", b.Until}} {
			if p.Value != "" {
				next.Set(p.Name, p.Value)
			}
		}
		b.Next = Base + "/audit?" + next.Encode()
	}
	return a, nil
}

// settingsBody is the configuration in effect.
type settingsBody struct{ Text string }

func (d *Dashboard) settings(*request) (*answer, error) {
	return &answer{page: "settings", title: "Settings", section: "settings", body: settingsBody{string(d.Settings())}}, nil
}
