package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// endpointBody is what the page of one endpoint shows.
type endpointBody struct {
	*admin.EndpointDetail
	Health   health
	Settings []setting
	Forecast []forecastTry
	Jitter   string
	Newest   []ledger.Delivery
	Series   []ledger.Point
	Bars     *bars
	Span     span
	Spans    []span
	Types    []string
	Made     bool   // there is a new secret, or public key, to copy
	Secret   string // the one that was made: this page is the only one that shows it; "" where receivers need its public key only
	Fresh    bool   // the endpoint was made with it
	Graces   []grace
	Test     *testBody
	Verify   *verifying
	Own      bool   // it may be edited here
	Key      string // of the form that rotates the secret, as Control.Once takes it
}

// grace is how long an old secret may go on signing.
type grace struct{ Key, Name string }

var graces = []grace{{"1h", "1 hour"}, {"24h", "24 hours"}, {"168h", "7 days"}, {"0s", "not at all"}}

// setting is a key of an endpoint with its value in effect.
type setting struct {
	Key, Value string
	Own        bool // it is the endpoint's, not its profile's or the default
}

// forecastTry is an attempt of a delivery that goes on failing.
type forecastTry struct {
	Number    int
	Wait, All time.Duration
}

func (d *Dashboard) showEndpoint(q *request) (*answer, error) {
	b, err := d.endpointBody(q)
	if err != nil {
		return nil, err
	}
	return &answer{page: "endpoint", title: b.Name, section: "endpoints", body: b}, nil
}

func (d *Dashboard) endpointBody(q *request) (*endpointBody, error) {
	detail, err := d.Control.Endpoint(q.Context(), q.who, q.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return d.bodyOf(q, detail)
}

func (d *Dashboard) bodyOf(q *request, detail *admin.EndpointDetail) (*endpointBody, error) {
	b := &endpointBody{EndpointDetail: detail, Health: healthOf(&detail.EndpointStatus), Span: spanOf(q), Spans: spans, Graces: graces, Own: detail.Origin == ledger.OfAPI, Key: newFormKey()}
	var err error
	if b.Newest, err = d.Control.List(q.Context(), q.who, ledger.Filter{Endpoint: detail.ID.String(), Limit: 10}); err != nil {
		return nil, err
	}
	stats, err := d.stats(q, detail.ID.String(), b.Span)
	if err != nil {
		return nil, err
	}
	b.Series, b.Bars = stats.Series, barsOf(stats.Series, b.Span.All)
	b.Settings = settingsOf(detail, q.portal())
	b.Forecast, b.Jitter = forecastOf(detail.Effective)
	b.Verify = verifyingOf(detail.Effective, detail.HasSecret, detail.PublicKey)
	for _, t := range d.Control.Catalogue() {
		if wants(detail.Patterns, t.Type) {
			b.Types = append(b.Types, t.Type)
		}
	}
	return b, nil
}

// settingsOf returns the keys in effect, in the order of the form.
func settingsOf(e *admin.EndpointDetail, portal bool) []setting {
	var effective, own map[string]json.RawMessage
	if json.Unmarshal(e.Effective, &effective) != nil {
		return nil
	}
	_ = json.Unmarshal(e.Document, &own) // of a configuration's there may be none
	var list []setting
	for _, key := range []string{"events", "objects", "triggers", "filter", "profile", "method", "content_type", "timeout", "headers", "body", "json",
		"signatures", "retry", "pause", "ordering", "concurrency", "rate_limit", "tls", "auth"} {
		value, ok := effective[key]
		if !ok || portal && !slices.Contains(portalSees, key) {
			continue
		}
		_, mine := own[key]
		list = append(list, setting{Key: key, Value: shown(value), Own: mine})
	}
	return list
}

// shown returns a value as people write it: texts without quotes, lists with
// commas, keys on lines of their own.
func shown(value json.RawMessage) string {
	var v any
	if json.Unmarshal(value, &v) != nil {
		return excerpt(value)
	}
	return asText(v, "\n")
}

// asText returns v, whose keys or items that are objects stand between.
func asText(v any, between string) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case string:
		return v
	case map[string]any:
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, key+": "+asText(v[key], ", "))
		}
		return strings.Join(parts, between)
	case []any:
		if len(v) == 0 {
			return "none"
		}
		separator := ", "
		if _, isMap := v[0].(map[string]any); isMap {
			separator = "\n"
		}
		var parts []string
		for _, item := range v {
			parts = append(parts, asText(item, ", "))
		}
		return strings.Join(parts, separator)
	}
	text, _ := json.Marshal(v) // numbers and bools always marshal
	return string(text)
}

