// Package config reads what a user may write: a YAML, TOML or JSON file and
// the environment. [Load] merges both over the defaults, checks everything
// strictly and yields one [Config] in which every default is filled in and
// every endpoint stands complete, or one [Error] that lists all problems with
// file, line and key.
package config

import (
	"net/netip"
	"time"

	"github.com/posthorn/posthorn/transforms"
)

// Config is a validated configuration. Its keys and their meaning are the
// koanf and doc tags of its fields, from which reading, checking and [Schema]
// are all driven:
//
//	koanf     the key
//	doc       the description that editors show
//	enum      the values that a text may have
//	choices   the same, where another key narrows them down: the check of the
//	          whole names those that are left
//	min, max  the inclusive bounds of a number, duration or size, or of the
//	          elements of a list
//	maxitems  the longest that a list may be
//	required  the key must be given wherever its parent is; outside of lists
//	          the check of the whole sees to it, since several documents may
//	          give the parent's keys
//	kinds     what a JSON value may be, by the words of messages
//	paths     the keys of the map are paths, in which dots are no levels
type Config struct {
	Database    Database           `koanf:"database" doc:"The application's database."`
	Source      Source             `koanf:"source" doc:"The outbox that events are read from."`
	Ledger      Ledger             `koanf:"ledger" doc:"The record of what was delivered."`
	HTTP        HTTP               `koanf:"http" doc:"Health, metrics and the HTTP API."`
	Egress      Egress             `koanf:"egress" doc:"Where requests may go."`
	Log         Log                `koanf:"log" doc:"Logging."`
	Traces      Traces             `koanf:"traces" doc:"Spans of attempts, for an OpenTelemetry collector."`
	StopTimeout time.Duration      `koanf:"stop_timeout" min:"1s" max:"5m" doc:"How long a graceful stop may wait for requests in flight."`
	Profiles    map[string]Profile `koanf:"profiles" doc:"How a product sends. An endpoint names one and may override any key."`
	Events      []EventType        `koanf:"events" doc:"The catalogue of event types; optional."`
	Tenants     map[string]Tenant  `koanf:"tenants" doc:"What an organisation's endpoints share, by tenant."`
	Plugins     map[string]Plugin  `koanf:"plugins" doc:"Programs that transform events, by name: 1 to 63 of a-z, 0-9, _ and -. They run if transforms names them."`
	Transforms  []Transform        `koanf:"transforms" maxitems:"1000" doc:"What is done to events before they are sent, in order. Each entry has match and exactly one kind."`
	Endpoints   []Endpoint         `koanf:"endpoints" doc:"Where events go."`

	// root is the document that the values came from, so that Masked can
	// show a reference such as ${NAME} instead of what it stood for.
	root *node
	// warnings are what validation found that is no error.
	warnings []Problem
	// files is whether those that the configuration names were looked at.
	files bool
	// examples are what transforms make of the catalogue's, as a sampler has them.
	examples []*transforms.Message
}

// Warnings returns what is allowed and yet likely a mistake outside of tests,
// such as tls.verify: false. They are in the order of [Error]'s problems.
func (c *Config) Warnings() []Problem { return c.warnings }

// Database says where the application's database is.
type Database struct {
	// URL is a postgres:// URL or a keyword=value connection string.
	URL URL `koanf:"url" doc:"Connection string: postgres://… or keyword=value. Required."`
	// ReplicationURL is the direct connection for the stream; Load fills in
	// URL where none is given.
	ReplicationURL URL `koanf:"replication_url" doc:"A direct connection for the stream, which poolers cannot carry. Default: database.url."`
}

