package egress

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
)

// TLS says how servers are authenticated, and how the client is to them. The
// zero value verifies servers with the system's authorities. It is comparable.
type TLS struct {
	// Insecure takes any certificate of a server: whoever is on the way can
	// read and change what is sent.
	Insecure bool
	// CAFile holds certificates of authorities in PEM. They take the place of
	// the system's: where an endpoint has a private authority, no public one
	// shall be able to speak for it. A certificate that signs itself may stand
	// here too. "" for the system's.
	CAFile string
	// CertFile and KeyFile hold the client's certificate, with the chain to
	// its authority, and its private key in PEM. They are read again when they
	// change. "" for none; both or neither.
	CertFile, KeyFile string
	// ServerName is asked for (SNI) and must be in the certificate, instead of
	// the URL's host. "" for that.
	ServerName string
	// MinVersion is tls.VersionTLS12 or tls.VersionTLS13; what is less, zero
	// too, is TLS 1.2.
	MinVersion uint16
}

// config reads the files and returns what a transport needs.
func (t TLS) config() (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion:         max(t.MinVersion, tls.VersionTLS12),
		ServerName:         t.ServerName,
		InsecureSkipVerify: t.Insecure, //nolint:gosec // the operator asks for it and is warned
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read CA file: %s holds no certificate", t.CAFile)
		}
	}
	if t.CertFile == "" && t.KeyFile == "" {
		return cfg, nil
	}
	if t.CertFile == "" || t.KeyFile == "" {
		return nil, errors.New("read client certificate: its file and its key's file must both be given")
	}
	pair := &clientPair{certFile: t.CertFile, keyFile: t.KeyFile}
	if _, err := pair.current(); err != nil {
		return nil, err
	}
	// Unlike Certificates, this offers the certificate to a server that names
	// other authorities too: its refusal says more than silence.
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.current() }
	return cfg, nil
}

// clientPair is a client's certificate and key, read again when a file changes,
// so that a certificate that is renewed on disk needs no restart.
type clientPair struct {
	certFile, keyFile string

	mu                sync.Mutex
	certStat, keyStat os.FileInfo
	pair              *tls.Certificate
}

// current returns the certificate that the files hold. While they cannot be
// read, or the key is not the certificate's because only one of the two is
// written yet, that is the previous one, for as long as it is valid.
func (p *clientPair) current() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.refresh()
	if err != nil && (p.pair == nil || time.Now().After(p.pair.Leaf.NotAfter)) {
		return nil, fmt.Errorf("read client certificate: %w", err)
	}
	return p.pair, nil
}

// refresh reads the files if they are not as they were. It looks at them before
// it reads them, so that what changes in between is read the next time.
func (p *clientPair) refresh() error {
	certStat, err := os.Stat(p.certFile)
	if err != nil {
		return err
	}
	keyStat, err := os.Stat(p.keyFile)
	if err != nil {
		return err
	}
	if p.pair != nil && sameFile(certStat, p.certStat) && sameFile(keyStat, p.keyStat) {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return err
	}
	p.pair, p.certStat, p.keyStat = &pair, certStat, keyStat
	return nil
}

// sameFile reports whether nothing was written between the two looks at a
// file, nor another one put in its place.
func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// explainTLS returns one line for people that says why TLS with a server
// failed, or nil if err is another matter. What comes from the server's
// certificate is shortened and holds no control characters.
func explainTLS(err error, by vouching) error {
	if invalid, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return errors.New(explainCertificate(invalid, by))
	}
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		if string(record.RecordHeader[:]) == "HTTP/" {
			return errPlainHTTP
		}
		return errors.New("the server does not answer in TLS")
	}
	if errors.Is(err, http.ErrSchemeMismatch) { // http.Client's word for the same
		return errPlainHTTP
	}
	if alert, ok := alertOf(err); ok {
		return errors.New(explainAlert(alert))
	}
	if err == nil {
		return nil
	}
	// There are no types for a server that picks a version it was not offered,
	// and for one that gives an HTTP/2 connection up before the first request.
	// The latter is how a server of TLS 1.3 refuses a client certificate, or
	// asks for one, if HTTP/2 reads its alert before the request is written.
	switch text := err.Error(); {
	case strings.Contains(text, "tls: server selected unsupported protocol version"):
		return errVersion
	case strings.Contains(text, "http2: client conn could not be established"):
		return errHungUp
	}
	return nil
}

var (
	errHungUp    = errors.New("the server closed the connection as soon as TLS was agreed: it may refuse our client certificate or ask for one")
	errPlainHTTP = errors.New("the server answered in plain HTTP, not in TLS")
	errVersion   = errors.New("the server speaks no TLS version from tls.min_version on (1.2 by default)")
)

// vouching is what people can do, in words, so that an authority vouches for a
// server: one of its own, one that is not known, any at all.
type vouching struct{ selfSigned, unknown, any string }

