package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthorn/posthorn/relay/httpsig"
	"github.com/posthorn/posthorn/relay/signing"
)

// stream is standard output or error that can be read while it is written to.
type stream struct {
	mu   sync.Mutex
	text bytes.Buffer
	grew chan struct{}
}

func newStream() *stream { return &stream{grew: make(chan struct{}, 1)} }

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.grew <- struct{}{}:
	default:
	}
	return s.text.Write(p)
}

func (s *stream) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// waitFor waits until the stream matches, and returns the submatches.
func (s *stream) waitFor(t *testing.T, pattern string) []string {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(s.String()); m != nil {
			return m
		}
		select {
		case <-s.grew:
		case <-limit:
			t.Fatalf("%s does not appear in:\n%s", pattern, s)
		}
	}
}

// running is a command that runs.
type running struct {
	stdout, stderr *stream
	stop           context.CancelFunc
	code           chan int
}

func start(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &running{stdout: newStream(), stderr: newStream(), stop: stop, code: make(chan int, 1)}
	g := &globals{stdin: strings.NewReader(""), stdout: r.stdout, stderr: r.stderr, env: env}
	go func() { r.code <- execute(ctx, g, args) }()
	t.Cleanup(stop)
	return r
}

// wait returns the exit code.
func (r *running) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-r.code:
		return code
	case <-time.After(time.Minute):
		t.Fatalf("does not end:\n%s", r.stderr)
		return 0
	}
}

// listenFor starts posthorn listen on a free port and returns its URL.
func listenFor(t *testing.T, env []string, args ...string) (*running, string) {
	t.Helper()
	r := start(t, env, append([]string{"listen", "--addr", "127.0.0.1:0"}, args...)...)
	return r, r.stderr.waitFor(t, `Listening on (http://\S+);`)[1]
}

