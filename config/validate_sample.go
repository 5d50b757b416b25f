package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/posthorn/posthorn/transforms"
)

// The bounds on what templates may yield are those of a delivery. All samples
// together are bounded too: past samplesBudget, of which each pair of endpoint
// and sample takes pairCost and each text its length, no more are rendered.
const (
	maxHeaderSample = 8 << 10
	maxBodySample   = 64 << 20
	samplesBudget   = 64 << 20
	pairCost        = 1 << 10
)

// sampler renders templates for sample events, so that what would fail every
// delivery is found when the configuration is read.
type sampler struct {
	parsed map[string]parsed // by text
	done   map[rendering]bool
	left   int64

	// By the catalogue's entries.
	schemas []transforms.Transform // nil where there is none that is known and valid
	made    []*transforms.Message  // what transforms make of the examples; nil where nothing would be sent, or is not known
	at      int                    // index of the transform that was applied last
	// violation is how the last message violated a schema that warns.
	violation error
}

// parsed is a template, or why it is none.
type parsed struct {
	template *transforms.Template // nil for none
	err      error
}

// rendering is a template that was rendered: one of a profile is, once for each
// sample, although it can yield other texts for other endpoints' names.
type rendering struct {
	key, sample string
	json        bool
}

func newSampler(events int) sampler {
	return sampler{
		parsed: make(map[string]parsed), done: make(map[rendering]bool), left: samplesBudget,
		schemas: make([]transforms.Transform, events), made: make([]*transforms.Message, events),
	}
}

// sample is an event to render templates for.
type sample struct {
	name string // what problems call it; empty for the built-in one
	view transforms.View
}

const (
	sampleID   = "01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8d9e"
	sampleType = "order.created"
)

var sampleTime = time.Date(2026, 5, 22, 9, 30, 0, 0, time.UTC)

// newSample returns the view of an event of the given type on its way to endpoint.
func newSample(endpoint *Endpoint, eventType, payload string) sample {
	object, action := transforms.SplitType(eventType)
	or := func(text, other string) string {
		if text == "" {
			return other
		}
		return text
	}
	return sample{view: transforms.View{
		Event: transforms.Event{
			ID: sampleID, Type: eventType, Object: object, Action: action,
			Tenant: or(endpoint.Tenant, sampleID), Key: sampleID, CreatedAt: sampleTime, Headers: map[string]string{},
		},
		Payload:  transforms.JSON(payload),
		Delivery: transforms.Delivery{ID: sampleID, CreatedAt: sampleTime},
		Endpoint: transforms.Endpoint{ID: or(endpoint.ID, sampleID), Name: endpoint.Name, URL: shownURL(endpoint.URL), Tenant: endpoint.Tenant},
	}}
}

// shownURL returns what templates see of a URL, nothing of one that is not
// valid, which is reported where it stands.
func shownURL(u URL) string {
	parsed, err := url.Parse(u.Reveal())
	if err != nil {
		return ""
	}
	return transforms.EndpointURL(parsed)
}

// profileSamples renders a profile's headers for the built-in sample: which
// events it is used for only endpoints know.
func (v *validator) profileSamples(p place, profile *Profile) {
	builtIn := newSample(&Endpoint{Name: "sample", URL: "https://sample.example/"}, sampleType, "{}")
	for _, name := range slices.Sorted(maps.Keys(profile.Headers)) {
		v.sampleHeader(p.field("headers").field(name), profile.Headers[name], builtIn)
	}
}

// endpointSamples renders an endpoint's templates, its own and its profile's,
// for the built-in sample and for the catalogue's examples that it would get.
func (v *validator) endpointSamples(profile, p place, endpoint *Endpoint, filter *transforms.Filter) {
	written := func(keys ...string) place {
		own, inherited := p, profile
		for _, key := range keys {
			own, inherited = own.field(key), inherited.field(key)
		}
		if own.given {
			return own
		}
		return inherited
	}
	samples := append([]sample{newSample(endpoint, sampleType, "{}")}, v.wanted(p.field("filter"), endpoint, filter)...)
	names := slices.Sorted(maps.Keys(endpoint.Headers))
	headers := make([]place, len(names))
	for i, name := range names {
		headers[i] = written("headers", name)
	}
	body, isJSON := written("body"), isJSON(endpoint.ContentType)
	for _, s := range samples {
		if v.samples.left <= 0 {
			return
		}
		for i, name := range names {
			v.sampleHeader(headers[i], endpoint.Headers[name], s)
		}
		if s.name != "" && body.given {
			v.sampleBody(body, endpoint.Body, s, isJSON)
		}
	}
}

