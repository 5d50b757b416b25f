package egress

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newCertificate returns a certificate that is for 127.0.0.1 and valid now
// unless change says otherwise; without an issuer it signs itself.
func newCertificate(t testing.TB, name string, issuer *authority, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if change != nil {
		change(cert)
	}
	if issuer == nil {
		issuer = &authority{cert, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, issuer.cert, key.Public(), issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func newAuthority(t testing.TB, name string, issuer *authority, change func(*x509.Certificate)) *authority {
	t.Helper()
	c := newCertificate(t, name, issuer, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.IPAddresses = true, true, nil
		if change != nil {
			change(c)
		}
	})
	return &authority{c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)}
}

// put writes a PEM file in one step, as renewals do.
func put(t *testing.T, path, kind string, der ...[]byte) string {
	t.Helper()
	var text []byte
	for _, d := range der {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: d})...)
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func caFile(t *testing.T, certs ...*x509.Certificate) string {
	t.Helper()
	var der [][]byte
	for _, c := range certs {
		der = append(der, c.Raw)
	}
	return put(t, filepath.Join(t.TempDir(), "ca.pem"), "CERTIFICATE", der...)
}

// keyBytes returns what a PEM file of c's key holds.
func keyBytes(t *testing.T, c tls.Certificate) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// withPair returns s with the client certificate c in files of dir.
func withPair(t *testing.T, s TLS, dir string, c tls.Certificate) TLS {
	t.Helper()
	s.CertFile = put(t, filepath.Join(dir, "client.pem"), "CERTIFICATE", c.Certificate...)
	s.KeyFile = put(t, filepath.Join(dir, "client.key"), "PRIVATE KEY", keyBytes(t, c))
	return s
}

