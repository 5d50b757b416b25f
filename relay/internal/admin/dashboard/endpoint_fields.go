package dashboard

// option is one choice of a field.
type option struct{ Value, Label string }

// field is a field of the endpoint's form: a key of the endpoint, with what
// explains it.
type field struct {
	Name    string // of the input
	Key     string // of the endpoint; "" where several inputs make one
	Kind    string // text, url, secret, number, list, select, flag, area or code
	Label   string
	Help    string
	Example string // shown in the empty field
	Options []option
	Portal  bool // a portal's callers have it too
	Need    bool // it may not be empty

	Value   string
	Problem string
}

// group is a part of the form.
type group struct {
	Name, Title, Help string
	Open              bool // it is not folded
	Fields            []field
}

// portalSees are the keys in effect that a portal's callers are shown: how
// their receiver is spoken to.
var portalSees = []string{"events", "objects", "triggers", "method", "content_type", "headers", "timeout", "signatures", "retry", "tls"}

var (
	byDefault = option{"", "As the profile says"}
	yesNo     = []option{byDefault, {"true", "Yes"}, {"false", "No"}}
)

// formGroups returns the form's fields, but for those that choose events and
// the secret.
func formGroups(profiles []string) []group {
	profile := []option{{"", "None: the defaults"}}
	for _, name := range profiles {
		profile = append(profile, option{name, name})
	}
	return []group{
		{Name: "basics", Title: "Receiver", Open: true, Fields: []field{
			{Name: "name", Key: "name", Kind: "text", Label: "Name", Portal: true, Need: true, Example: "acme-erp",
				Help: "What people and logs call the endpoint. It is unique."},
			{Name: "url", Key: "url", Kind: "url", Label: "URL", Portal: true, Need: true, Example: "https://erp.example.com/webhooks",
				Help: "Where requests go: http or https. Private addresses are refused unless the configuration allows them. Credentials in it are shown as ***: write them again when you change it."},
			{Name: "tenant", Key: "tenant", Kind: "text", Label: "Tenant", Example: "acme",
				Help: "Whose events it gets. Empty: every tenant's."},
			{Name: "profile", Key: "profile", Kind: "select", Label: "Profile", Options: profile,
				Help: "How the product sends: body, signatures, retries. Whatever is set below overrides it."},
			{Name: "enabled", Key: "enabled", Kind: "flag", Label: "Enabled", Portal: true,
				Help: "Off: events are not matched for it, and are not sent later."},
		}},
		{Name: "request", Title: "Request", Help: "What is sent. Empty fields are as the profile says.", Fields: []field{
			{Name: "method", Key: "method", Kind: "select", Label: "Method", Portal: true,
				Options: []option{byDefault, {"POST", "POST"}, {"PUT", "PUT"}, {"PATCH", "PATCH"}}, Help: "The HTTP method of requests."},
			{Name: "content_type", Key: "content_type", Kind: "text", Label: "Content type", Portal: true, Example: "application/json",
				Help: "The Content-Type header."},
			{Name: "headers", Key: "headers", Kind: "area", Label: "Additional headers", Portal: true, Example: "X-Source: posthorn",
				Help: "One on a line, as Name: value. Values are templates, such as {{ .Event.Type }}."},
			{Name: "timeout", Key: "timeout", Kind: "text", Label: "Timeout", Example: "15s",
				Help: "Bounds one attempt, from connecting to the answer's last byte: 100ms to 5m."},
			{Name: "body", Key: "body", Kind: "code", Label: "Body", Example: "{{ .Payload }}",
				Help: "The template of the body. {{ .Payload }} is the event's JSON as it was written."},
			{Name: "json", Key: "json", Kind: "select", Label: "JSON form",
				Options: []option{byDefault, {"preserve", "preserve"}, {"compact", "compact"}, {"stringify", "stringify"}},
				Help:    "compact leaves out white space; stringify is what JSON.parse and JSON.stringify make of it."},
			{Name: "tls_verify", Key: "tls.verify", Kind: "select", Label: "Verify the certificate", Portal: true, Options: yesNo,
				Help: "No: whoever can answer for the server gets the requests."},
		}},
		{Name: "filter", Title: "Filter", Help: "Which of the chosen events are sent.", Fields: []field{
			{Name: "filter", Key: "filter", Kind: "area", Label: "Condition", Example: "payload.amount > 1000",
				Help: "A CEL expression over the event that must hold too."},
		}},
		{Name: "retry", Title: "Retries and pausing", Help: "What happens when the receiver fails.", Fields: []field{
			{Name: "retry_schedule", Key: "retry.schedule", Kind: "list", Label: "Waits between attempts", Example: "30s, 2m, 10m, 1h, 6h, 24h",
				Help: "One for each retry; none for a single attempt."},
			{Name: "retry_jitter", Key: "retry.jitter", Kind: "number", Label: "Jitter", Example: "0.2",
				Help: "The share by which each wait is spread: 0.2 is ±20 %."},
			{Name: "retry_max_age", Key: "retry.max_age", Kind: "text", Label: "Give up after", Example: "72h",
				Help: "The age at which a delivery is given up; 0s for no limit."},
			{Name: "retry_stop_on", Key: "retry.stop_on", Kind: "list", Label: "Answers without a retry", Example: "404, 4xx",
				Help: "Status codes and classes that end a delivery at once; none for no such answer."},
			{Name: "pause_on_exhausted", Key: "pause.on_exhausted", Kind: "select", Label: "Pause when retries are exhausted", Options: yesNo,
				Help: "A delivery whose last retry failed pauses the endpoint."},
			{Name: "pause_failures", Key: "pause.consecutive_failures", Kind: "number", Label: "Pause after failures", Example: "0",
				Help: "So many failed attempts in a row; 0 for never."},
			{Name: "pause_failing_for", Key: "pause.failing_for", Kind: "text", Label: "Pause after failing for", Example: "120h",
				Help: "All attempts failed for so long; 0s for never."},
		}},
		{Name: "flow", Title: "Order and pace", Help: "How requests follow one another.", Fields: []field{
			{Name: "ordering", Key: "ordering", Kind: "select", Label: "Order", Options: []option{byDefault, {"none", "none"}, {"key", "by key"}},
				Help: "By key: the events of one key in commit order, one after the other."},
			{Name: "concurrency", Key: "concurrency", Kind: "number", Label: "Requests at once", Example: "16",
				Help: "In flight at the same time: 1 to 4096."},
			{Name: "rate_limit", Key: "rate_limit", Kind: "number", Label: "Rate limit", Example: "0",
				Help: "Requests a second; 0 for no limit."},
		}},
		{Name: "auth", Title: "Authentication", Help: "Who sends, beside the signatures: one of the three ways.", Fields: []field{
			{Name: "auth_username", Key: "auth.basic.username", Kind: "text", Label: "Basic: user name", Example: "posthorn",
				Help: "HTTP basic authentication."},
			{Name: "auth_password", Key: "auth.basic.password", Kind: "secret", Label: "Basic: password",
				Help: "Leave it out for an empty one. ***, here and below, is what is set: leave it so to keep it."},
			{Name: "auth_token", Key: "auth.bearer.token", Kind: "secret", Label: "Bearer: token",
				Help: "A fixed token, sent as Authorization: Bearer."},
			{Name: "auth_token_url", Key: "auth.oauth2.token_url", Kind: "url", Label: "OAuth 2.0: token URL", Example: "https://login.example.com/token",
				Help: "Where tokens are requested, by client credentials."},
			{Name: "auth_client_id", Key: "auth.oauth2.client_id", Kind: "text", Label: "OAuth 2.0: client id",
				Help: "The client that asks."},
			{Name: "auth_client_secret", Key: "auth.oauth2.client_secret", Kind: "secret", Label: "OAuth 2.0: client secret",
				Help: "The client's secret."},
			{Name: "auth_scopes", Key: "auth.oauth2.scopes", Kind: "list", Label: "OAuth 2.0: scopes", Example: "events.write",
				Help: "The scopes to ask for, with commas between."},
		}},
		{Name: "tls", Title: "TLS", Help: "How the server is authenticated, and how the client is. Files are the relay's.", Fields: []field{
			{Name: "tls_min_version", Key: "tls.min_version", Kind: "select", Label: "Lowest version", Options: []option{byDefault, {"1.2", "TLS 1.2"}, {"1.3", "TLS 1.3"}},
				Help: "An older one is refused."},
			{Name: "tls_server_name", Key: "tls.server_name", Kind: "text", Label: "Server's name", Example: "erp.example.com",
				Help: "What its certificate must name, if not the URL's host."},
			{Name: "tls_ca_file", Key: "tls.ca_file", Kind: "text", Label: "Authorities", Example: "/etc/posthorn/ca.pem",
				Help: "PEM file of the authorities to trust instead of the system's."},
			{Name: "tls_cert_file", Key: "tls.cert_file", Kind: "text", Label: "Client's certificate", Example: "/etc/posthorn/client.pem",
				Help: "PEM file of it, for mutual TLS; with the key."},
			{Name: "tls_key_file", Key: "tls.key_file", Kind: "text", Label: "Client's key", Example: "/etc/posthorn/client.key",
				Help: "PEM file of the private key, unencrypted."},
		}},
		{Name: "more", Title: "Everything else", Help: "Signatures other than the profile's, and what else an endpoint may have.", Fields: []field{
			{Name: "more", Key: "", Kind: "code", Label: "Further keys, as JSON", Example: `{"signatures": [{"scheme": "github"}]}`,
				Help: "Keys of an endpoint that have no field above, as the configuration's documentation lists them. Secrets that are set are shown as ***; leave them so to keep them."},
		}},
	}
}