// wanted returns the catalogue's examples that endpoint would get, as transforms
// leave them. A filter that fails for one is reported at p.
func (v *validator) wanted(p place, endpoint *Endpoint, filter *transforms.Filter) []sample {
	var found []sample
	for i, event := range v.cfg.Events {
		if v.samples.left -= pairCost; v.samples.left <= 0 {
			break
		}
		if event.Example == "" || !endpoint.wants(event.Type) {
			continue
		}
		s := newSample(endpoint, event.Type, string(event.Example))
		s.name = exampleName(event.Type)
		if filter != nil {
			matches, err := filter.Match(transforms.NewSubject(s.view.Event, s.view.Payload))
			if err != nil {
				v.problems.add(p, "fails for %s: %s", s.name, strings.TrimPrefix(err.Error(), "evaluate filter: "))
			}
			if !matches {
				continue
			}
		}
		if m := v.samples.made[i]; m != nil {
			s.view.Payload = transforms.JSON(m.Payload)
			s.view.Event.Type, s.view.Event.Object, s.view.Event.Action = m.Event.Type, m.Event.Object, m.Event.Action
			s.view.Event.Headers = m.Event.Headers
			found = append(found, s)
		}
	}
	return found
}

// exampleName is what problems call the example of an event type.
func exampleName(eventType string) string { return fmt.Sprintf("the example of %q", eventType) }

// wants reports whether the endpoint's events, or objects and triggers, match
// events of a type.
func (e *Endpoint) wants(eventType string) bool {
	own := strings.HasPrefix(eventType, "posthorn.") // which "*" leaves out
	object, action := transforms.SplitType(eventType)
	if slices.Contains(e.Triggers, action) && (slices.Contains(e.Objects, object) || slices.Contains(e.Objects, "*") && !own) {
		return true
	}
	return transforms.MatchesType(e.Events, eventType)
}

func (v *validator) sampleHeader(p place, text string, s sample) {
	if s.name != "" && !strings.Contains(text, "{{") {
		return // the built-in sample said all
	}
	t := v.samples.template(rendering{key: p.key(), sample: s.name}, text)
	if t == nil {
		return
	}
	what := "a sample event"
	if s.name != "" {
		what = s.name
	}
	value, err := v.samples.render(t, text, s, maxHeaderSample, false)
	switch {
	case err != nil && s.name != "":
		v.problems.add(p, "fails for %s: %s", what, failure(p, err))
	case err == nil && !validHeaderValue(string(value)):
		v.problems.add(p, "yields a control character, such as a line break, for %s", what)
	}
}

func (v *validator) sampleBody(p place, text string, s sample, isJSON bool) {
	t := v.samples.template(rendering{key: p.key(), sample: s.name, json: isJSON}, text)
	if t == nil {
		return
	}
	if _, err := v.samples.render(t, text, s, maxBodySample, isJSON); err != nil {
		v.problems.add(p, "fails for %s: %s", s.name, failure(p, err))
	}
}

// template returns the template of a rendering that is still to be done, or
// nil for one that was done or whose text does not parse, which is reported
// where it stands.
func (r *sampler) template(todo rendering, text string) *transforms.Template {
	if r.done[todo] {
		return nil
	}
	t, err := r.parse(text)
	if err != nil {
		return nil
	}
	r.done[todo] = true
	return t
}

// parse is transforms.ParseTemplate, but for parsing the same text twice.
func (r *sampler) parse(text string) (*transforms.Template, error) {
	p, seen := r.parsed[text]
	if !seen {
		p.template, p.err = transforms.ParseTemplate(text)
		r.parsed[text] = p
	}
	return p.template, p.err
}

// fieldName is what could be the name of an event's header in a template.
var fieldName = regexp.MustCompile(`\.([\p{L}_][\p{L}\p{N}_]*)`)

// sampleHeaders are the values that headers of an event are tried with; the
// first stands for an event without them.
var sampleHeaders = []string{"", "1", sampleID}

// withHeaders returns the headers of an event, which transforms gave it, and
// each that text may ask for with value. It does not change given.
func withHeaders(given map[string]string, text, value string) map[string]string {
	headers := make(map[string]string)
	if value != "" {
		for _, m := range fieldName.FindAllStringSubmatch(text, -1) {
			headers[m[1]] = value
		}
	}
	maps.Copy(headers, given)
	return headers
}

// render returns what t, whose text is text, yields for s: valid JSON, if that
// is asked for. The catalogue says nothing of an event's headers, so that a
// template which fails without them is tried with some.
func (r *sampler) render(t *transforms.Template, text string, s sample, limit int64, wantJSON bool) ([]byte, error) {
	var first error
	given := s.view.Event.Headers
	for _, value := range sampleHeaders {
		s.view.Event.Headers = withHeaders(given, text, value)
		var b bytes.Buffer
		err := t.Execute(transforms.LimitWriter(&b, limit), &s.view)
		r.left -= int64(b.Len())
		if err == nil && wantJSON {
			if err = transforms.Valid(b.Bytes()); err != nil {
				err = fmt.Errorf("%w: %w", errNotJSON, err)
			}
		}
		if err == nil {
			return b.Bytes(), nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

var errNotJSON = errors.New("the body is not JSON")

// failure is what a problem at p says of render's error.
func failure(p place, err error) string {
	plain := "it cannot be rendered"
	if errors.Is(err, errNotJSON) {
		plain = errNotJSON.Error()
	}
	return quotable(p, strings.TrimPrefix(err.Error(), "template: "), plain)
}

// isJSON reports whether a body of this content type must be JSON.
func isJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "application/json" || strings.HasSuffix(t, "+json"))
}

// validHeaderValue reports whether a header can carry s: without control
// characters but tabs.
func validHeaderValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