// post sends a request and returns the status of its answer.
func post(t *testing.T, url, body string, headers ...signing.Header) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	for _, h := range headers {
		request.Header.Set(h.Name, h.Value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode
}

func sign(t *testing.T, o signing.Options, secret, body string) []signing.Header {
	t.Helper()
	signer, err := signing.New(o)
	if err != nil {
		t.Fatal(err)
	}
	key, err := signing.ParseKey(o.Scheme, secret)
	if err != nil {
		t.Fatal(err)
	}
	headers, err := signer.Sign(signing.Message{ID: "msg_1", Timestamp: time.Now(), Body: []byte(body)}, []signing.Key{key})
	if err != nil {
		t.Fatal(err)
	}
	return headers
}

var timeOfDay = regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d `)

func TestListenVerifiesAndPrints(t *testing.T) {
	r, url := listenFor(t, nil, "--secret", "s3cret", "--header", "X-Acme-Signature", "--value", "sha256={signature}", "--body", "--count", "3")
	o := signing.Options{Scheme: "hmac", Header: "X-Acme-Signature", Value: "sha256={signature}"}
	good, bad := `{"type":"pr.submitted","data":{"n":1.0}}`, "not JSON\x1b[2J\n"
	signed := append(sign(t, o, "s3cret", good), signing.Header{Name: "X-Acme-Delivery", Value: "d-1"})
	if status := post(t, url+"/hooks", good, signed...); status != http.StatusOK {
		t.Errorf("right signature: answered %d", status)
	}
	if status := post(t, url+"/a%1bb", bad, append(sign(t, o, "s3cret", good), signing.Header{Name: "X-Acme-Event", Value: "closed"})...); status != http.StatusUnauthorized {
		t.Errorf("wrong signature: answered %d", status)
	}
	if status := post(t, url, ""); status != http.StatusUnauthorized {
		t.Errorf("no signature: answered %d", status)
	}
	if code := r.wait(t); code != exitFailed || !strings.Contains(r.stderr.String(), "2 of 3 requests had no valid signature") {
		t.Errorf("got exit code %d and %q", code, r.stderr)
	}
	want := `POST /hooks pr.submitted, delivery d-1, signature ✓, 40 bytes, answered 200
  {
    "type": "pr.submitted",
    "data": {
      "n": 1.0
    }
  }
POST /a�b closed, signature ✗ (verify: signature does not match), 13 bytes, answered 401
  not JSON�[2J
POST /, signature ✗ (verify: X-Acme-Signature: signature header is missing), 0 bytes, answered 401
`
	if got := timeOfDay.ReplaceAllString(r.stdout.String(), ""); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestListenTakesTheSignatureFromTheConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "posthorn.yaml")
	err := os.WriteFile(file, []byte(`
database: {url: postgres://db.example/app}
endpoints:
  - {name: signed, url: https://a.example, events: ["*"], secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}
  - {name: own, url: https://c.example, events: ["*"], secret: unused, signatures: [{scheme: github, secret: own-secret}]}
  - {name: unsigned, url: https://b.example, events: ["*"]}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r, url := listenFor(t, nil, "--config", file, "--endpoint", "signed", "--output", "json", "--count", "1")
	body := `{"event":"pr.closed"}`
	headers := sign(t, signing.Options{Scheme: "standard-webhooks"}, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", body)
	if status := post(t, url, body, headers...); status != http.StatusOK {
		t.Errorf("answered %d", status)
	}
	if code := r.wait(t); code != exitOK {
		t.Errorf("exit code %d: %s", code, r.stderr)
	}
	var got receivedRequest
	if err := json.Unmarshal([]byte(r.stdout.String()), &got); err != nil {
		t.Fatalf("%v in %s", err, r.stdout)
	}
	if got.Verified == nil || !*got.Verified || got.Event != "pr.closed" || got.Delivery != "msg_1" || got.Size != len(body) || got.Body != "" {
		t.Errorf("got %+v", got)
	}

	r, url = listenFor(t, nil, "--config", file, "--endpoint", "own", "--count", "1")
	if status := post(t, url, body, sign(t, signing.Options{Scheme: "github"}, "own-secret", body)...); status != http.StatusOK {
		t.Errorf("by the signature's own secret: answered %d", status)
	}
	if code := r.wait(t); code != exitOK {
		t.Errorf("exit code %d: %s", code, r.stderr)
	}

	r, url = listenFor(t, nil, "--config", file, "--endpoint", "unsigned", "--output", "json")
	if status := post(t, url, body); status != http.StatusOK {
		t.Errorf("answered %d", status)
	}
	r.stop() // as Ctrl-C does
	if code := r.wait(t); code != exitOK || !strings.Contains(r.stdout.String(), `"verified":null`) {
		t.Errorf("got exit code %d and %s", code, r.stdout)
	}
}

func TestListenVerifiesEachScheme(t *testing.T) {
	const standardSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	tests := []struct {
		name    string
		options signing.Options
		secret  string
		args    []string
	}{
		{"stripe", signing.Options{Scheme: "stripe"}, "whsec_test", []string{"--secret", "whsec_test", "--scheme", "stripe"}},
		{"github", signing.Options{Scheme: "github", Header: "X-Sig"}, "s", []string{"--secret", "s", "--scheme", "github", "--header", "X-Sig"}},
		{"svix", signing.Options{Scheme: "standard-webhooks", Prefix: "svix"}, standardSecret, []string{"--secret", standardSecret, "--scheme", "standard-webhooks", "--prefix", "svix"}},
		{"Ed25519, by its public key", signing.Options{Scheme: "standard-webhooks"}, "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=",
			[]string{"--secret", "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "--scheme", "standard-webhooks"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, url := listenFor(t, nil, append(tt.args, "--count", "2")...)
			headers := sign(t, tt.options, tt.secret, "{}")
			if status := post(t, url, "{}", headers...); status != http.StatusOK {
				t.Errorf("answered %d", status)
			}
			if status := post(t, url, "{} ", headers...); status != http.StatusUnauthorized {
				t.Errorf("another body: answered %d", status)
			}
			if code := r.wait(t); code != exitFailed {
				t.Errorf("exit code %d: %s", code, r.stderr)
			}
		})
	}
}

func TestListenVerifiesHTTPMessages(t *testing.T) {
	r, address := listenFor(t, nil, "--secret", "s3cret", "--scheme", "http-message", "--algorithm", "hmac-sha256",
		"--components", "@method,@target-uri,content-digest", "--count", "3")
	signer, err := httpsig.New(httpsig.Options{Algorithm: "hmac-sha256", Components: []string{"@method", "@target-uri", "content-digest"}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := httpsig.ParseKey("hmac-sha256", "s3cret")
	if err != nil {
		t.Fatal(err)
	}
	signFor := func(target string) []signing.Header {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		headers, err := signer.Sign(httpsig.Message{Method: http.MethodPost, URL: u, Header: http.Header{}, Body: []byte("{}"), Created: time.Now()}, []httpsig.Key{key})
		if err != nil {
			t.Fatal(err)
		}
		return headers
	}
	direct := signFor(address + "/hooks?a=1")
	if status := post(t, address+"/hooks?a=1", "{}", direct...); status != http.StatusOK {
		t.Errorf("answered %d", status)
	}
	if status := post(t, address+"/other", "{}", direct...); status != http.StatusUnauthorized {
		t.Errorf("another URL: answered %d", status)
	}
	tunnelled := append(signFor(strings.Replace(address, "http:", "https:", 1)+"/"), signing.Header{Name: "X-Forwarded-Proto", Value: "https"})
	if status := post(t, address+"/", "{}", tunnelled...); status != http.StatusOK {
		t.Errorf("through a tunnel: answered %d", status)
	}
	if code := r.wait(t); code != exitFailed {
		t.Errorf("exit code %d: %s", code, r.stderr)
	}
}

func TestListenFailsAShare(t *testing.T) {
	for share, want := range map[string]int{"1": http.StatusTeapot, "0": http.StatusOK} {
		r, url := listenFor(t, nil, "--fail", share, "--status", "418", "--count", "1")
		if got := post(t, url, "{}"); got != want {
			t.Errorf("--fail %s: answered %d, want %d", share, got, want)
		}
		if code := r.wait(t); code != exitOK {
			t.Errorf("--fail %s: exit code %d", share, code)
		}
	}
}

func TestListenRefusesWrongFlags(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"--fail", "2"}, "--fail is a share from 0 to 1, not 2"},
		{[]string{"--status", "99"}, "--status is 200 to 599, not 99"},
		{[]string{"--count", "-1"}, "--count is 0 or more, not -1"},
		{[]string{"--header", "X"}, "--header goes with --secret"},
		{[]string{"--secret", "s"}, "--header: must name the header"},
		{[]string{"--secret", "s", "--header", "X", "--encoding", "morse"}, `--encoding: unknown "morse"`},
		{[]string{"--secret", "s", "--scheme", "stripes"}, `--scheme is hmac, standard-webhooks, stripe, github or http-message, not "stripes"`},
		{[]string{"--secret", "whsec_!", "--scheme", "standard-webhooks"}, "--secret: must be base64 after whsec_"},
		{[]string{"--secret", "s", "--scheme", "standard-webhooks", "--encoding", "hex"}, "--encoding: must be empty"},
		{[]string{"--secret", "s", "--scheme", "stripe", "--prefix", "svix"}, "--prefix: must be empty, stripe does not use it"},
		{[]string{"--secret", "s", "--scheme", "http-message"}, "--algorithm: "},
		{[]string{"--prefix", "svix"}, "--prefix goes with --secret"},
		{[]string{"--endpoint", "a", "--components", "@method"}, "--components says what --endpoint takes from the configuration"},
		{[]string{"--endpoint", "a", "--secret", "s"}, "--secret says what --endpoint takes from the configuration"},
	}
	for _, tt := range tests {
		var stderr bytes.Buffer
		code := execute(t.Context(), &globals{stdout: io.Discard, stderr: &stderr}, append([]string{"listen", "--addr", "127.0.0.1:0"}, tt.args...))
		if code != exitUsage || !strings.Contains(stderr.String(), tt.want) {
			t.Errorf("%v: got exit code %d and %q, want %q", tt.args, code, stderr.String(), tt.want)
		}
	}
}

func TestListenRefusesBodiesThatAreTooLarge(t *testing.T) {
	r, url := listenFor(t, nil, "--count", "1")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, io.LimitReader(zeros{}, maxListenBody+1))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err == nil { // the connection may be cut off before the answer is read
		if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("answered %d, %v", response.StatusCode, err)
		}
	}
	if status := post(t, url, "{}"); status != http.StatusOK {
		t.Errorf("the next: answered %d", status)
	}
	if code := r.wait(t); code != exitOK || strings.Count(r.stdout.String(), "\n") != 1 {
		t.Errorf("got exit code %d and %s", code, r.stdout)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
