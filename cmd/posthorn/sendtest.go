package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/relay"
)

// maxPayload bounds what is read as a payload, in bytes.
const maxPayload = 16 << 20

func newSendTestCommand(g *globals) *cobra.Command {
	var s relay.Sample
	var payload string
	cmd := &cobra.Command{
		Use:   "send-test ENDPOINT",
		Short: "Send a test request to an endpoint and print what came of it",
		Long: `Send one request to an endpoint of the configuration, disabled and paused ones
too, in the way that every delivery is sent: transformed, rendered by its
profile, signed, and only to addresses that egress allows. The header
` + relay.TestHeader + ` marks it as a test. Plugins of transforms for its type are
started, and stopped again; nothing is sent of an event that a transform skips or
fails. Outbox and ledger are not touched; no database is needed.

Without --type it is the first event type of the catalogue that the endpoint
gets; without --payload it is the type's example. A type that the endpoint does
not get is sent all the same. It is a success if the answer is 2xx.`,
		Args: endpointArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			send, err := g.testSender()
			if err != nil {
				return err
			}
			s.Endpoint = args[0]
			if cmd.Flags().Changed("payload") {
				if s.Payload, err = readPayload(payload); err != nil {
					return err
				}
			}
			r, err := send(cmd.Context(), s)
			if err != nil {
				return fmt.Errorf("send a test to endpoint %s: %w", s.Endpoint, err)
			}
			return g.printTest(r)
		},
	}
	cmd.Flags().StringVar(&s.Type, "type", "", "event `type`")
	cmd.Flags().StringVar(&payload, "payload", "", "`JSON`, or @FILE to read it from a file")
	g.serverFlags(cmd)
	return cmd
}

// testSender returns what sends a test: from here, or from where --server is.
func (g *globals) testSender() (func(context.Context, relay.Sample) (*relay.TestResult, error), error) {
	if g.remote() {
		c, err := g.client()
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, s relay.Sample) (*relay.TestResult, error) {
			defer c.close()
			return c.SendTest(ctx, s)
		}, nil
	}
	cfg, err := g.loadWithFiles()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, s relay.Sample) (*relay.TestResult, error) {
		return relay.SendTest(ctx, cfg, version, s)
	}, nil
}

// readPayload returns text, or what the file that @FILE names holds.
func readPayload(text string) ([]byte, error) {
	name, isFile := strings.CutPrefix(text, "@")
	if !isFile {
		return []byte(text), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the payload: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxPayload+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the payload: %w", err)
	case len(b) > maxPayload:
		return nil, fmt.Errorf("read the payload: %s has more than %d bytes", name, maxPayload)
	}
	return b, nil
}

// printTest prints a test's result and returns an error for one that failed.
func (g *globals) printTest(r *relay.TestResult) error {
	var failed error
	if r.Err != nil {
		failed = errors.New("the test failed: " + r.Err.Error())
	}
	for _, note := range r.Notes {
		_, _ = fmt.Fprintf(g.stderr, "posthorn: %s\n", shown(note))
	}
	if g.Output == "json" {
		if err := g.printJSON(testJSON(r)); err != nil {
			return err
		}
		return failed
	}
	g.printf("%s %s\n", r.Method, printable(r.URL))
	for _, h := range r.Header {
		g.printf("%s: %s\n", printable(h[0]), printable(h[1]))
	}
	g.printf("\n%s\n\n", excerpt(r.Body))
	if r.Status != 0 {
		g.printf("%s\n", strings.TrimSpace(fmt.Sprintf("%d %s", r.Status, http.StatusText(r.Status))))
	}
	g.printf("dns %s, connect %s, tls %s, first byte %s, total %s\n", short(r.DNS), short(r.Connect), short(r.TLS), short(r.FirstByte), short(r.Total))
	if len(r.Response) > 0 {
		g.printf("\n%s\n", excerpt(r.Response))
	}
	return failed
}

// testJSON returns r as it is printed for scripts.
func testJSON(r *relay.TestResult) any {
	out := struct {
		OK          bool        `json:"ok"`
		Error       string      `json:"error,omitempty"`
		Status      int         `json:"status,omitempty"`
		Delivery    string      `json:"delivery_id"`
		Type        string      `json:"type"`
		Method      string      `json:"method"`
		URL         string      `json:"url"`
		Headers     [][2]string `json:"headers"`
		Body        string      `json:"body"`
		Response    string      `json:"response,omitempty"`
		DNSus       int64       `json:"dns_us"`
		ConnectUS   int64       `json:"connect_us"`
		TLSus       int64       `json:"tls_us"`
		FirstByteUS int64       `json:"first_byte_us"`
		TotalUS     int64       `json:"total_us"`
		Notes       []string    `json:"notes"`
	}{
		OK: r.Err == nil, Status: r.Status, Delivery: r.Delivery.String(), Type: r.Type, Method: r.Method, URL: r.URL,
		Headers: r.Header, Body: string(r.Body), Response: string(r.Response),
		DNSus: r.DNS.Microseconds(), ConnectUS: r.Connect.Microseconds(), TLSus: r.TLS.Microseconds(),
		FirstByteUS: r.FirstByte.Microseconds(), TotalUS: r.Total.Microseconds(),
		Notes: append([]string{}, r.Notes...), // an array, not null
	}
	if r.Err != nil {
		out.Error = r.Err.Error()
	}
	return out
}