// forecastOf returns the attempts that the schedule in effect allows, and how
// much each wait is spread.
func forecastOf(effective json.RawMessage) (tries []forecastTry, jitter string) {
	var in struct {
		Retry struct {
			Schedule []string `json:"schedule"`
			Jitter   float64  `json:"jitter"`
		} `json:"retry"`
	}
	if json.Unmarshal(effective, &in) != nil {
		return nil, ""
	}
	tries = []forecastTry{{Number: 1}}
	var all time.Duration
	for i, text := range in.Retry.Schedule {
		wait, err := time.ParseDuration(text)
		if err != nil {
			return nil, ""
		}
		all += wait
		tries = append(tries, forecastTry{i + 2, wait, all})
	}
	if in.Retry.Jitter > 0 {
		jitter = "±" + percent(in.Retry.Jitter)
	}
	return tries, jitter
}

// wants reports whether an endpoint with these patterns gets a type. It is the
// router's rule, for a hint: exact, "group.*" at any depth, or "*", which is all
// but posthorn's own.
func wants(patterns []string, eventType string) bool {
	for _, p := range patterns {
		group, isGroup := strings.CutSuffix(p, ".*")
		switch {
		case p == eventType, isGroup && strings.HasPrefix(eventType, group+"."):
			return true
		case p == "*" && !strings.HasPrefix(eventType, "posthorn."):
			return true
		}
	}
	return false
}

// back is where an action on an endpoint leads.
func back(q *request, done string) *answer {
	return &answer{redirect: "/endpoints/" + url.PathEscape(q.PathValue("id")) + "?done=" + done}
}

// reasonOf returns the reason that a form gives: one line, bounded.
func reasonOf(q *request) string {
	return cut(200, strings.Join(strings.Fields(q.PostForm.Get("reason")), " "))
}

func (d *Dashboard) pauseEndpoint(q *request) (*answer, error) {
	if _, err := d.Control.Pause(q.Context(), q.who, q.PathValue("id"), reasonOf(q)); err != nil {
		return nil, err
	}
	return back(q, "paused"), nil
}

func (d *Dashboard) resumeEndpoint(q *request) (*answer, error) {
	if _, err := d.Control.Resume(q.Context(), q.who, q.PathValue("id"), reasonOf(q)); err != nil {
		return nil, err
	}
	return back(q, "resumed"), nil
}

// enableEndpoint turns the endpoint on, or off where the form says so.
func (d *Dashboard) enableEndpoint(q *request) (*answer, error) {
	patch, done := `{"enabled":true}`, "enabled"
	if q.PostForm.Get("off") != "" {
		patch, done = `{"enabled":false}`, "disabled"
	}
	if _, err := d.Control.EditEndpoint(q.Context(), q.who, q.PathValue("id"), json.RawMessage(patch), 0); err != nil {
		return nil, err
	}
	return back(q, done), nil
}

// drainEndpoint makes all that waits for the endpoint due now.
func (d *Dashboard) drainEndpoint(q *request) (*answer, error) {
	detail, err := d.Control.Endpoint(q.Context(), q.who, q.PathValue("id"))
	if err != nil {
		return nil, err
	}
	r, err := d.Control.StartReplay(q.Context(), q.who, ledger.ReplayRequest{States: []ledger.State{ledger.Pending}, Endpoint: detail.ID.String()})
	if err != nil {
		return nil, err
	}
	return &answer{redirect: "/replays/" + r.ID.String()}, nil
}

// rotateSecret gives the endpoint another secret, and shows it: to the form that
// asked for it only.
func (d *Dashboard) rotateSecret(q *request) (*answer, error) {
	wait, err := time.ParseDuration(q.PostForm.Get("grace"))
	if err != nil || wait < 0 {
		return nil, errForm
	}
	id, r := q.PathValue("id"), admin.Rotation{Grace: wait, Secret: strings.TrimSpace(q.PostForm.Get("secret"))}
	revision, _ := strconv.ParseInt(q.PostForm.Get("revision"), 10, 64)
	made, err := d.once(q, "dashboard rotate", []any{id, r, revision}, func(ctx context.Context) (*admin.NewSecret, error) {
		detail, err := d.Control.Endpoint(ctx, q.who, id)
		if err != nil {
			return nil, err
		}
		if revision != 0 && revision != detail.Revision { // the secret, perhaps
			return nil, ledger.ErrChanged
		}
		return d.Control.RotateSecret(ctx, q.who, id, r)
	})
	if err != nil {
		return nil, err
	}
	return d.withSecret(q, made, false)
}