// Source says which outbox is read, and how far ahead.
type Source struct {
	// Table is "table" or "schema.table", unquoted.
	Table string `koanf:"table" doc:"The outbox table: table or schema.table."`
	// Columns maps logical names to the table's column names. It holds only
	// what was given: a logical name that is missing has a column of its own name.
	Columns     map[string]string `koanf:"columns" keys:"id,type,tenant,key,payload,headers,created_at" doc:"The table's column for each of id, type, tenant, key, payload, headers and created_at; a name left out stands for itself."`
	Publication string            `koanf:"publication" doc:"The publication."`
	Slot        string            `koanf:"slot" doc:"The replication slot."`
	// Messages is the prefix of logical messages to accept; empty for none.
	Messages  string        `koanf:"messages" doc:"Prefix of logical messages to accept too; empty for none."`
	Retention time.Duration `koanf:"retention" min:"1h" doc:"How long delivered rows stay in the outbox."`
	// Buffer bounds what is read and not yet settled, over all endpoints.
	Buffer  Bytes         `koanf:"buffer" min:"1MiB" max:"4GiB" doc:"Bound of what is read and not yet settled, over all endpoints, rendering included."`
	MaxHold time.Duration `koanf:"max_hold" min:"1s" max:"5m" doc:"How long reading may wait for an endpoint that works off its deliveries, before they are parked."`
}

// Ledger says where outcomes are recorded, and for how long.
type Ledger struct {
	// URL is the ledger's database; Load fills in database.url where none is given.
	URL       URL           `koanf:"url" doc:"Connection string of the ledger's database. Default: database.url."`
	Retention time.Duration `koanf:"retention" min:"1h" doc:"How long final deliveries are kept; at least source.retention."`
	// Bodies is "all", "failed" or "none".
	Bodies string `koanf:"bodies" enum:"all,failed,none" doc:"Which final deliveries keep their request and payload. Without them a retry by hand renders again."`
	// EncryptionKeys are as they were written: see Config.EncryptionKeys.
	EncryptionKeys []Secret `koanf:"encryption_keys" maxitems:"8" doc:"What encrypts the secrets of endpoints that the API made: keys of 32 bytes, each as 64 hex digits or base64. The first encrypts, all decrypt."`
}

// HTTP says where health, metrics and the HTTP API are served, and to whom.
type HTTP struct {
	// Listen is host:port.
	Listen string `koanf:"listen" doc:"Address of health, metrics and API, as host:port."`
	// Hosts are names and addresses without port, as they were written.
	Hosts []string `koanf:"hosts" maxitems:"100" doc:"Host names and addresses, without port, by which the API may be asked, beside loopback ones and that of listen."`
	// Tokens is empty for no API, unless a proxy names users.
	Tokens []Token `koanf:"tokens" maxitems:"100" doc:"Who may use API and dashboard; none, and no proxy_auth: nobody."`
	// FrameAncestors are origins, as a Content-Security-Policy has them.
	FrameAncestors []string  `koanf:"frame_ancestors" maxitems:"20" doc:"Origins, such as https://app.example, whose pages may show the portal in a frame; none: no page may."`
	ProxyAuth      ProxyAuth `koanf:"proxy_auth" doc:"A proxy in front of the relay whose word on users and addresses counts; off by default."`
}

// Token is what a user of the HTTP API proves who it is by.
type Token struct {
	Name string `koanf:"name" required:"true" doc:"Who uses it, for the audit: 1 to 63 letters, digits and ._@-. Unique."`
	// Role is "viewer", "operator" or "admin".
	Role string `koanf:"role" required:"true" enum:"viewer,operator,admin" doc:"viewer sees; operator also pauses, resumes, retries, tests and sees payloads; admin may all."`
	// Token is what stands after "Bearer "; empty with SHA256.
	Token Secret `koanf:"token" doc:"The token: 24 to 512 letters, digits and signs without spaces, such as openssl rand -hex 32 makes. This or sha256."`
	// SHA256 is in hex; empty with Token.
	SHA256 string `koanf:"sha256" doc:"SHA-256 of the token as 64 hex digits, in its place: as sha256sum prints it."`
}