var (
	// byTLS is for endpoints, which have a TLS.
	byTLS = vouching{
		selfSigned: "set tls.ca_file to a file that holds it if it is the right one",
		unknown:    "set tls.ca_file if it is a private one",
		any:        "install them or set tls.ca_file",
	}
	// bySystem is for token endpoints and proxies, which the system's
	// authorities alone vouch for.
	bySystem = vouching{
		selfSigned: "if it is the right one, add it to the system's authorities or name a file of them in the environment variable SSL_CERT_FILE",
		unknown:    "if it is a private one, add it to the system's authorities or name a file of them in the environment variable SSL_CERT_FILE",
		any:        "install them or name a file of them in the environment variable SSL_CERT_FILE",
	}
)

// explainCertificate says what is wrong with a server's certificate.
func explainCertificate(err *tls.CertificateVerificationError, by vouching) string {
	leaf := err.UnverifiedCertificates[0]
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return explainInvalid(invalid, leaf)
	}
	if other, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Sprintf("the server's certificate is for %s, not for %s", names(other.Certificate), clean(other.Host))
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if bytes.Equal(leaf.RawSubject, leaf.RawIssuer) && leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil {
			return "the server's certificate is self-signed (" + by.selfSigned + ")"
		}
		return fmt.Sprintf("the server's certificate is signed by an authority that is not known, %s (%s; the server may also have left out its intermediate certificates)", nameOf(leaf.Issuer), by.unknown)
	}
	if _, ok := errors.AsType[x509.SystemRootsError](err); ok {
		return "the system has no certificates of authorities to verify the server's with (" + by.any + ")"
	}
	return "the server's certificate cannot be verified: " + clean(err.Err.Error())
}

// explainInvalid says what is wrong with a certificate of the chain from leaf
// to an authority.
func explainInvalid(err x509.CertificateInvalidError, leaf *x509.Certificate) string {
	subject := "the server's certificate"
	if !err.Cert.Equal(leaf) {
		subject = "the certificate of the authority " + nameOf(err.Cert.Subject)
	}
	switch {
	case err.Reason != x509.Expired:
		return subject + " is not valid: " + clean(err.Error())
	case time.Now().Before(err.Cert.NotBefore):
		return subject + " is not valid before " + err.Cert.NotBefore.UTC().Format(time.DateOnly)
	}
	return subject + " expired on " + err.Cert.NotAfter.UTC().Format(time.DateOnly)
}

// alertOf returns the alert by which the server ended TLS. crypto/tls exports
// no type for one that it received, but the text of each.
func alertOf(err error) (tls.AlertError, bool) {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok {
		return 0, false
	}
	if op.Op != "remote error" {
		return alertOf(op.Err)
	}
	for n := range 256 {
		if alert := tls.AlertError(n); alert.Error() == op.Err.Error() {
			return alert, true
		}
	}
	return 0, false
}

// explainAlert says what a server's alert means, by RFC 8446, section 6.
func explainAlert(alert tls.AlertError) string {
	text := fmt.Sprintf("alert %d, %s", alert, strings.TrimPrefix(alert.Error(), "tls: "))
	switch alert {
	case 40: // handshake_failure, which is also TLS 1.2's word for want of a certificate
		return "the server refused TLS (" + text + "); it may ask for a client certificate or have no cipher in common with us"
	case 42, 43, 44, 45, 46, 48, 49: // bad_certificate to unknown_ca, access_denied
		return "the server refused our client certificate or asks for one (" + text + ")"
	case 116: // certificate_required
		return "the server asks for a client certificate (" + text + "; set tls.cert_file and tls.key_file)"
	case 70: // protocol_version
		return errVersion.Error()
	case 112: // unrecognized_name
		return "the server does not know the name it was asked for (" + text + "; see tls.server_name)"
	}
	return "the server refused TLS (" + text + ")"
}

// shownNames bounds how many of a certificate's names an error tells.
const shownNames = 3

// names lists whom a certificate is for.
func names(cert *x509.Certificate) string {
	all := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "no host"
	}
	more := ""
	if len(all) > shownNames {
		more = fmt.Sprintf(" and %d more", len(all)-shownNames)
		all = all[:shownNames]
	}
	for i, name := range all {
		all[i] = clean(name)
	}
	return strings.Join(all, ", ") + more
}

// nameOf returns what people call an authority.
func nameOf(n pkix.Name) string {
	if n.CommonName != "" {
		return clean(n.CommonName)
	}
	if all := n.String(); all != "" {
		return clean(all)
	}
	return "which has no name"
}

// clean returns s for a line that people read: at most 100 characters, each
// printable.
func clean(s string) string {
	shown := []rune(s[:min(len(s), 400)]) // 4 bytes are a character at most
	if len(shown) > 100 {
		shown = append(shown[:100], '…')
	}
	for i, r := range shown {
		if !unicode.IsPrint(r) {
			shown[i] = '?'
		}
	}
	return string(shown)
}
