package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"regexp"
	"strings"
)

// maxNamed bounds a file of certificates, a key or a schema that a key names, in
// bytes: the system's bundles of certificates have a quarter of it.
const maxNamed = 1 << 20

var hostName = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)

// tls checks the keys of p that are given there; t holds the inherited ones too.
func (v *validator) tls(p place, t *TLS) {
	if at := p.field("verify"); at.given && !t.Verify {
		v.warnings.add(at, "servers are not authenticated: whoever can answer for one gets the requests; to trust a private authority, name its certificate in ca_file")
	}
	if at := p.field("server_name"); at.given && t.ServerName != "" && (len(t.ServerName) > 253 || !hostName.MatchString(t.ServerName)) {
		v.problems.add(at, "must be a host name such as erp.acme.example, got %s", shown(at.node))
	}
	if at := p.field("ca_file"); at.given && t.CAFile != "" {
		if data, ok := v.file(at, t.CAFile); ok && !x509.NewCertPool().AppendCertsFromPEM(data) {
			v.problems.add(at, "holds no certificate: %s", shown(at.node))
		}
	}
	certAt, keyAt := p.field("cert_file"), p.field("key_file")
	switch {
	case !certAt.given && !keyAt.given || t.CertFile == "" && t.KeyFile == "":
	case t.KeyFile == "":
		v.problems.add(keyAt, "is required with cert_file")
	case t.CertFile == "":
		v.problems.add(certAt, "is required with key_file")
	default:
		v.keyPair(certAt, keyAt, t)
	}
}

// keyPair checks a client's certificate and key. What is wrong with the key is
// said in words of our own, since errors could quote it.
func (v *validator) keyPair(certAt, keyAt place, t *TLS) {
	cert, certOK := v.file(certAt, t.CertFile)
	key, keyOK := v.file(keyAt, t.KeyFile)
	if certOK && !x509.NewCertPool().AppendCertsFromPEM(cert) {
		v.problems.add(certAt, "holds no certificate: %s", shown(certAt.node))
		certOK = false
	}
	if keyOK && !holdsKey(key) {
		v.problems.add(keyAt, "holds no private key in unencrypted PEM")
		keyOK = false
	}
	if !certOK || !keyOK {
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		v.problems.add(keyAt, "is not the key of the certificate in cert_file, which must come before those of its authorities")
	}
}

// file returns the content of the file that p names, or false when it is not
// to be looked at, or cannot be read, which it reports.
func (v *validator) file(p place, path string) ([]byte, bool) {
	if !v.files {
		return nil, false
	}
	data, err := readFile(path, maxNamed)
	var cause *fs.PathError
	switch {
	case errors.As(err, &cause):
		v.problems.add(p, "cannot be read: %v", cause.Err)
	case err != nil:
		v.problems.add(p, "cannot be read: %s", strings.TrimPrefix(err.Error(), path+" "))
	}
	return data, err == nil
}

// holdsKey reports whether the first private key in a PEM file can be parsed,
// in the forms that crypto/tls reads.
func holdsKey(data []byte) bool {
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return false
		}
		if data = rest; block.Type != "PRIVATE KEY" && !strings.HasSuffix(block.Type, " PRIVATE KEY") {
			continue
		}
		if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			return true
		}
		if _, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return true
		}
		_, err := x509.ParseECPrivateKey(block.Bytes)
		return err == nil
	}
}