// ProxyAuth says what is believed of a proxy in front of the relay.
type ProxyAuth struct {
	// From is empty for no proxy.
	From       []netip.Prefix `koanf:"from" doc:"CIDRs that the proxy connects from. Its X-Forwarded-For and X-Forwarded-Proto are believed."`
	UserHeader string         `koanf:"user_header" doc:"The header in which the proxy names the user who logged in there, and which it takes out of what others send; empty: it names nobody."`
	// RoleHeader or Role is set with UserHeader.
	RoleHeader string `koanf:"role_header" doc:"The header in which the proxy names the user's role: viewer, operator or admin."`
	Role       string `koanf:"role" enum:"viewer,operator,admin" doc:"The role of users for whom the proxy names none; empty: they are refused."`
}

// Egress says which addresses requests may reach.
type Egress struct {
	Allow        []netip.Prefix `koanf:"allow" doc:"CIDRs that may be reached although private."`
	Deny         []netip.Prefix `koanf:"deny" doc:"CIDRs that may not be reached; wins over allow."`
	RequireHTTPS bool           `koanf:"require_https" doc:"Refuse endpoints and token URLs that are not https."`
	// Proxy is empty for none; HTTP_PROXY and its like are ignored.
	Proxy URL `koanf:"proxy" doc:"Proxy for all requests: http://, https:// or socks5://, with user:password@ where it wants them. HTTP_PROXY and its like are ignored."`
}

// Log says what is logged, and how.
type Log struct {
	// Level is "debug", "info", "warn" or "error".
	Level string `koanf:"level" enum:"debug,info,warn,error" doc:"The lowest level that is logged."`
	// Format is "auto", "text" (coloured) or "json".
	Format string `koanf:"format" enum:"auto,text,json" doc:"auto is text, coloured, on a terminal and json otherwise."`
}

// Traces says where the spans of attempts go. They are made if URL is not
// empty.
type Traces struct {
	// URL is the base of the collector's URLs.
	URL     URL               `koanf:"url" doc:"An OpenTelemetry collector's base for OTLP over HTTP, such as http://collector:4318; empty for no traces."`
	Headers map[string]Secret `koanf:"headers" doc:"Headers of the requests to the collector."`
	Service string            `koanf:"service" doc:"The service.name of the spans."`
	// Sample is the share, 0 to 1, of the traces that begin here.
	Sample float64 `koanf:"sample" min:"0" max:"1" doc:"The share of the traces that begin here: those of events without a traceparent, which else decides for itself."`
}

// Profile says how requests are made. It stands under profiles, and its keys
// are an endpoint's too.
type Profile struct {
	Method      string `koanf:"method" enum:"POST,PUT,PATCH" doc:"The HTTP method."`
	ContentType string `koanf:"content_type" doc:"The Content-Type header."`
	// Timeout bounds one attempt, connect to last body byte.
	Timeout time.Duration `koanf:"timeout" min:"100ms" max:"5m" doc:"Bound of one attempt, connect to last body byte."`
	// Headers maps header names to templates.
	Headers map[string]string `koanf:"headers" doc:"Further headers; values are templates."`
	Body    string            `koanf:"body" doc:"The request's body, as a template."`
	// JSON is "preserve", "compact" or "stringify".
	JSON string `koanf:"json" enum:"preserve,compact,stringify" doc:"compact removes the white space between JSON's tokens; stringify yields what JSON.parse and then JSON.stringify yield. Of the body, or where content_type is not JSON of .Payload as templates see it."`
	// Signatures is nil in a profile that leaves the choice to the
	// endpoint's secret, and never nil in an Endpoint that Load returned.
	Signatures []Signature `koanf:"signatures" maxitems:"8" doc:"How requests are signed. Default: standard-webhooks when there is a secret, else none."`
	Retry      Retry       `koanf:"retry" doc:"When failed attempts are tried again."`
	Pause      Pause       `koanf:"pause" doc:"When an endpoint that fails is paused, until somebody resumes it."`
	// Ordering is "none" or "key".
	Ordering    string `koanf:"ordering" enum:"none,key" doc:"key sends the events of one key in commit order, one after the other."`
	Concurrency int    `koanf:"concurrency" min:"1" max:"4096" doc:"Requests in flight at once."`
	// RateLimit is in requests a second; 0 means none.
	RateLimit float64 `koanf:"rate_limit" min:"0" doc:"Requests a second; 0 for no limit."`
	TLS       TLS     `koanf:"tls" doc:"How https servers are authenticated, and how the client is."`
	Auth      Auth    `koanf:"auth" doc:"How requests authenticate: by basic, bearer or oauth2. An endpoint's kind replaces its profile's."`
}

