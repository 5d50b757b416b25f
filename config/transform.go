package config

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/posthorn/posthorn/transforms"
)

// Plugin is a program of the user's that transforms events.
type Plugin struct {
	// Path is never searched in PATH; a relative one is to the working directory.
	Path string   `koanf:"path" required:"true" doc:"The program's file, relative to the working directory."`
	Args []string `koanf:"args" maxitems:"64" doc:"Its arguments."`
	// SHA256 is 64 hex digits in lower case; empty for any file.
	SHA256 string `koanf:"sha256" doc:"The SHA-256 that the file must have, as 64 hex digits. Default: any."`
	// Dir is empty for the relay's own.
	Dir string `koanf:"dir" doc:"The folder that it runs in. Default: the relay's working directory."`
	// SocketDir is empty for the system's temporary folder.
	SocketDir string `koanf:"socket_dir" doc:"The folder for its sockets, where the system's temporary folder cannot be written."`
	// Env is all that it inherits, beside what the protocol needs.
	Env map[string]Secret `koanf:"env" doc:"Its environment. It inherits nothing else of the relay's."`
	// Timeout bounds one call, the wait for a process included.
	Timeout time.Duration `koanf:"timeout" min:"10ms" max:"5m" doc:"Bound of one call, the wait for a process that begins anew included."`
	// StartTimeout is from its start to the first successful health check.
	StartTimeout time.Duration `koanf:"start_timeout" min:"100ms" max:"5m" doc:"How long it may take until it answers its first health check."`
	Instances    int           `koanf:"instances" min:"1" max:"64" doc:"How many processes of it run."`
	// Batch is in events.
	Batch int `koanf:"batch" min:"1" max:"10000" doc:"How many events one call holds at most."`
	// MaxMessage bounds one call and one answer.
	MaxMessage Bytes `koanf:"max_message" min:"64KiB" max:"1GiB" doc:"Bound of one message, both ways. It must hold the largest event."`
}

// defaultPlugin returns what a plugin's keys are where they are not given.
func defaultPlugin() Plugin {
	return Plugin{Timeout: time.Second, StartTimeout: 10 * time.Second, Instances: 1, Batch: 256, MaxMessage: 16 << 20}
}

// Transform changes the events whose types it matches. Exactly one of its kinds
// is given: every field but Match is one.
type Transform struct {
	// Match holds patterns: an exact type, "group.*" (any depth) or "*".
	Match []string `koanf:"match" required:"true" doc:"The event types that it is for: exact, group.* (any depth) or * (all but posthorn.*)."`

	Plugin   string `koanf:"plugin" doc:"Kind: the plugin of that name transforms the event."`
	JQ       string `koanf:"jq" doc:"Kind: a jq program that yields the new payload; nothing skips the event."`
	Template string `koanf:"template" doc:"Kind: a template over .Event and .Payload that yields the new payload."`
	Filter   string `koanf:"filter" doc:"Kind: a CEL expression; false skips the event."`
	// Set maps paths to values.
	Set    map[string]JSON `koanf:"set" doc:"Kind: sets each path of the payload to a value."`
	Remove []string        `koanf:"remove" doc:"Kind: removes what stands at each path of the payload."`
	// Rename maps paths to keys.
	Rename map[string]string `koanf:"rename" paths:"true" doc:"Kind: gives the member at each path of the payload a new key."`
	Redact Redact            `koanf:"redact" doc:"Kind: masks or hashes the values at paths of the payload."`
	// Schema is "reject" or "warn".
	Schema string `koanf:"schema" enum:"reject,warn" doc:"Kind: checks the payload by the schema that events has for its type. reject fails what violates it, warn logs."`
	Type   string `koanf:"type" doc:"Kind: a template that yields the new event type."`
	// Headers maps names of the event's headers to templates.
	Headers map[string]string `koanf:"headers" doc:"Kind: sets headers of the event to what templates yield; empty text removes one."`
}

// Redact says which values of a payload are hidden, and how.
type Redact struct {
	Paths []string `koanf:"paths" required:"true" doc:"The paths of the values."`
	// Mode is "mask" or "hash".
	Mode string `koanf:"mode" enum:"mask,hash" doc:"mask puts a text in the value's place, hash its HMAC-SHA256, which is the same for the same value."`
	// Mask is empty with mode hash.
	Mask string `koanf:"mask" doc:"mask: the text that stands for the value."`
	// Secret is empty with mode mask.
	Secret Secret `koanf:"secret" doc:"hash: the key of the HMAC, at least 16 bytes; required."`
}

// defaultRedact returns what the keys of redact are where they are not given.
func defaultRedact() Redact { return Redact{Mode: "mask", Mask: "***"} }

