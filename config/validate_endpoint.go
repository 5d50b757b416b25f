package config

import (
	"cmp"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/transforms"
)

func (v *validator) endpoints(root place) {
	names, ids := make(map[string]place), make(map[string]place)
	for i := range v.cfg.Endpoints {
		p, endpoint := root.field("endpoints").item(i), &v.cfg.Endpoints[i]
		v.identity(p, endpoint)
		v.unique(p.field("name"), endpoint.Name, names)
		v.unique(p.field("id"), endpoint.ID, ids)
		v.endpoint(root, p, endpoint)
	}
}

// endpoint checks what stands at p, but for its identity, by itself. root is the configuration's.
func (v *validator) endpoint(root, p place, endpoint *Endpoint) {
	v.url(p.field("url"), endpoint.URL)
	v.subscription(p, endpoint)
	filter := v.filter(p.field("filter"), endpoint.Filter)
	if at := p.field("profile"); at.given {
		if _, ok := v.cfg.Profiles[endpoint.ProfileName]; !ok {
			v.problems.add(at, "no profile of that name: %s", shown(at.node))
		}
	}
	v.profile(p, &endpoint.Profile)
	inherited := v.cfg.Profiles[endpoint.ProfileName].Signatures != nil
	if p.field("headers").given || p.field("signatures").given || p.field("auth").given || !inherited {
		v.headerConflicts(p, &endpoint.Profile)
	}
	profile := root.field("profiles").field(endpoint.ProfileName)
	v.components(profile, p, endpoint)
	v.credentials(profile, p, endpoint)
	v.secrets(root, p, endpoint)
	v.endpointSamples(profile, p, endpoint, filter)
}

func (v *validator) identity(p place, endpoint *Endpoint) {
	if at := p.field("name"); at.given {
		if n := utf8.RuneCountInString(endpoint.Name); n < 1 || n > 128 || !isPrintable(endpoint.Name) {
			v.problems.add(at, "must be 1 to 128 printable characters")
		}
	}
	if at := p.field("tenant"); at.given && (endpoint.Tenant == "" || !isPrintable(endpoint.Tenant)) {
		v.problems.add(at, "must be printable text; leave the key out for every tenant's events")
	}
	if at := p.field("id"); at.given && uuid.Validate(endpoint.ID) != nil {
		v.problems.add(at, "must be a UUID, got %s", shown(at.node))
	}
}

// unique reports value at p when it is in seen, and puts it there when not.
func (v *validator) unique(p place, value string, seen map[string]place) {
	if !p.given || value == "" {
		return
	}
	other, repeated := seen[value]
	if !repeated {
		seen[value] = p
		return
	}
	where := "line " + strconv.Itoa(other.node.line)
	if other.node.line == 0 {
		where = other.node.file
	}
	v.problems.add(p, "is repeated: %s is %s in %s already", shown(p.node), other.key(), where)
}

// url checks where requests go and returns it parsed, or nil when it is
// invalid or not given. Its messages quote nothing of the URL, whose every
// part may be a credential.
func (v *validator) url(p place, u URL) *url.URL {
	if !p.given {
		return nil // reported as required
	}
	parsed := v.anyURL(p, u, "http", "https")
	switch {
	case parsed == nil:
		return nil
	case strings.Contains(u.Reveal(), "#"):
		v.problems.add(p, "has a fragment (#…), which is never sent")
	case parsed.Scheme != "https" && v.cfg.Egress.RequireHTTPS:
		v.problems.add(p, "must begin with https://, since egress.require_https is set")
	default:
		return parsed
	}
	return nil
}

// anyURL checks a URL that has one of the given schemes, a host and at most a
// valid port. It returns nil for another.
func (v *validator) anyURL(p place, u URL, schemes ...string) *url.URL {
	parsed, err := url.Parse(u.Reveal())
	if err != nil {
		v.problems.add(p, "is no valid URL")
		return nil
	}
	port, err := strconv.ParseUint(parsed.Port(), 10, 16)
	switch {
	case !slices.Contains(schemes, parsed.Scheme): // in lower case: url.Parse sees to it
		last := len(schemes) - 1
		v.problems.add(p, "must begin with %s:// or %s://", strings.Join(schemes[:last], "://, "), schemes[last])
	case parsed.Hostname() == "":
		v.problems.add(p, "has no host")
	case parsed.Port() != "" && (err != nil || port == 0):
		v.problems.add(p, "has a port that is not 1 to 65535")
	default:
		return parsed
	}
	return nil
}

// proxy checks egress.proxy, of which nothing but scheme, user and host is used.
func (v *validator) proxy(p place, u URL) {
	if u == "" {
		return
	}
	parsed := v.anyURL(p, u, "http", "https", "socks5", "socks5h")
	if parsed != nil && (strings.TrimSuffix(parsed.Path, "/") != "" || strings.ContainsAny(u.Reveal(), "?#")) {
		v.problems.add(p, "must end after host and port")
	}
}