// Signature is one signature of a request. With scheme hmac every field that
// the scheme has is filled in; with the others an empty one means its default.
type Signature struct {
	// Scheme is "hmac", "standard-webhooks", "stripe", "github" or "http-message".
	Scheme string `koanf:"scheme" required:"true" enum:"hmac,standard-webhooks,stripe,github,http-message" doc:"The signature scheme."`
	Header string `koanf:"header" doc:"hmac, stripe, github: the header that carries the signature. Required with hmac; default: Stripe-Signature, X-Hub-Signature-256."`
	// Algorithm is "sha256", "sha512" or "sha1"; with http-message it is
	// "hmac-sha256" or "ed25519".
	Algorithm string `koanf:"algorithm" choices:"sha256,sha512,sha1,hmac-sha256,ed25519" doc:"hmac: the hash, sha256 (default), sha512 or sha1. http-message: hmac-sha256 or ed25519; required."`
	// Encoding is "hex", "base64" or "base64url".
	Encoding string `koanf:"encoding" enum:"hex,base64,base64url" doc:"hmac: how the signature is written. Default: hex."`
	Content  string `koanf:"content" doc:"hmac: what is signed, of {id}, {timestamp} and {body}. Default: {body}."`
	Value    string `koanf:"value" doc:"hmac: what is sent, of {signature}, {id} and {timestamp}. Default: {signature}."`
	Prefix   string `koanf:"prefix" doc:"standard-webhooks: what the headers' names begin with: svix yields svix-id. Default: webhook."`
	KeyID    string `koanf:"key_id" doc:"http-message: the keyid parameter. Default: none."`
	Label    string `koanf:"label" doc:"http-message: the signature's label. Default: sig1."`
	// Components is empty for httpsig's default.
	Components []string `koanf:"components" maxitems:"32" doc:"http-message: what is signed: fields in lower case, and @method, @target-uri, @authority, @scheme, @request-target, @path, @query. Default: @method, @target-uri, content-digest, content-type."`
	// Secret signs instead of the endpoint's, if it is not empty, and
	// PreviousSecrets instead of the endpoint's previous ones.
	Secret          Secret           `koanf:"secret" doc:"Signs instead of the endpoint's or tenant's secret."`
	PreviousSecrets []PreviousSecret `koanf:"previous_secrets" maxitems:"8" doc:"With secret: those that sign too until they expire."`
}

// Retry is a retry schedule.
type Retry struct {
	// Schedule lists the waits after the first try; empty means one try.
	Schedule []time.Duration `koanf:"schedule" min:"1ms" max:"720h" maxitems:"50" doc:"The waits after the first try; [] means one try."`
	// Jitter is the share, 0 to 1, by which each wait is spread.
	Jitter float64 `koanf:"jitter" min:"0" max:"1" doc:"The share by which each wait is spread: 0.2 is ±20 %."`
	// MaxAge ends retries of a delivery older than this; 0 means never.
	MaxAge time.Duration `koanf:"max_age" min:"0s" doc:"Age at which a delivery is given up; 0 for no limit."`
	// StopOn lists answers that no retry can mend.
	StopOn []StatusRange `koanf:"stop_on" maxitems:"64" doc:"Status codes that end a delivery at once: a code such as 404, or a class, 3xx, 4xx or 5xx. 410 disables the endpoint in any case."`
}