// complete fills in what is left out.
func (r *Redact) complete() {
	defaults := defaultRedact()
	r.Mode = cmp.Or(r.Mode, defaults.Mode)
	if r.Mode == defaults.Mode {
		r.Mask = cmp.Or(r.Mask, defaults.Mask)
	}
}

// completeTransforms fills in what plugins and transforms leave out.
func (c *Config) completeTransforms() {
	for name, plugin := range c.Plugins {
		plugin.SHA256 = strings.ToLower(plugin.SHA256)
		c.Plugins[name] = plugin
	}
	for i := range c.Transforms {
		if t := &c.Transforms[i]; t.Kind() == "redact" {
			t.Redact.complete()
		}
	}
}

// kindsOfTransform returns the keys of which a transform has exactly one.
func kindsOfTransform() []string {
	var kinds []string
	for _, f := range fieldsOf(reflect.TypeFor[Transform]()) {
		if f.key != "match" {
			kinds = append(kinds, f.key)
		}
	}
	return kinds
}

// Kind returns the key that says what the transform does: plugin, jq, template,
// filter, set, remove, rename, redact, schema, type or headers.
func (t *Transform) Kind() string {
	v := reflect.ValueOf(*t)
	for _, key := range kindsOfTransform() {
		if f, ok := fieldOf(v.Type(), key); ok && holdsAny(v.FieldByIndex(f.Index)) {
			return key
		}
	}
	return ""
}

// holdsAny reports whether a kind's key says what to do.
func holdsAny(v reflect.Value) bool {
	if v.Kind() == reflect.Struct {
		return !isEmpty(v)
	}
	return v.Len() > 0 // of a text, list or map
}

// Builtin returns the built-in transform that t describes; for a plugin it
// returns an error. The schemas are those of cfg's events that t matches, whose
// files it reads. warn is called for each message that violates a schema with
// schema: warn; nil for none.
func (t *Transform) Builtin(cfg *Config, warn func(ctx context.Context, m *transforms.Message, err error)) (transforms.Transform, error) {
	switch kind := t.Kind(); kind {
	case "jq":
		return transforms.NewJQ(t.JQ)
	case "template":
		return transforms.NewTemplate(t.Template)
	case "filter":
		return transforms.NewFilter(t.Filter)
	case "set":
		values := make(map[string]string, len(t.Set))
		for path, value := range t.Set {
			values[path] = string(value)
		}
		return transforms.NewSet(values)
	case "remove":
		return transforms.NewRemove(t.Remove)
	case "rename":
		return transforms.NewRename(t.Rename)
	case "redact":
		r := &t.Redact
		return transforms.NewRedact(transforms.RedactOptions{Paths: r.Paths, Mode: r.Mode, Mask: r.Mask, Secret: []byte(r.Secret.Reveal())})
	case "schema":
		return t.schema(cfg, warn)
	case "type":
		return transforms.NewType(t.Type)
	case "headers":
		return transforms.NewHeaders(t.Headers)
	default:
		return nil, fmt.Errorf("%q is no built-in transform", kind)
	}
}

func (t *Transform) schema(cfg *Config, warn func(ctx context.Context, m *transforms.Message, err error)) (transforms.Transform, error) {
	o := transforms.SchemaOptions{Schemas: make(map[string]string)}
	for i := range cfg.Events {
		event := &cfg.Events[i]
		if !transforms.MatchesType(t.Match, event.Type) {
			continue
		}
		text, err := event.SchemaText()
		if err != nil {
			return nil, fmt.Errorf("schema of %s: %w", event.Type, err)
		}
		if text != "" {
			o.Schemas[event.Type] = text
		}
	}
	if t.Schema == "warn" {
		if o.Warn = warn; warn == nil {
			o.Warn = func(context.Context, *transforms.Message, error) {}
		}
	}
	return transforms.NewSchema(o)
}

// SchemaText returns the JSON Schema of the type's payloads, of which nothing
// is checked, or "" when it has none. It reads the file that schema names.
func (e *EventType) SchemaText() (string, error) {
	path := e.schemaFile()
	if path == "" {
		if e.hasSchema() {
			return string(e.Schema), nil
		}
		return "", nil
	}
	data, err := readFile(path, maxNamed)
	if err != nil {
		return "", fmt.Errorf("read schema: %w", err)
	}
	return string(data), nil
}

// hasSchema reports whether the type has a schema; an empty text is none.
func (e *EventType) hasSchema() bool { return e.Schema != "" && e.Schema != `""` }

// schemaFile returns the file that schema names, or "" when it names none.
func (e *EventType) schemaFile() string {
	var path string
	if json.Unmarshal([]byte(e.Schema), &path) != nil {
		return "" // the schema itself, or none
	}
	return path
}
