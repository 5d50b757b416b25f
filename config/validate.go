package config

import (
	"errors"
	"io/fs"
	"maps"
	"mime"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5/pgconn"
)

// validator checks what takes more than one value's type and tag to check.
type validator struct {
	cfg      *Config
	problems *problems
	warnings problems
	samples  sampler
	signers  signers
	filters  map[string]compiled // by text: many endpoints may have the same
	files    bool                // whether those that the configuration names are looked at
}

func newValidator(cfg *Config, ps *problems, files bool) *validator {
	return &validator{
		cfg: cfg, problems: ps, samples: newSampler(len(cfg.Events)), signers: make(signers), filters: make(map[string]compiled), files: files,
	}
}

func (v *validator) validate(root place) {
	v.databases(root)
	v.source(root.field("source"))
	if v.cfg.Ledger.Retention < v.cfg.Source.Retention {
		v.problems.add(root.field("ledger").field("retention"), "must be at least source.retention (%s), got %s",
			shortDuration(v.cfg.Source.Retention), shortDuration(v.cfg.Ledger.Retention))
	}
	v.encryptionKeys(root.field("ledger").field("encryption_keys"))
	v.http(root.field("http"))
	v.prefixes(root.field("egress").field("allow"), v.cfg.Egress.Allow)
	v.prefixes(root.field("egress").field("deny"), v.cfg.Egress.Deny)
	v.proxy(root.field("egress").field("proxy"), v.cfg.Egress.Proxy)
	v.traces(root.field("traces"))
	v.catalogue(root.field("events"))
	v.plugins(root.field("plugins"))
	v.examples(root, v.transforms(root.field("transforms")))
	for _, name := range slices.Sorted(maps.Keys(v.cfg.Profiles)) {
		profile := v.cfg.Profiles[name]
		at := root.field("profiles").field(name)
		v.profile(at, &profile)
		v.headerConflicts(at, &profile)
		v.profileSamples(at, &profile)
	}
	for _, name := range slices.Sorted(maps.Keys(v.cfg.Tenants)) {
		if tenant := v.cfg.Tenants[name]; tenant.Secret == "" && len(tenant.PreviousSecrets) > 0 {
			v.problems.add(root.field("tenants").field(name).field("secret"), "is required with previous_secrets")
		}
	}
	v.endpoints(root)
}

func (v *validator) databases(root place) {
	at := root.field("database").field("url")
	if v.cfg.Database.URL == "" {
		v.problems.add(at, "is required; give it here or in POSTHORN_DATABASE__URL")
	} else {
		v.connString(at, v.cfg.Database.URL)
	}
	if at := root.field("database").field("replication_url"); at.given && at.node.text != "" {
		v.connString(at, v.cfg.Database.ReplicationURL)
	}
	if at := root.field("ledger").field("url"); at.given && at.node.text != "" {
		v.connString(at, v.cfg.Ledger.URL)
	}
}

func (v *validator) connString(p place, u URL) {
	text := u.Reveal()
	if wholeURL.MatchString(text) && !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		v.problems.add(p, "must be a postgres:// or postgresql:// URL")
		return
	}
	if _, err := pgconn.ParseConfig(text); err != nil {
		v.problems.add(p, "is no connection string: %s", connStringProblem(err))
	}
}

// connStringProblem says what pgconn found wrong, without the connection
// string, of which its messages hold as much as it took for no password.
func connStringProblem(err error) string {
	var file *fs.PathError
	if errors.As(err, &file) {
		return file.Error()
	}
	message := err.Error()
	if cause := errors.Unwrap(err); cause != nil {
		message = strings.TrimSuffix(message, " ("+cause.Error()+")")
	}
	what := message[strings.LastIndex(message, "`: ")+1:]
	what, _, _ = strings.Cut(strings.TrimPrefix(what, ": "), ":")
	return what
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

func (v *validator) source(p place) {
	s := v.cfg.Source
	for key, name := range map[string]string{"slot": s.Slot, "publication": s.Publication} {
		if !slotName.MatchString(name) {
			v.problems.add(p.field(key), "must be 1 to 63 of a-z, 0-9 and _, got %s", shown(p.field(key).node))
		}
	}
	schema, table, qualified := strings.Cut(s.Table, ".")
	if !qualified {
		schema, table = s.Table, s.Table
	}
	if !isIdentifier(schema) || !isIdentifier(table) || strings.Contains(table, ".") {
		v.problems.add(p.field("table"), "must be table or schema.table, got %s", shown(p.field("table").node))
	}
	for name, column := range s.Columns {
		if at := p.field("columns").field(name); !isIdentifier(column) {
			v.problems.add(at, "must be a column's name, 1 to 63 bytes, got %s", shown(at.node))
		}
	}
	if at := p.field("messages"); len(s.Messages) > 63 || !isPrintable(s.Messages) {
		v.problems.add(at, "must be at most 63 printable bytes, got %s", shown(at.node))
	}
}

// isIdentifier reports whether name can be a table's or column's, as Postgres
// stores it: quoted names are written without their quotes.
func isIdentifier(name string) bool {
	return len(name) >= 1 && len(name) <= 63 && isPrintable(name) && !strings.Contains(name, `"`)
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (v *validator) prefixes(p place, prefixes []netip.Prefix) {
	for i, prefix := range prefixes {
		if prefix.IsValid() && prefix != prefix.Masked() {
			v.problems.add(p.item(i), "has bits beyond its prefix length; for that network write %v", prefix.Masked())
		}
	}
}

func (v *validator) catalogue(p place) {
	first := make(map[string]place)
	for i, event := range v.cfg.Events {
		at := p.item(i).field("type")
		if !at.given {
			continue // reported as required
		}
		if !isEventType(event.Type) {
			v.problems.add(at, "must be an event type without white space and *, at most 256 bytes, got %s", shown(at.node))
		} else if other, ok := first[event.Type]; ok {
			v.problems.add(at, "is repeated: %q is %s in line %d already", event.Type, other.key(), other.node.line)
		} else {
			first[event.Type] = at
		}
		v.samples.schemas[i] = v.schema(p.item(i).field("schema"), &event)
	}
}

// isEventType reports whether text can be the exact type of an event.
func isEventType(text string) bool {
	return text != "" && len(text) <= 256 && !strings.ContainsFunc(text, func(r rune) bool {
		return r == '*' || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

// profile checks the keys of p that are given there: what an endpoint
// inherits was reported where it stands.
func (v *validator) profile(p place, profile *Profile) {
	if at := p.field("content_type"); at.given {
		if kind, _, err := mime.ParseMediaType(profile.ContentType); err != nil || !strings.Contains(kind, "/") || !isPrintable(profile.ContentType) {
			v.problems.add(at, "must be a media type such as application/json, got %s", shown(at.node))
		}
	}
	if at := p.field("body"); at.given {
		v.template(at, profile.Body)
	}
	v.headers(p.field("headers"), profile.Headers)
	if at := p.field("signatures"); at.given {
		for i, signature := range profile.Signatures {
			v.signature(at.item(i), &signature)
		}
	}
	if at := p.field("tls"); at.given {
		v.tls(at, &profile.TLS)
	}
	if at := p.field("auth"); at.given {
		v.auth(at, &profile.Auth)
	}
}
