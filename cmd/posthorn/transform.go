package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay"
)

// transformFlags are what transform is called with.
type transformFlags struct {
	example, file, event string // which event; one of these, or since
	typ, tenant, key     string
	headers              []string // name=value
	endpoint             string

	since       time.Duration
	against     string
	limit, show int
}

// The bounds of transform --all-since.
const (
	maxCompared = 1_000_000
	maxExamples = 100
)

func newTransformCommand(g *globals) *cobra.Command {
	var f transformFlags
	cmd := &cobra.Command{
		Use:   "transform --example TYPE | --file FILE | --event ID | --all-since DURATION",
		Short: "Show what the transforms make of an event, or of all recent ones",
		Long: `Run an event through the transforms of the configuration, plugins too, and print
which of them applied, the event before and after, and what differs. With
--endpoint go on to the request that the endpoint would get: rendered, and
signed at the time that is printed. Nothing is sent, and nothing is written to
outbox or ledger.

The event is the catalogue's example of a type, a row of the outbox, or a file:
with --type its content is the payload, without it is a whole event, an object
of type and payload, and if you like id, tenant, key, headers and created_at.

--all-since runs the outbox's recent events through the configuration and
reports for each type how many come out differently, are skipped, or fail. It
compares with the configuration that --against names, or else with the events as
they were committed. Each event counts once: as same, differing, skipped or
failed. Environment variables override both configurations. It reads the newest
events first and holds none but a page of them, and --show examples.

It ends with 1 if the event fails, or with --all-since an event that did not
fail before, and if it was interrupted; what was found by then is printed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd.Flags().Changed); err != nil {
				return err
			}
			cfg, err := g.loadWithFiles()
			if err != nil {
				return err
			}
			if f.since != 0 {
				return g.compareTransforms(cmd.Context(), cfg, &f)
			}
			return g.transform(cmd.Context(), cfg, &f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.example, "example", "", "the catalogue's example of this event `type`")
	flags.StringVar(&f.file, "file", "", "a `file` with a payload (needs --type) or a whole event; - is standard input")
	flags.StringVar(&f.event, "event", "", "the outbox row with this `id`")
	flags.StringVar(&f.typ, "type", "", "event `type` of the payload in --file")
	flags.StringVar(&f.tenant, "tenant", "", "`tenant` of the event")
	flags.StringVar(&f.key, "key", "", "ordering `key` of the event")
	flags.StringArrayVar(&f.headers, "header", nil, "a header of the event, as `name=value`; may be repeated; replaces those in --file")
	flags.StringVar(&f.endpoint, "endpoint", "", "print the request for the endpoint of this `name`, too")
	flags.DurationVar(&f.since, "all-since", 0, "all events of this `duration`, such as 1h")
	flags.StringVar(&f.against, "against", "", "with --all-since: compare with this configuration `file`")
	flags.IntVar(&f.limit, "limit", 100_000, "with --all-since: at most so many events, the newest")
	flags.IntVar(&f.show, "show", 3, "with --all-since: examples of each kind for each type")
	return cmd
}

// check returns what is wrong with how the command was called. given reports
// whether a flag was.
func (f *transformFlags) check(given func(flag string) bool) error {
	sources, source := 0, ""
	for _, flag := range []string{"example", "file", "event", "all-since"} {
		if given(flag) {
			sources, source = sources+1, flag
		}
	}
	if sources != 1 {
		return usagef("transform needs one of --example, --file, --event and --all-since")
	}
	excluded := map[string][]string{ // what each source does not go with
		"example":   {"type", "against", "limit", "show"},
		"file":      {"against", "limit", "show"},
		"event":     {"type", "tenant", "key", "header", "against", "limit", "show"},
		"all-since": {"type", "tenant", "key", "header", "endpoint"},
	}
	for _, flag := range excluded[source] {
		if given(flag) {
			return usagef("--%s does not go with --%s", flag, source)
		}
	}
	switch {
	case source == "all-since" && f.since <= 0:
		return usagef("--all-since is a positive duration such as 1h")
	case f.limit < 1 || f.limit > maxCompared:
		return usagef("--limit is 1 to %d, not %d", maxCompared, f.limit)
	case f.show < 0 || f.show > maxExamples:
		return usagef("--show is 0 to %d, not %d", maxExamples, f.show)
	}
	_, err := f.headerMap()
	return err
}

// headerMap returns the event's headers of the flags, nil for none.
func (f *transformFlags) headerMap() (map[string]string, error) {
	var all map[string]string
	for _, text := range f.headers {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usagef("--header is name=value, not %q", text)
		}
		if all == nil {
			all = make(map[string]string)
		}
		all[name] = value
	}
	return all, nil
}

// openTransformer returns a transformer whose plugins log warnings and errors to
// standard error, and what closes it, also after ctx ended.
func (g *globals) openTransformer(ctx context.Context, cfg *config.Config) (*relay.Transformer, func(), error) {
	log := cfg.Log
	if log.Level != "error" {
		log.Level = "warn"
	}
	logger := newLogger(g.stderr, log, g.getenv("NO_COLOR") != "")
	t, err := relay.OpenTransformer(ctx, cfg, version, logger)
	var failed *relay.PluginsError
	switch {
	case errors.As(err, &failed):
		return nil, nil, &exitError{exitConfig, failed}
	case err != nil:
		return nil, nil, err
	}
	return t, func() { t.Close(context.WithoutCancel(ctx)) }, nil
}

// transform shows what becomes of one event.
func (g *globals) transform(ctx context.Context, cfg *config.Config, f *transformFlags) error {
	e, err := g.givenEvent(cfg, f) // before plugins are started in vain
	if err == nil && f.endpoint != "" {
		err = relay.CheckEndpoint(cfg, f.endpoint)
	}
	if err != nil {
		return err
	}
	t, closeIt, err := g.openTransformer(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeIt()
	if f.event != "" {
		if e, err = t.Row(ctx, f.event); err != nil {
			return err
		}
	}
	r, err := t.Transform(ctx, e)
	if err != nil {
		return fmt.Errorf("transform the event: %w", err)
	}
	var q *relay.PreparedRequest
	if f.endpoint != "" && r.Content != nil {
		if q, err = t.Request(f.endpoint, r); err != nil {
			return fmt.Errorf("prepare the request for endpoint %s: %w", f.endpoint, err)
		}
	}
	return g.printTransformation(r, q)
}

// givenEvent returns the event of the flags, and of --example or --file.
func (g *globals) givenEvent(cfg *config.Config, f *transformFlags) (relay.Event, error) {
	var e relay.Event
	headers, err := f.headerMap()
	if err != nil {
		return e, err
	}
	switch {
	case f.example != "":
		e, err = relay.ExampleOf(cfg, f.example)
	case f.file != "":
		e, err = g.readEvent(f)
	}
	if err != nil {
		return e, err
	}
	if f.tenant != "" {
		e.Tenant = f.tenant
	}
	if f.key != "" {
		e.Key = f.key
	}
	if headers != nil {
		e.Headers = headers
	}
	return e, nil
}

// readEvent reads --file: a payload if there is a --type, or else an event.
func (g *globals) readEvent(f *transformFlags) (relay.Event, error) {
	text, err := g.readInput(f.file)
	if err != nil {
		return relay.Event{}, err
	}
	text = bytes.TrimSpace(text)
	if f.typ != "" {
		return relay.Event{Content: relay.Content{Type: f.typ, Payload: text}}, nil
	}
	var looks struct {
		Type    json.RawMessage `json:"type"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(text, &looks); json.Valid(text) && (err != nil || looks.Type == nil || looks.Payload == nil) {
		return relay.Event{}, usagef("%s is no event, which has type and payload: give the payload's --type", inputName(f.file))
	}
	e, err := relay.ParseEvent(text)
	if err != nil {
		return e, fmt.Errorf("%s: %w", inputName(f.file), err)
	}
	return e, nil
}

// inputName returns what people call the --file of that name.
func inputName(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}

// readInput returns what a file holds, or standard input for -.
func (g *globals) readInput(name string) ([]byte, error) {
	in := g.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read the event: %w", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxPayload+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the event: %w", err)
	case len(b) > maxPayload:
		return nil, fmt.Errorf("read the event: %s has more than %d bytes", inputName(name), maxPayload)
	}
	return b, nil
}