// Pause says when the relay pauses an endpoint.
type Pause struct {
	OnExhausted bool `koanf:"on_exhausted" doc:"Pause when a delivery failed for good after its last retry."`
	// ConsecutiveFailures counts failed attempts in a row, over all
	// deliveries; 0 means never.
	ConsecutiveFailures int `koanf:"consecutive_failures" min:"0" max:"1000000" doc:"Pause after so many failed attempts in a row; 0 for never."`
	// FailingFor is the time since the first of the failed attempts in a
	// row; 0 means never.
	FailingFor time.Duration `koanf:"failing_for" min:"0s" max:"8760h" doc:"Pause when all attempts failed for so long; 0 for never."`
}

// TLS says how servers are authenticated and how the client is. Paths are
// relative to the working directory.
type TLS struct {
	Verify bool `koanf:"verify" doc:"false takes any certificate: whoever can answer for the server gets the requests."`
	// CAFile is empty for the system's roots.
	CAFile string `koanf:"ca_file" doc:"PEM file of the authorities to trust instead of the system's."`
	// CertFile and KeyFile are both empty or both set.
	CertFile string `koanf:"cert_file" doc:"PEM file of the client's certificate, with key_file."`
	KeyFile  string `koanf:"key_file" doc:"PEM file of the client's private key, unencrypted."`
	// ServerName is empty for the URL's host.
	ServerName string `koanf:"server_name" doc:"The name that the server's certificate must have. Default: the URL's host."`
	// MinVersion is "1.2" or "1.3".
	MinVersion string `koanf:"min_version" enum:"1.2,1.3" doc:"The lowest TLS version."`
}

// Auth says how requests authenticate. At most one of its kinds is not zero.
type Auth struct {
	Basic  BasicAuth  `koanf:"basic" doc:"HTTP basic authentication."`
	Bearer BearerAuth `koanf:"bearer" doc:"A fixed bearer token."`
	OAuth2 OAuth2     `koanf:"oauth2" doc:"Bearer tokens by OAuth 2.0 client credentials."`
}

// BasicAuth is HTTP basic authentication. Username is set where it is used.
type BasicAuth struct {
	Username string `koanf:"username" doc:"The user's name, without colon."`
	Password Secret `koanf:"password" doc:"The password; leave it out for an empty one."`
}

// BearerAuth is a fixed bearer token. Token is set where it is used.
type BearerAuth struct {
	Token Secret `koanf:"token" doc:"The token."`
}

// OAuth2 is the client credentials grant (RFC 6749, section 4.4). All but
// Scopes is set where it is used.
type OAuth2 struct {
	TokenURL     URL      `koanf:"token_url" doc:"Where tokens are requested: http or https."`
	ClientID     string   `koanf:"client_id" doc:"The client's id."`
	ClientSecret Secret   `koanf:"client_secret" doc:"The client's secret."`
	Scopes       []string `koanf:"scopes" maxitems:"64" doc:"The scopes to ask for. Default: none."`
}

// EventType is one entry of the catalogue.
type EventType struct {
	Type  string `koanf:"type" required:"true" doc:"The event type, as the outbox has it."`
	Group string `koanf:"group" doc:"The heading to list it under."`
	Title string `koanf:"title" doc:"What people call it."`
	// Example is a sample payload; empty when none is given.
	Example JSON `koanf:"example" doc:"A sample payload."`
	// Schema is the JSON text of a schema, or a JSON string that names its
	// file; empty when none is given. See SchemaText.
	Schema JSON `koanf:"schema" kinds:"text,a map" doc:"JSON Schema of its payloads, as transforms with schema check it: a file, relative to the working directory, or the schema itself."`
}

