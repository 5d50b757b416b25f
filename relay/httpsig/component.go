package httpsig

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// derivations lists the derived components of requests, RFC 9421 section 2.2,
// and how each comes from a message. All but @method need its URL, and one that
// is not opaque. "" says that there is no such value.
var derivations = map[string]func(Message) string{
	"@method":         func(m Message) string { return m.Method },
	"@target-uri":     func(m Message) string { return targetURI(m.URL) },
	"@authority":      func(m Message) string { return authority(m.URL) },
	"@scheme":         func(m Message) string { return strings.ToLower(m.URL.Scheme) },
	"@path":           func(m Message) string { return path(m.URL) },
	"@query":          func(m Message) string { return "?" + m.URL.RawQuery },
	"@request-target": func(m Message) string { return requestTarget(m.URL) },
}

// Why a component has no value.
var (
	errNoField    = errors.New("is not in the request's header")
	errNotDerived = errors.New("cannot be derived: the message needs a method and a URL with scheme and host")
	errValue      = fmt.Errorf("has a value that is not ASCII text of at most %d bytes", maxValue)
)

// checkComponents refuses lists that New does not allow.
func checkComponents(components []string) error {
	if len(components) > maxComponents {
		return fmt.Errorf("components: are %d, at most %d are allowed", len(components), maxComponents)
	}
	for i, name := range components {
		if err := checkComponent(name); err != nil {
			return fmt.Errorf("components: %w", err)
		}
		switch name {
		case "host":
			return errors.New(`components: "host" is not among a server's fields; use "@authority"`)
		case "signature", "signature-input":
			return fmt.Errorf("components: %q is set by the signature itself", name)
		}
		if slices.Contains(components[:i], name) {
			return fmt.Errorf("components: %q stands twice", name)
		}
	}
	if !slices.Contains(components, digestField) {
		return fmt.Errorf("components: must hold %q, else the body would not be protected", digestField)
	}
	return nil
}

// checkComponent refuses what is not the name of a derived component or, in
// lower case, of a field. The error quotes at most maxName bytes of it.
func checkComponent(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("one has %d bytes, at most %d are allowed", len(name), maxName)
	}
	if strings.Contains(name, ";") {
		return fmt.Errorf("%q has a parameter such as ;sf, ;bs, ;req or ;tr; allowed: names without", name)
	}
	if _, ok := derivations[name]; ok {
		return nil
	}
	if strings.HasPrefix(name, "@") {
		known := strings.Join(slices.Sorted(maps.Keys(derivations)), ", ")
		return fmt.Errorf("unknown %q; allowed: %s and names of fields", name, known)
	}
	if name == "" {
		return errors.New("must not hold an empty name")
	}
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z'
		digit := c >= '0' && c <= '9'
		if !letter && !digit && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return fmt.Errorf("%q is not a field's name; allowed: lower-case letters, digits and -", name)
		}
	}
	return nil
}

// request is a message whose fields are found by their name in lower case.
type request struct {
	Message
	fields map[string][]string
}

// newRequest gathers m's fields once, whatever their spelling, so that looking
// up many names costs no more than the request is long.
func newRequest(m Message) *request {
	r := &request{m, make(map[string][]string, len(m.Header)+1)}
	// net/http writes headers in the order of their spellings.
	for _, spelling := range slices.Sorted(maps.Keys(m.Header)) {
		name := strings.ToLower(spelling)
		if earlier, ok := r.fields[name]; ok {
			r.fields[name] = slices.Concat(earlier, m.Header[spelling])
		} else {
			r.fields[name] = m.Header[spelling]
		}
	}
	return r
}

// base returns the signature base of RFC 9421 section 2.5 over components that
// checkComponent allows. Parameters is the value of its last line.
func (r *request) base(components []string, parameters string) ([]byte, error) {
	base := make([]byte, 0, 512)
	for _, name := range components {
		value, err := r.value(name)
		if err != nil {
			return nil, fmt.Errorf("%q %w", name, err)
		}
		base = append(base, '"')
		base = append(base, name...)
		base = append(base, `": `...)
		base = append(base, value...)
		base = append(base, '\n')
	}
	base = append(base, `"@signature-params": `...)
	return append(base, parameters...), nil
}

// value returns what a component stands for, else one of the errors above.
func (r *request) value(name string) (string, error) {
	if derive, ok := derivations[name]; ok {
		if name != "@method" && (r.URL == nil || r.URL.Opaque != "") {
			return "", errNotDerived
		}
		value := derive(r.Message)
		if value == "" {
			return "", errNotDerived
		}
		if len(value) > maxValue || !printable(value) || strings.Contains(value, " ") {
			return "", errValue
		}
		return value, nil
	}
	values := r.fields[name]
	if len(values) == 0 {
		return "", errNoField
	}
	value := fieldValue(values)
	// A tab is the one control character that fields may hold.
	if len(value) > maxValue || !printable(strings.ReplaceAll(value, "\t", " ")) {
		return "", errValue
	}
	return value, nil
}

// obsFold is a line break within a field, which HTTP/1.1 once allowed.
var obsFold = regexp.MustCompile(`[ \t]*\r\n[ \t]+`)

// fieldValue combines a field's values as RFC 9421 section 2.1 says.
func fieldValue(values []string) string {
	combined := make([]string, len(values))
	for i, value := range values {
		if strings.Contains(value, "\n") {
			value = obsFold.ReplaceAllString(value, " ")
		}
		combined[i] = strings.Trim(value, " \t")
	}
	return strings.Join(combined, ", ")
}

// printable reports whether text holds ASCII without control characters.
func printable(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// defaultPorts are left out of @authority, RFC 9110 section 4.2.3.
var defaultPorts = map[string]string{"http": "80", "https": "443"}

// authority returns u's host and port, or "" without a host.
func authority(u *url.URL) string {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if host == "" {
		return ""
	}
	if strings.Contains(host, ":") {
		// The zone of an IPv6 address means something on this machine only,
		// and is not sent.
		host, _, _ = strings.Cut(host, "%")
		host = "[" + host + "]"
	}
	if port == "" || port == defaultPorts[strings.ToLower(u.Scheme)] {
		return host
	}
	return host + ":" + port
}

// path returns u's path as it is sent, or "" if it is not absolute.
func path(u *url.URL) string {
	p := u.EscapedPath()
	if p == "" {
		return "/"
	}
	if p[0] != '/' {
		return ""
	}
	return p
}

// requestTarget returns the origin form, which servers receive: path and query.
func requestTarget(u *url.URL) string {
	target := path(u)
	if target != "" && (u.ForceQuery || u.RawQuery != "") {
		target += "?" + u.RawQuery
	}
	return target
}

func targetURI(u *url.URL) string {
	host, target := authority(u), requestTarget(u)
	if u.Scheme == "" || host == "" || target == "" {
		return ""
	}
	return strings.ToLower(u.Scheme) + "://" + host + target
}