// serveTLS answers with the protocol and the name in the client's certificate.
func serveTLS(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if certs := r.TLS.PeerCertificates; len(certs) > 0 {
			name = certs[0].Subject.CommonName
		}
		fmt.Fprintf(w, "%s %s", r.Proto, name)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.EnableHTTP2 = true
	server.TLS = cfg
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// send makes one attempt over a connection of its own.
func send(t *testing.T, s TLS, address string) Response {
	t.Helper()
	c := newClient(t, Options{Allow: loopback})
	target, err := c.Target(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	q := newRequest(t, address)
	q.Target = target
	return c.Send(t.Context(), q)
}

func TestServersAreAuthenticated(t *testing.T) {
	root := newAuthority(t, "Root", nil, nil)
	ca := TLS{CAFile: caFile(t, root.cert)}
	day := func(days int) time.Time { return time.Now().AddDate(0, 0, days) }
	date := func(days int) string { return day(days).UTC().Format(time.DateOnly) }
	good := newCertificate(t, "good", root, nil)
	expired := newCertificate(t, "old", root, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = day(-20), day(-10) })
	early := newCertificate(t, "new", root, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = day(10), day(20) })
	named := newCertificate(t, "named", root, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"a.example"} })
	nameless := newCertificate(t, "nameless", root, func(c *x509.Certificate) { c.IPAddresses = nil })
	forClients := newCertificate(t, "client", root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	selfSigned := newCertificate(t, "self", nil, nil)
	strangers := newCertificate(t, "stranger", newAuthority(t, "Stranger CA", nil, nil), nil)
	oldRoot := newAuthority(t, "Old Root", nil, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = day(-20), day(-10) })
	ofOldRoot := newCertificate(t, "good", oldRoot, nil)
	middle := newAuthority(t, "Middle", root, nil)
	chained := newCertificate(t, "chained", middle, nil)
	short := chained
	chained.Certificate = append([][]byte{chained.Certificate[0]}, middle.cert.Raw)
	serve := func(c tls.Certificate) string { return serveTLS(t, &tls.Config{Certificates: []tls.Certificate{c}}) }
	tests := []struct {
		name, address string
		tls           TLS
		want          string // "" for an answer
	}{
		{"private authority", serve(good), ca, ""},
		{"private authority with an intermediate", serve(chained), ca, ""},
		{"self-signed certificate as its own authority", serve(selfSigned), TLS{CAFile: caFile(t, selfSigned.Leaf)}, ""},
		{"second certificate of the file", serve(good), TLS{CAFile: caFile(t, middle.cert, root.cert)}, ""},
		{"other server name", serve(named), TLS{CAFile: ca.CAFile, ServerName: "a.example"}, ""},
		{"not verified, expired", serve(expired), TLS{Insecure: true}, ""},
		{"not verified, self-signed, wrong host", serve(newCertificate(t, "x", nil, func(c *x509.Certificate) { c.IPAddresses = nil })), TLS{Insecure: true}, ""},
		{"expired", serve(expired), ca, "the server's certificate expired on " + date(-10)},
		{"not yet valid", serve(early), ca, "the server's certificate is not valid before " + date(10)},
		{"wrong host", serve(named), ca, "the server's certificate is for a.example, not for 127.0.0.1"},
		{"wrong server name", serve(named), TLS{CAFile: ca.CAFile, ServerName: "b.example"}, "the server's certificate is for a.example, not for b.example"},
		{"no host", serve(nameless), ca, "the server's certificate is for no host, not for 127.0.0.1"},
		{"not for servers", serve(forClients), ca, "the server's certificate is not valid: x509: certificate specifies an incompatible key usage"},
		{"self-signed", serve(selfSigned), ca, "the server's certificate is self-signed (set tls.ca_file to a file that holds it if it is the right one)"},
		{"self-signed before the system's authorities", serve(selfSigned), TLS{}, "the server's certificate is self-signed (set tls.ca_file to a file that holds it if it is the right one)"},
		{"unknown authority", serve(strangers), ca, "the server's certificate is signed by an authority that is not known, Stranger CA (set tls.ca_file if it is a private one; the server may also have left out its intermediate certificates)"},
		{"intermediate left out", serve(short), ca, "the server's certificate is signed by an authority that is not known, Middle (set tls.ca_file if it is a private one; the server may also have left out its intermediate certificates)"},
		{"private authority without the file", serve(good), TLS{}, "the server's certificate is signed by an authority that is not known, Root (set tls.ca_file if it is a private one; the server may also have left out its intermediate certificates)"},
		{"expired authority", serve(ofOldRoot), TLS{CAFile: caFile(t, oldRoot.cert)}, "the certificate of the authority Old Root expired on " + date(-10)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := send(t, tt.tls, tt.address)
			if tt.want == "" {
				if r.Err != nil || r.Status != 200 || string(r.Excerpt) != "HTTP/2.0 nobody" || r.TLS <= 0 {
					t.Errorf("got %+v, %s", r, r.Excerpt)
				}
			} else if r.Err == nil || r.Err.Error() != tt.want || r.Status != 0 {
				t.Errorf("got %v, want %s", r.Err, tt.want)
			}
		})
	}
}

func TestOldOrNoTLSIsRefused(t *testing.T) {
	root := newAuthority(t, "Root", nil, nil)
	ca := TLS{CAFile: caFile(t, root.cert)}
	good := newCertificate(t, "good", root, nil)
	upTo := func(version uint16) string {
		return serveTLS(t, &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: version})
	}
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
	defer plain.Close()
	// A ServerHello of TLS 1.1, picked although the client did not offer it.
	hello := "\x16\x03\x02\x00\x2a" + "\x02\x00\x00\x26" + "\x03\x02" + strings.Repeat("r", 32) + "\x00" + "\x00\x2f" + "\x00"
	const version = "the server speaks no TLS version from tls.min_version on (1.2 by default)"
	tests := []struct {
		name, address string
		tls           TLS
		want          string // "" for an answer
	}{
		{"1.0", upTo(tls.VersionTLS10), ca, version},
		{"1.1", upTo(tls.VersionTLS11), ca, version},
		{"1.1, not verified", upTo(tls.VersionTLS11), TLS{Insecure: true}, version},
		{"1.1 and a minimum below ours", upTo(tls.VersionTLS11), TLS{CAFile: ca.CAFile, MinVersion: tls.VersionTLS10}, version},
		{"1.1 picked unasked", serveBytes(t, hello), ca, version},
		{"1.2", upTo(tls.VersionTLS12), ca, ""},
		{"1.2 where 1.3 is the least", upTo(tls.VersionTLS12), TLS{CAFile: ca.CAFile, MinVersion: tls.VersionTLS13}, version},
		{"1.3 where 1.3 is the least", upTo(tls.VersionTLS13), TLS{CAFile: ca.CAFile, MinVersion: tls.VersionTLS13}, ""},
		{"plain HTTP", strings.Replace(plain.URL, "http", "https", 1), ca, "the server answered in plain HTTP, not in TLS"},
		{"another protocol", serveBytes(t, "SSH-2.0-x\r\n"), ca, "the server does not answer in TLS"},
		{"unknown name", serveBytes(t, "\x15\x03\x03\x00\x02\x02\x70"), ca, "the server does not know the name it was asked for (alert 112, unrecognized name; see tls.server_name)"},
		{"nothing in common", serveBytes(t, "\x15\x03\x03\x00\x02\x02\x28"), ca, "the server refused TLS (alert 40, handshake failure); it may ask for a client certificate or have no cipher in common with us"},
		{"bad certificate", serveBytes(t, "\x15\x03\x03\x00\x02\x02\x2a"), ca, "the server refused our client certificate or asks for one (alert 42, bad certificate)"},
		{"unheard-of alert", serveBytes(t, "\x15\x03\x03\x00\x02\x02\xc8"), ca, "the server refused TLS (alert 200, alert(200))"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := send(t, tt.tls, tt.address)
			if tt.want == "" {
				if r.Err != nil || r.Status != 200 {
					t.Errorf("got %+v", r)
				}
			} else if r.Err == nil || r.Err.Error() != tt.want {
				t.Errorf("got %v, want %s", r.Err, tt.want)
			}
		})
	}
}