// Tenant is what an organisation's endpoints share.
type Tenant struct {
	Secret          Secret           `koanf:"secret" doc:"The signing secret of endpoints that have none of their own."`
	PreviousSecrets []PreviousSecret `koanf:"previous_secrets" maxitems:"8" doc:"Secrets that sign too until they expire."`
}

// PreviousSecret is a secret that was replaced and signs until it expires.
type PreviousSecret struct {
	Secret  Secret    `koanf:"secret" required:"true" doc:"The secret."`
	Expires time.Time `koanf:"expires" required:"true" doc:"When it stops signing, as 2026-12-01T00:00:00Z."`
	// KeyID is empty for the signature's; schemes but http-message have none.
	KeyID string `koanf:"key_id" doc:"http-message: the keyid of this secret; other schemes do not use it. Default: the signature's key_id."`
}

// Endpoint is one receiver. As Load returns it, the keys of its profile stand
// in Profile with the endpoint's own over them (maps merged, lists replaced),
// and its tenant's secrets stand in it where it has none of its own.
type Endpoint struct {
	// ID is a UUID in its canonical form; empty when none is given.
	ID   string `koanf:"id" doc:"A UUID. Default: derived from the name."`
	Name string `koanf:"name" required:"true" doc:"A unique name."`
	// Tenant is empty for an endpoint that gets every tenant's events.
	Tenant string `koanf:"tenant" doc:"Whose events it gets; absent: every tenant's."`
	URL    URL    `koanf:"url" required:"true" doc:"Where requests go: http or https."`
	// Events holds patterns: an exact type, "group.*" (any depth) or "*".
	// Exactly one of Events and Objects is set.
	Events   []string `koanf:"events" doc:"Event types it gets: exact, group.* (any depth) or *."`
	Objects  []string `koanf:"objects" doc:"Instead of events: object types, or [\"*\"]."`
	Triggers []string `koanf:"triggers" doc:"With objects: the actions, such as create."`
	// Filter is empty for none.
	Filter string `koanf:"filter" doc:"CEL expression over the event that must hold too, such as payload.amount > 1000."`
	// ProfileName is the profile that Profile was made from; empty for none.
	ProfileName     string           `koanf:"profile" doc:"The profile to send with; absent: the defaults."`
	Secret          Secret           `koanf:"secret" doc:"The signing secret. Never shown again, never logged."`
	PreviousSecrets []PreviousSecret `koanf:"previous_secrets" maxitems:"8" doc:"Secrets that sign too until they expire."`
	Enabled         bool             `koanf:"enabled" doc:"false: events are not matched for it."`
	Profile         `koanf:",squash"`
}

// Default returns the configuration of an empty file. It is not valid:
// database.url has no default.
func Default() *Config {
	return &Config{
		Source: Source{
			Table:       "posthorn.outbox",
			Columns:     map[string]string{},
			Publication: "posthorn",
			Slot:        "posthorn",
			Retention:   168 * time.Hour,
			Buffer:      16 << 20,
			MaxHold:     10 * time.Second,
		},
		Ledger:      Ledger{Retention: 720 * time.Hour, Bodies: "failed"},
		HTTP:        HTTP{Listen: "127.0.0.1:8080"},
		Log:         Log{Level: "info", Format: "auto"},
		Traces:      Traces{Service: "posthorn", Sample: 1},
		StopTimeout: 8 * time.Second,
	}
}

// DefaultProfile returns what an endpoint sends with where neither it nor its
// profile says otherwise.
func DefaultProfile() Profile {
	return Profile{
		Method:      "POST",
		ContentType: "application/json",
		Timeout:     15 * time.Second,
		Body:        "{{ .Payload }}",
		JSON:        "preserve",
		Retry: Retry{
			Schedule: []time.Duration{
				5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour,
			},
			Jitter: 0.2,
		},
		Pause:       Pause{FailingFor: 120 * time.Hour},
		Ordering:    "none",
		Concurrency: 16,
		TLS:         TLS{Verify: true, MinVersion: "1.2"},
	}
}
