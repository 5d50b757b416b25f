package integration

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// nodeReceiver is a product's receiver: a process of Node.js that verifies as
// the product's document tells its customers to. Node.js must be there.
type nodeReceiver struct {
	t      testing.TB
	url    string // without a path
	caFile string // who vouches for it; "" for plain HTTP
	client *http.Client
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	done   chan struct{} // closed once the process ended
	errors bytes.Buffer  // its standard error; read after done

	mu       sync.Mutex
	answer   int // the status that it was last told to answer with, once it knows
	requests []nodeRequest
}

// nodeRequest is one request as the receiver saw it.
type nodeRequest struct {
	Method, Path string
	Type         string // of the event; "" when the request did not verify
	Verified     bool
	Status       int      // that it was answered with
	Headers      []string // name, value, name, value …, as they came
	Body         []byte
}

// header returns the request's headers. Names are spelled as they came.
func (q *nodeRequest) header() http.Header {
	h := http.Header{}
	for pair := range slices.Chunk(q.Headers, 2) {
		h[pair[0]] = append(h[pair[0]], pair[1])
	}
	return h
}

// startNode starts one of the receivers in products, with the keys that it
// verifies by, and stops it when the test ends.
func startNode(t testing.TB, script string, keys ...string) *nodeReceiver {
	t.Helper()
	return launchNode(t, &nodeReceiver{t: t, client: &http.Client{Timeout: time.Minute}}, script, keyVariables(keys))
}

// startSecureNode is startNode for https with a certificate for 127.0.0.1 by
// an authority that only caFile knows.
func startSecureNode(t testing.TB, script string, keys ...string) *nodeReceiver {
	t.Helper()
	c := newCertificate(t)
	n := &nodeReceiver{t: t, caFile: c.caFile, client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.pool, MinVersion: tls.VersionTLS12}}}}
	return launchNode(t, n, script, append(keyVariables(keys), "TLS_CERT="+c.certFile, "TLS_KEY="+c.keyFile))
}

func keyVariables(keys []string) []string {
	if len(keys) == 0 {
		return nil
	}
	list, err := json.Marshal(keys)
	if err != nil { // texts always marshal
		panic(err)
	}
	return []string{"SECRET=" + keys[0], "KEYS=" + string(list)}
}

func launchNode(t testing.TB, n *nodeReceiver, script string, env []string) *nodeReceiver {
	t.Helper()
	n.cmd = exec.Command("node", filepath.Join("products", script))
	n.cmd.Env = append([]string{}, env...) // nil would be the test's own environment
	n.cmd.Stderr = &n.errors
	var err error
	if n.stdin, err = n.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatalf("start a receiver (the products' tests need Node.js): %v", err)
	}
	n.done = make(chan struct{})
	go func() {
		defer close(n.done)
		n.read(stdout)
		_ = n.cmd.Wait() // stop says what it printed, if it ended too early
	}()
	t.Cleanup(n.stop)
	eventually(t, 30*time.Second, func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.url == "" {
			return errors.New(script + " does not listen")
		}
		return nil
	})
	return n
}

// read takes what the receiver prints, until it ends.
func (n *nodeReceiver) read(stdout io.Reader) {
	lines := json.NewDecoder(stdout)
	for {
		var line struct {
			URL    string
			Answer int
			nodeRequest
		}
		if err := lines.Decode(&line); err != nil {
			return
		}
		n.mu.Lock()
		switch {
		case line.URL != "":
			n.url, n.answer = line.URL, http.StatusOK
		case line.Answer != 0:
			n.answer = line.Answer
		default:
			n.requests = append(n.requests, line.nodeRequest)
		}
		n.mu.Unlock()
	}
}

// stop ends the receiver; connections to it are refused from then on.
func (n *nodeReceiver) stop() {
	_ = n.stdin.Close() // which ends the process, unless it did before
	kill := time.AfterFunc(10*time.Second, func() { _ = n.cmd.Process.Kill() })
	defer kill.Stop()
	<-n.done
	n.client.CloseIdleConnections()
	if n.errors.Len() > 0 {
		n.t.Errorf("the receiver at %s complained: %s", n.url, &n.errors)
	}
}

// answers sets the status that requests which verify are answered with.
func (n *nodeReceiver) answers(status int) {
	n.t.Helper()
	if _, err := fmt.Fprintln(n.stdin, status); err != nil {
		n.t.Fatal(err)
	}
	eventually(n.t, 10*time.Second, func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.answer != status {
			return fmt.Errorf("the receiver answers %d, not %d", n.answer, status)
		}
		return nil
	})
}

// arrived returns the requests so far.
func (n *nodeReceiver) arrived() []nodeRequest {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.requests)
}

// waitArrived returns the requests once there are count of them.
func (n *nodeReceiver) waitArrived(count int) []nodeRequest {
	n.t.Helper()
	var requests []nodeRequest
	eventually(n.t, time.Minute, func() error {
		requests = n.arrived()
		return atLeast(len(requests), count)
	})
	return requests
}

// repeat sends the receiver a copy of a request with another body and headers,
// and returns the status of the answer.
func (n *nodeReceiver) repeat(q *nodeRequest, header http.Header, body []byte) int {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), q.Method, n.url+q.Path, bytes.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header = header.Clone()
	req.Header.Del("Content-Length") // the client's own affair
	res, err := n.client.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		n.t.Fatal(err)
	}
	return res.StatusCode
}

// certificate is one for 127.0.0.1, and the authority that vouches for it.
type certificate struct {
	caFile, certFile, keyFile string
	pool                      *x509.CertPool
}

func newCertificate(t testing.TB) certificate {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the test's authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	must(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "receiver"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		must(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	c := certificate{
		caFile: write("ca.pem", "CERTIFICATE", caDER), certFile: write("receiver.pem", "CERTIFICATE", leafDER), keyFile: write("receiver.key", "PRIVATE KEY", keyDER),
		pool: x509.NewCertPool(),
	}
	parsed, err := x509.ParseCertificate(caDER)
	must(err)
	c.pool.AddCert(parsed)
	return c
}