func TestClientCertificates(t *testing.T) {
	root := newAuthority(t, "Root", nil, nil)
	ca := TLS{CAFile: caFile(t, root.cert)}
	pool := x509.NewCertPool()
	pool.AddCert(root.cert)
	serve := func(version uint16) string {
		return serveTLS(t, &tls.Config{
			Certificates: []tls.Certificate{newCertificate(t, "good", root, nil)}, MaxVersion: version,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		})
	}
	forClients := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	right := withPair(t, ca, t.TempDir(), newCertificate(t, "right", root, forClients))
	wrong := withPair(t, ca, t.TempDir(), newCertificate(t, "wrong", newAuthority(t, "Stranger", nil, nil), forClients))
	old := withPair(t, ca, t.TempDir(), newCertificate(t, "old", root, func(c *x509.Certificate) {
		forClients(c)
		c.NotAfter = time.Now().Add(-time.Minute)
	}))
	tests := []struct {
		name    string
		version uint16
		tls     TLS
		want    string // the error; "" for an answer
	}{
		{"right, 1.2", tls.VersionTLS12, right, ""},
		{"right, 1.3", tls.VersionTLS13, right, ""},
		{"none, 1.2", tls.VersionTLS12, ca, "the server refused TLS (alert 40, handshake failure); it may ask for a client certificate or have no cipher in common with us"},
		{"none, 1.3", tls.VersionTLS13, ca, "the server asks for a client certificate (alert 116, certificate required; set tls.cert_file and tls.key_file)"},
		{"unknown authority, 1.2", tls.VersionTLS12, wrong, "the server refused our client certificate or asks for one (alert 48, unknown certificate authority)"},
		{"unknown authority, 1.3", tls.VersionTLS13, wrong, "the server refused our client certificate or asks for one (alert 48, unknown certificate authority)"},
		{"expired, 1.2", tls.VersionTLS12, old, "the server refused our client certificate or asks for one (alert 45, expired certificate)"},
		{"expired, 1.3", tls.VersionTLS13, old, "the server refused our client certificate or asks for one (alert 45, expired certificate)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			address := serve(tt.version)
			r := send(t, tt.tls, address)
			if tt.want == "" {
				if r.Err != nil || string(r.Excerpt) != "HTTP/2.0 right" {
					t.Errorf("got %+v, %s", r, r.Excerpt)
				}
				return
			}
			if err := explainTLS(readOver(t, tt.tls, address), byTLS); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			// In TLS 1.3 the client sends before it knows what the server makes
			// of its certificate. If that fails before the alert is read, it is lost.
			lost := tt.version == tls.VersionTLS13 && r.Err != nil &&
				(errors.Is(r.Err, errHungUp) || r.Err.Error() == "the connection was reset before the answer was complete")
			if r.Err == nil || r.Err.Error() != tt.want && !lost {
				t.Errorf("got %v, want %s", r.Err, tt.want)
			}
		})
	}
}