// withSecret shows an endpoint with the secret that was made for it. It is no
// redirect: the secret would have to be kept for the next request.
func (d *Dashboard) withSecret(q *request, made *admin.NewSecret, fresh bool) (*answer, error) {
	b, err := d.bodyOf(q, &made.EndpointDetail)
	if err != nil {
		return nil, err
	}
	b.Made, b.Secret, b.Fresh = made.Secret != "" || b.PublicKey != "", made.Secret, fresh
	if b.PublicKey != "" && !shares(b.Effective) {
		b.Secret = "" // who has it can sign: it is nobody's but the relay's
	}
	a := &answer{page: "endpoint", title: b.Name, section: "endpoints", body: b}
	if q.partial() {
		a.part = "secret"
	}
	return a, nil
}

// testBody is what came of a test.
type testBody struct {
	*admin.TestResult
	Refused  string // why nothing was sent
	Segments []segment
	Spoken   string
}

// Hint returns what to look at, where the result suggests something.
func (t *testBody) Hint() string {
	switch {
	case t.TestResult == nil || t.OK:
		return ""
	case t.Status == http.StatusUnauthorized || t.Status == http.StatusForbidden:
		return "The receiver refused the request: compare the secret on both sides, and that the receiver verifies the raw body."
	case t.Status == http.StatusNotFound:
		return "The receiver answers, but not at this path: compare the URL with the receiver's route."
	case t.Status >= 300 && t.Status < 400:
		return "Redirects are not followed: use the address that it redirects to."
	case t.Status >= 500:
		return "The receiver took the request and failed: its own log says why."
	case strings.Contains(t.Error, "certificate"):
		return "The receiver's certificate was not accepted."
	}
	return ""
}

func (d *Dashboard) testEndpoint(q *request) (*answer, error) {
	t, err := d.test(q, q.PathValue("id"), q.PostForm.Get("type"), q.PostForm.Get("payload"))
	if err != nil {
		return nil, err
	}
	if q.partial() {
		return &answer{page: "endpoint", part: "test", body: t}, nil
	}
	b, err := d.endpointBody(q)
	if err != nil {
		return nil, err
	}
	b.Test = t
	return &answer{page: "endpoint", title: b.Name, section: "endpoints", body: b}, nil
}

// test sends a test. It is an error only where the endpoint is unknown or the
// caller may not: everything else is a result.
func (d *Dashboard) test(q *request, endpoint, eventType, payload string) (*testBody, error) {
	var sample []byte
	if strings.TrimSpace(payload) != "" {
		sample = []byte(payload)
	}
	result, err := d.Control.Test(q.Context(), q.who, endpoint, cut(maxFilter, eventType), sample)
	var refused *ledger.RefusedError
	switch {
	case err != nil && errors.As(err, &refused):
		return &testBody{Refused: sentence(refused)}, nil
	case err != nil:
		return nil, err
	}
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	t := &testBody{TestResult: result}
	t.Segments = segments(us(result.DNSus), us(result.ConnectUS), us(result.TLSus), us(result.FirstByteUS), us(result.TotalUS))
	t.Spoken = spoken(t.Segments)
	t.Body, t.Response = excerpt([]byte(result.Body)), excerpt([]byte(result.Response))
	return t, nil
}

// Took returns how long the test's attempt took.
func (t *testBody) Took() time.Duration { return time.Duration(t.TotalUS) * time.Microsecond }

func (d *Dashboard) confirmDelete(q *request) (*answer, error) {
	detail, err := d.Control.Endpoint(q.Context(), q.who, q.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return &answer{page: "delete", title: "Delete " + detail.Name, section: "endpoints", body: detail}, nil
}

func (d *Dashboard) deleteEndpoint(q *request) (*answer, error) {
	if err := d.Control.DeleteEndpoint(q.Context(), q.who, q.PathValue("id")); err != nil {
		return nil, err
	}
	return &answer{redirect: "/endpoints?done=deleted"}, nil
}
