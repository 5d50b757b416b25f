package config

import "strings"

// ParseEndpoints reads each document, a JSON object with the keys of an
// endpoint, as if it stood in the configuration's endpoints: its profile,
// tenant, defaults and rules apply, and so does every check but that of names
// against each other and what [Config.CheckEndpoint] does beside. References
// such as ${NAME} are not expanded: they are the text that they are.
//
// It returns an endpoint for each document, with what could be read of one that
// is wrong, and for each of those an [*Error] whose keys are relative to the
// endpoint: headers.X-A. It may be called concurrently.
func (c *Config) ParseEndpoints(documents [][]byte) ([]Endpoint, []error) {
	v := newValidator(c, &problems{}, false)
	v.samples.left = 0
	endpoints, errs := make([]Endpoint, len(documents)), make([]error, len(documents))
	for i, document := range documents {
		endpoints[i], errs[i] = v.document(document)
	}
	return endpoints, errs
}

// CheckEndpoint is [Config.ParseEndpoints] for a document that somebody wants
// to begin with. Its templates are rendered for samples, too, and the files that
// it names are looked at where those of the configuration were: what would fail
// every delivery is an error here, while an endpoint that is at work keeps
// working where it can.
func (c *Config) CheckEndpoint(document []byte) (Endpoint, error) {
	v := newValidator(c, &problems{}, c.files)
	if len(c.examples) == len(c.Events) {
		v.samples.made = c.examples
	}
	return v.document(document)
}

// document reads and checks one endpoint that stands in no file.
func (v *validator) document(data []byte) (endpoint Endpoint, err error) {
	v.problems, v.warnings = &problems{}, problems{}
	root, err := parseDocument(data)
	if err != nil {
		return endpoint, err
	}
	at := top(root)
	if id := at.field("id"); id.given {
		v.problems.add(id, "must not be given: the relay chooses it")
	}
	reader{problems: v.problems, whole: true}.endpoint(at, v.cfg, &endpoint)
	v.identity(at, &endpoint)
	v.endpoint(v.cfg.origin(), at, &endpoint)
	for i := range v.problems.list {
		v.problems.list[i].belong()
	}
	return endpoint, v.problems.err()
}

// belong makes a problem that was found where the configuration's profile or
// tenant stands, or in no place of the document, the endpoint's.
func (p *Problem) belong() {
	if p.File == "" {
		return
	}
	key := "profile"
	if strings.HasPrefix(p.Key, "tenants") {
		key = "tenant"
	}
	*p = Problem{Key: key, Message: "does not fit: " + p.Key + " " + p.Message}
}

// parseDocument returns the JSON object that stands for an endpoint, or an
// *Error.
func parseDocument(data []byte) (*node, error) {
	b := &builder{}
	root := b.parseJSON(data)
	if root != nil && root.kind != object && len(b.problems.list) == 0 {
		b.problems.add(place{node: root}, "must be %v, got %v", object, root.kind)
	}
	if err := b.problems.err(); err != nil {
		return nil, err
	}
	return root, nil
}

// SigningSchemes returns what signs the requests of the endpoint that document
// stands for with a secret of its own or its tenant's, and whether there is one
// already. Where neither document nor profile says how to sign it is Standard
// Webhooks, which a secret alone brings about. What is wrong with the document
// it leaves to [Config.CheckEndpoint].
func (c *Config) SigningSchemes(document []byte) (signatures []Signature, hasSecret bool) {
	root, err := parseDocument(document)
	if err != nil {
		return nil, false
	}
	var endpoint Endpoint
	at := top(root)
	reader{problems: &problems{}, whole: true}.endpoint(at, c, &endpoint)
	if !at.field("signatures").given && c.Profiles[endpoint.ProfileName].Signatures == nil {
		return []Signature{{Scheme: "standard-webhooks"}}, endpoint.Secret != ""
	}
	for _, s := range endpoint.Signatures {
		if s.Secret == "" && s.Scheme != "" {
			signatures = append(signatures, s)
		}
	}
	return signatures, endpoint.Secret != ""
}
