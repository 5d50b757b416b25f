package compose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

func TestEachPostgresVersionServes(t *testing.T) {
	for _, version := range []string{"15", "17"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, map[string]string{"POSTGRES_IMAGE": "postgres:" + version})
			s.start()
			if got := s.mustQuery(`SELECT current_setting('server_version_num')::int / 10000`); fmt.Sprint(got) != version {
				t.Fatalf("the server's version is %d", got)
			}
			s.write(100, both...)
			for _, victim := range []string{"relay-a", "postgres"} {
				s.waitMore(200)
				s.kill(victim)
				s.revive(victim)
			}
			s.waitMore(100)
			t.Logf("FIGURE Postgres %s, relay and Postgres killed: %s", version, s.check(both...))
		})
	}
}

// Ordinary connections go through PgBouncer in transaction mode, which keeps
// nothing of a session; only the stream is direct.
func TestPgBouncerCarriesAllButTheStream(t *testing.T) {
	t.Parallel()
	if _, err := execute(nil, "docker", "build", "--quiet", "--tag", poolerTag, "pgbouncer"); err != nil {
		t.Fatal(err)
	}
	s := newStack(t, map[string]string{
		"POOLER_IMAGE":          poolerTag,
		"APP_DATABASE_URL":      "postgres://postgres:secret@pgbouncer:6432/postgres",
		"RELAY_DATABASE_URL":    "postgres://postgres:secret@pgbouncer:6432/postgres",
		"RELAY_REPLICATION_URL": "postgres://postgres:secret@postgres/postgres",
	}, "pgbouncer.yaml")
	s.up("pgbouncer")
	s.start()
	s.up("relay-b")
	s.waitRole("relay-b", "standby")
	s.write(100, both...)
	s.waitMore(200)
	s.kill("relay-a")
	s.waitRole("relay-b", "active")
	s.revive("relay-a")
	s.waitRole("relay-a", "standby")
	s.waitMore(200)
	s.kill("pgbouncer")
	time.Sleep(time.Second)
	s.revive("pgbouncer")
	s.waitMore(200)

	// Of the relays' own addresses comes the stream alone.
	const direct = `SELECT count(*) FROM pg_stat_activity WHERE backend_type %s 'walsender' AND client_addr IN ('%s', '%s')`
	a, b := s.address("relay-a", "db"), s.address("relay-b", "db")
	if streams, others := s.mustQuery(fmt.Sprintf(direct, "=", a, b)), s.mustQuery(fmt.Sprintf(direct, "<>", a, b)); streams != 1 || others != 0 {
		t.Errorf("direct connections of the relays: %d for the stream, %d others", streams, others)
	}
	t.Logf("FIGURE through PgBouncer, relay and PgBouncer killed: %s", s.check(both...))
}

func TestTLSToPostgresIsVerified(t *testing.T) {
	t.Parallel()
	folder := folder(t)
	makeCertificates(t, folder, "postgres")
	url := func(host string) string {
		return "postgres://postgres:secret@" + host + "/postgres?sslmode=verify-full&sslrootcert=/tls/ca.crt"
	}
	s := newStack(t, map[string]string{
		"TLS_FOLDER": folder, "APP_DATABASE_URL": "postgres://postgres:secret@postgres/postgres?sslmode=require", "RELAY_DATABASE_URL": url("postgres"),
	}, "tls.yaml")
	s.start()
	s.write(100, both...)
	s.waitMore(200)
	s.kill("relay-a")
	s.revive("relay-a")
	s.waitMore(200)

	const connections = `SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL AND `
	streams, open := s.mustQuery(connections+`ssl AND backend_type = 'walsender'`), s.mustQuery(connections+`NOT ssl`)
	if streams != 1 || open != 0 {
		t.Errorf("%d streams are encrypted, and %d connections are not", streams, open)
	}
	t.Logf("FIGURE TLS with verify-full, relay killed: %s", s.check(both...))

	// The same server by another name than its certificate's.
	id := s.container("postgres")
	docker(t, "network", "disconnect", s.project+"_db", id)
	docker(t, "network", "connect", "--alias", "postgres", "--alias", "elsewhere", s.project+"_db", id)
	s.env["RELAY_DATABASE_URL"] = url("elsewhere")
	s.up("relay-b")
	eventually(t, time.Minute, func() error {
		logs := s.output(100, "relay-b")
		if !strings.Contains(logs, "certificate is valid for postgres, not elsewhere") {
			return fmt.Errorf("the relay says:\n%s", logs)
		}
		return nil
	})
	s.waitRole("relay-b", "connecting")
}

// makeCertificates writes an authority, and a server's certificate for host.
func makeCertificates(t *testing.T, folder, host string) {
	t.Helper()
	writePEM := func(name, kind string, der []byte) {
		write(t, folder, name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	certificate := func(name string, serial int64, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: parent == nil, BasicConstraintsValid: true,
		}
		if parent == nil {
			parent, signer = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return made, key
	}
	ca, caKey := certificate("test authority", 1, nil, nil)
	server, serverKey := certificate(host, 2, ca, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM("ca.crt", "CERTIFICATE", ca.Raw)
	writePEM("server.crt", "CERTIFICATE", server.Raw)
	writePEM("server.key", "PRIVATE KEY", der)
}