// readOver returns with what error a connection ends that only reads.
func readOver(t *testing.T, s TLS, address string) error {
	t.Helper()
	cfg, err := s.config()
	if err != nil {
		t.Fatal(err)
	}
	dialer := tls.Dialer{Config: cfg}
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(address, "https://"))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Read(make([]byte, 1))
	return err
}

func TestRenewedClientCertificateIsUsed(t *testing.T) {
	root := newAuthority(t, "Root", nil, nil)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{newCertificate(t, "good", root, nil)}, ClientAuth: tls.RequireAnyClientCert}
	server.Config.SetKeepAlivesEnabled(false)
	server.StartTLS()
	defer server.Close()
	dir := t.TempDir()
	first, second := newCertificate(t, "first", root, nil), newCertificate(t, "second", root, nil)
	s := withPair(t, TLS{CAFile: caFile(t, root.cert)}, dir, first)
	c := newClient(t, Options{Allow: loopback})
	target, err := c.Target(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name   string
		change func()
		want   string
	}{
		{"as it was read", func() {}, "first"},
		{"only the certificate is written", func() { put(t, s.CertFile, "CERTIFICATE", second.Certificate...) }, "first"},
		{"both are written", func() { put(t, s.KeyFile, "PRIVATE KEY", keyBytes(t, second)) }, "second"},
		{"the key is gone", func() { _ = os.Remove(s.KeyFile) }, "second"},
		{"both are there again", func() { withPair(t, s, dir, first) }, "first"},
	}
	for _, step := range steps {
		step.change()
		q := newRequest(t, server.URL)
		q.Target = target
		if r := c.Send(t.Context(), q); r.Err != nil || string(r.Excerpt) != step.want {
			t.Errorf("%s: got %s, %v, want %s", step.name, r.Excerpt, r.Err, step.want)
		}
	}
}

func TestExpiredClientCertificateIsNotKeptWithoutItsFiles(t *testing.T) {
	old := newCertificate(t, "old", nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	s := withPair(t, TLS{}, t.TempDir(), old)
	cfg, err := s.config()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.CertFile); err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.GetClientCertificate(nil); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "read client certificate: ") {
		t.Errorf("got %v", err)
	}
}

func TestClientCertificateIsRenewedDuringHandshakes(t *testing.T) {
	dir := t.TempDir()
	pairs := []tls.Certificate{newCertificate(t, "first", nil, nil), newCertificate(t, "second", nil, nil)}
	cfg, err := withPair(t, TLS{}, dir, pairs[0]).config()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				c, err := cfg.GetClientCertificate(nil)
				if err != nil || !c.PrivateKey.(*ecdsa.PrivateKey).PublicKey.Equal(c.Leaf.PublicKey) {
					t.Errorf("got %v, or a key that is not the certificate's", err)
					return
				}
			}
		})
	}
	for i := range 20 {
		withPair(t, TLS{}, dir, pairs[i%2])
	}
	wg.Wait()
}

