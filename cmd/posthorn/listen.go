package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/config"
)

const (
	maxListenBody = 64 << 20 // bytes of a request's body
	// maxListenRequests bounds how many bodies are in memory at once.
	maxListenRequests = 4
	listenStop        = 5 * time.Second
)

// listenOptions are the flags of posthorn listen.
type listenOptions struct {
	addr      string
	signature config.Signature
	secret    string
	endpoint  string
	fail      float64
	status    int
	count     int
	body      bool
}

func newListenCommand(g *globals) *cobra.Command {
	var o listenOptions
	cmd := &cobra.Command{
		Use:   "listen",
		Short: "Receive webhooks on this machine, verify and print them",
		Long: `Receive webhooks on this machine, verify their signatures and print a line for
each request, until Ctrl-C or until --count requests were answered.

How requests are signed is said by --secret and the flags that describe the
signature, or taken from an endpoint of a configuration by --endpoint. Without
either, signatures are not looked at.

A request is answered with 200, with 401 when its signature is wrong, and for
the share --fail of them with --status, so that retries can be watched. With
--count the exit code is 1 if a signature was wrong.`,
		Example: `  posthorn listen --secret s3cret --header X-Acme-Signature
  posthorn listen --secret whsec_… --scheme standard-webhooks --body
  posthorn listen --secret whpk_… --scheme http-message --algorithm ed25519
  posthorn listen --config posthorn.yaml --endpoint acme-erp --fail 0.1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := o.verifier(g, cmd.Flags().Changed)
			if err != nil {
				return err
			}
			return listen(cmd.Context(), g, o, v)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.addr, "addr", "127.0.0.1:9000", "`host:port` to listen on")
	f.StringVar(&o.endpoint, "endpoint", "", "verify as the endpoint of this `name` in the configuration is signed")
	f.StringVar(&o.secret, "secret", "", "the signing secret")
	f.StringVar(&o.signature.Scheme, "scheme", "hmac", schemeList)
	f.StringVar(&o.signature.Header, "header", "", "hmac, stripe, github: the `name` of the signature's header (no default for hmac)")
	f.StringVar(&o.signature.Prefix, "prefix", "", "standard-webhooks: what the headers' names begin with, such as svix (default webhook)")
	f.StringVar(&o.signature.Algorithm, "algorithm", "", "hmac: sha256, sha512 or sha1 (default sha256); http-message: hmac-sha256 or ed25519")
	f.StringSliceVar(&o.signature.Components, "components", nil, "http-message: what must be signed (default @method,@target-uri,content-digest,content-type)")
	f.StringVar(&o.signature.Encoding, "encoding", "", "hmac: hex, base64 or base64url (default hex)")
	f.StringVar(&o.signature.Content, "content", "", "hmac: what is signed, of {id}, {timestamp} and {body} (default {body})")
	f.StringVar(&o.signature.Value, "value", "", "hmac: what is sent, of {signature}, {id} and {timestamp} (default {signature})")
	f.Float64Var(&o.fail, "fail", 0, "the `share` of requests, 0 to 1, to answer with --status")
	f.IntVar(&o.status, "status", http.StatusServiceUnavailable, "the status of requests that --fail picks")
	f.IntVar(&o.count, "count", 0, "end after this many requests; 0 for no end")
	f.BoolVar(&o.body, "body", false, "print bodies too, JSON indented")
	return cmd
}

// signatureSchemes are those of signatures, and schemeList lists them for people.
var signatureSchemes = []string{"hmac", "standard-webhooks", "stripe", "github", "http-message"}

const schemeList = "hmac, standard-webhooks, stripe, github or http-message"

// signatureFlags are the flags that describe a signature.
var signatureFlags = []string{"scheme", "header", "prefix", "algorithm", "components", "encoding", "content", "value"}

// verifier returns what the flags ask to verify with, nil for nothing.
func (o *listenOptions) verifier(g *globals, changed func(flag string) bool) (*verifier, error) {
	switch {
	case o.fail < 0 || o.fail > 1:
		return nil, usagef("--fail is a share from 0 to 1, not %v", o.fail)
	case o.status < 200 || o.status > 599:
		return nil, usagef("--status is 200 to 599, not %d", o.status)
	case o.count < 0:
		return nil, usagef("--count is 0 or more, not %d", o.count)
	}
	if o.endpoint == "" {
		for _, flag := range signatureFlags {
			if changed(flag) && o.secret == "" {
				return nil, usagef("--%s goes with --secret", flag)
			}
		}
		if o.secret == "" {
			return nil, nil
		}
		if !slices.Contains(signatureSchemes, o.signature.Scheme) {
			return nil, usagef("--scheme is %s, not %q", schemeList, o.signature.Scheme)
		}
		v := &verifier{}
		if err := v.add(o.signature, o.secret); err != nil {
			return nil, usagef("verify signatures: --%v", err)
		}
		return v, nil
	}
	for _, flag := range append([]string{"secret"}, signatureFlags...) {
		if changed(flag) {
			return nil, usagef("--%s says what --endpoint takes from the configuration: give one of them", flag)
		}
	}
	cfg, err := g.load()
	if err != nil {
		return nil, err
	}
	for i := range cfg.Endpoints {
		if ep := &cfg.Endpoints[i]; ep.Name == o.endpoint {
			return endpointVerifier(ep)
		}
	}
	return nil, usagef("the configuration has no endpoint %q", o.endpoint)
}

// listener receives requests and prints them.
type listener struct {
	verifier *verifier
	options  listenOptions
	print    *requestPrinter
	slots    chan struct{} // one for each request that may be in memory
	finished chan struct{} // closed when --count requests were answered

	mu    sync.Mutex // guards what follows, and one line after the other
	seen  int
	wrong int // signatures
}

// listen answers requests until ctx ends or enough were answered.
func listen(ctx context.Context, g *globals, o listenOptions, v *verifier) error {
	var lc net.ListenConfig
	socket, err := lc.Listen(ctx, "tcp", o.addr)
	if err != nil {
		return fmt.Errorf("listen for webhooks: %w", err)
	}
	l := &listener{
		verifier: v, options: o, print: &requestPrinter{g: g, body: o.body},
		slots: make(chan struct{}, maxListenRequests), finished: make(chan struct{}),
	}
	server := &http.Server{
		Handler: l, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: log.New(g.stderr, "posthorn: ", 0),
	}
	_, _ = fmt.Fprintf(g.stderr, "Listening on http://%s; end with Ctrl-C\n", socket.Addr())

	served := make(chan error, 1)
	go func() { served <- server.Serve(socket) }()
	select {
	case err := <-served:
		return fmt.Errorf("listen for webhooks: %w", err)
	case <-ctx.Done():
	case <-l.finished:
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), listenStop)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil {
		_ = server.Close() // who still sends after that long is cut off
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("listen for webhooks: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.count > 0 && l.wrong > 0 {
		return fmt.Errorf("%d of %d requests had no valid signature", l.wrong, l.seen)
	}
	return nil
}

// ServeHTTP answers one request.
func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-r.Context().Done():
		return
	}
	body, err := readBody(w, r, maxListenBody)
	if err != nil {
		return // answered
	}
	seen := describeRequest(r, body, time.Now())
	seen.Status = http.StatusOK
	if l.options.fail > rand.Float64() {
		seen.Status = l.options.status
	}
	if l.verifier != nil {
		err := l.verifier.verify(r, body)
		verified := err == nil
		seen.Verified = &verified
		if !verified {
			seen.Status, seen.Error = http.StatusUnauthorized, err.Error()
		}
	}
	if !l.note(seen, body) {
		http.Error(w, "posthorn listen has ended", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(seen.Status)
}

// note prints a request and counts it, or returns false when enough were
// counted before it.
func (l *listener) note(seen receivedRequest, body []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.options.count > 0 && l.seen >= l.options.count {
		return false
	}
	l.seen++
	if seen.Verified != nil && !*seen.Verified {
		l.wrong++
	}
	l.print.request(seen, body)
	if l.seen == l.options.count {
		close(l.finished)
	}
	return true
}

// readBody reads a body of at most limit bytes. When it cannot, it answers the
// request and returns an error.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		return body, nil
	}
	status := http.StatusBadRequest
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		status = http.StatusRequestEntityTooLarge
	}
	http.Error(w, http.StatusText(status), status)
	return nil, err
}