// compiled is a filter, or why it is none.
type compiled struct {
	filter *transforms.Filter
	err    error
}

// filter returns the compiled filter, or nil when there is none or it is
// invalid, which it reports.
func (v *validator) filter(p place, text string) *transforms.Filter {
	if text == "" {
		return nil
	}
	f, seen := v.filters[text]
	if !seen {
		f.filter, f.err = transforms.ParseFilter(text)
		v.filters[text] = f
	}
	if err := f.err; err != nil {
		message := strings.TrimPrefix(err.Error(), "parse filter: ")
		v.problems.add(p, "%s", quotable(p, message, plainFilterProblem(message)))
		return nil
	}
	return f.filter
}

// pattern checks one pattern of event types.
func (v *validator) pattern(p place, pattern string) {
	if pattern != "*" && !isEventType(strings.TrimSuffix(pattern, ".*")) {
		v.problems.add(p, `must be an exact type, "group.*" or "*", got %s`, shown(p.node))
	}
}

func (v *validator) subscription(p place, endpoint *Endpoint) {
	events, objects, triggers := p.field("events"), p.field("objects"), p.field("triggers")
	for i, pattern := range endpoint.Events {
		v.pattern(events.item(i), pattern)
	}
	for i, name := range endpoint.Objects {
		if at := objects.item(i); !isEventType(name) && (name != "*" || len(endpoint.Objects) > 1) {
			v.problems.add(at, `must be an object type without white space and *, or "*" alone, got %s`, shown(at.node))
		}
	}
	for i, name := range endpoint.Triggers {
		if at := triggers.item(i); !isEventType(name) || strings.Contains(name, ".") {
			v.problems.add(at, "must be an action without white space, * and dot, got %s", shown(at.node))
		}
	}
	switch hasEvents, hasObjects := len(endpoint.Events) > 0, len(endpoint.Objects) > 0; {
	case hasEvents && hasObjects:
		v.problems.add(objects, "excludes events: give one of them")
	case hasEvents && len(endpoint.Triggers) > 0:
		v.problems.add(triggers, "goes with objects, not with events")
	case hasObjects && len(endpoint.Triggers) == 0:
		v.problems.add(triggers, "is required with objects")
	case !hasEvents && !hasObjects:
		if v.problems.keys[objects.key()] {
			return
		}
		v.problems.add(events, "is required, or objects and triggers")
	}
}

func (v *validator) template(p place, text string) {
	if _, err := v.samples.parse(text); err != nil {
		v.problems.add(p, "%s", quotable(p, err.Error(), "it is no template"))
	}
}

// quotable is message, which may quote the value at p, or where that came
// through a reference plain, which says what is wrong without quoting.
func quotable(p place, message, plain string) string {
	if source := p.node.reference(); source != "" {
		return "is not valid with " + strconv.Quote(source) + " expanded: " + plain
	}
	return message
}

// reference returns the text with a reference that n came from, or one of its
// elements or fields; empty where there is none.
func (n *node) reference() string {
	source := n.source
	for _, item := range n.items {
		source = cmp.Or(source, item.reference())
	}
	return source
}

var (
	filterPlace = regexp.MustCompile(`^line [0-9]+, column [0-9]+: `)
	filterFault = regexp.MustCompile(`^(is empty|has [0-9]+ bytes, at most [0-9]+ are allowed|yields [A-Za-z_(), .]+, must yield bool)$`)
)

// plainFilterProblem is what may be said of a filter's problem where nothing
// of the filter may be quoted.
func plainFilterProblem(message string) string {
	if filterFault.MatchString(message) {
		return "it " + message
	}
	if at := filterPlace.FindString(message); at != "" {
		return "it does not compile: " + strings.TrimSuffix(at, ": ")
	}
	return "it does not compile"
}

// testHeader is the one that the relay adds to tests, in lower case.
const testHeader = "posthorn-test"

var (
	headerToken = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	// reservedHeaders are the HTTP client's own.
	reservedHeaders = []string{
		"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade",
	}
)

// headerProblem says why a request may not set the header name; empty when it may.
func headerProblem(name string) string {
	lower := strings.ToLower(name)
	switch {
	case !headerToken.MatchString(name) || len(name) > 256:
		return "is no header's name"
	case lower == "content-type":
		return "must not be set here: use content_type"
	case slices.Contains(reservedHeaders, lower) || strings.HasPrefix(lower, "proxy-"):
		return "must not be set: the HTTP client sets it"
	case lower == testHeader:
		return "must not be set: it marks the requests of posthorn send-test"
	}
	return ""
}

func (v *validator) headers(p place, headers map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		at := p.field(name)
		if !at.given {
			continue
		}
		if problem := headerProblem(name); problem != "" {
			v.problems.add(at, "%s", problem)
		}
		if strings.ContainsAny(headers[name], "\r\n\x00") {
			v.problems.add(at, "must be one line")
		}
		v.template(at, headers[name])
	}
}