func TestUnusableFilesAreErrors(t *testing.T) {
	pair, other := newCertificate(t, "a", nil, nil), newCertificate(t, "b", nil, nil)
	good := withPair(t, TLS{}, t.TempDir(), pair)
	keyOnly := put(t, filepath.Join(t.TempDir(), "key.pem"), "PRIVATE KEY", keyBytes(t, other))
	empty := put(t, filepath.Join(t.TempDir(), "empty.pem"), "CERTIFICATE")
	missing := filepath.Join(t.TempDir(), "missing.pem")
	tests := []struct {
		name string
		tls  TLS
		want string
	}{
		{"CA missing", TLS{CAFile: missing}, "read CA file: open " + missing + ": no such file or directory"},
		{"CA empty", TLS{CAFile: empty}, "read CA file: " + empty + " holds no certificate"},
		{"CA is a key", TLS{CAFile: keyOnly}, "read CA file: " + keyOnly + " holds no certificate"},
		{"certificate without key", TLS{CertFile: good.CertFile}, "read client certificate: its file and its key's file must both be given"},
		{"key without certificate", TLS{KeyFile: good.KeyFile}, "read client certificate: its file and its key's file must both be given"},
		{"certificate missing", TLS{CertFile: missing, KeyFile: good.KeyFile}, "read client certificate: stat " + missing + ": no such file or directory"},
		{"key missing", TLS{CertFile: good.CertFile, KeyFile: missing}, "read client certificate: stat " + missing + ": no such file or directory"},
		{"key of another", TLS{CertFile: good.CertFile, KeyFile: keyOnly}, "read client certificate: tls: private key does not match public key"},
		{"certificate empty", TLS{CertFile: empty, KeyFile: good.KeyFile}, "read client certificate: tls: failed to find any PEM data in certificate input"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.tls.config(); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestCAFileTakesThePlaceOfTheSystems(t *testing.T) {
	root := newAuthority(t, "Root", nil, nil)
	cfg, err := TLS{CAFile: caFile(t, root.cert)}.config()
	if err != nil {
		t.Fatal(err)
	}
	want := x509.NewCertPool()
	want.AddCert(root.cert)
	if !cfg.RootCAs.Equal(want) {
		t.Error("there are other authorities than those of the file")
	}
	if cfg, err = (TLS{}).config(); err != nil || cfg.RootCAs != nil || cfg.InsecureSkipVerify || cfg.MinVersion != tls.VersionTLS12 {
		t.Errorf("got %+v, %v for the zero value", cfg, err)
	}
}

func TestExplainTLSIsOneShortLine(t *testing.T) {
	hostile := &x509.Certificate{DNSNames: []string{"a\r\nb", strings.Repeat("x", 1000), "c.example"}, Subject: pkix.Name{CommonName: "C\x1b[31m\nA"}}
	for range 500 {
		hostile.DNSNames = append(hostile.DNSNames, "d.example")
	}
	invalid := func(err error) error {
		return fmt.Errorf("send: %w", &tls.CertificateVerificationError{UnverifiedCertificates: []*x509.Certificate{hostile}, Err: err})
	}
	tests := []struct {
		name string
		err  error
		want string // "" for none
	}{
		{"nothing", nil, ""},
		{"closed", io.EOF, ""},
		{"not connected", &net.OpError{Op: "dial", Err: errors.New("connection refused")}, ""},
		{"names", invalid(x509.HostnameError{Certificate: hostile, Host: "h.example"}), "the server's certificate is for a??b, " + strings.Repeat("x", 100) + "…, c.example and 500 more, not for h.example"},
		{"authority", invalid(x509.CertificateInvalidError{Cert: &x509.Certificate{Raw: []byte{1}, Subject: hostile.Subject}, Reason: x509.Expired}), "the certificate of the authority C?[31m?A expired on 0001-01-01"},
		{"issuer without a name", invalid(x509.UnknownAuthorityError{Cert: hostile}), "the server's certificate is signed by an authority that is not known, which has no name (set tls.ca_file if it is a private one; the server may also have left out its intermediate certificates)"},
		{"no system roots", invalid(x509.SystemRootsError{}), "the system has no certificates of authorities to verify the server's with (install them or set tls.ca_file)"},
		{"anything else", invalid(errors.New("odd\n" + strings.Repeat("y", 500))), "the server's certificate cannot be verified: odd?" + strings.Repeat("y", 96) + "…"},
		{"HTTP/2 closed at once", errors.New("http2: client conn could not be established"), "the server closed the connection as soon as TLS was agreed: it may refuse our client certificate or ask for one"},
		{"http.Client's", http.ErrSchemeMismatch, "the server answered in plain HTTP, not in TLS"},
		{"alert within", fmt.Errorf("connection broken: %w", &net.OpError{Op: "read", Err: &net.OpError{Op: "remote error", Err: tls.AlertError(116)}}), "the server asks for a client certificate (alert 116, certificate required; set tls.cert_file and tls.key_file)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := explainTLS(tt.err, byTLS); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	const want = "the system has no certificates of authorities to verify the server's with (install them or name a file of them in the environment variable SSL_CERT_FILE)"
	if got := explainTLS(invalid(x509.SystemRootsError{}), bySystem); got == nil || got.Error() != want {
		t.Errorf("by the system: got %v, want %s", got, want)
	}
}
