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
	"os"
	"path/filepath"
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
			if got, err := s.query(`SELECT current_setting('server_version_num')::int / 10000`); fmt.Sprint(got) != version || err != nil {
				t.Fatalf("the server's version is %d (%v)", got, err)
			}
			s.write(1_000, 200, both...)
			for i, victim := range []string{"relay-a", "postgres"} {
				s.waitCommitted(300 + 700*i)
				s.kill(victim)
				s.revive(victim)
			}
			t.Logf("FIGURE Postgres %s, relay and Postgres killed: %s", version, s.check(both...))
		})
	}
}

// Ordinary connections go through PgBouncer in transaction mode, which keeps
// nothing of a session; only the stream is direct.
func TestPgBouncerCarriesAllButTheStream(t *testing.T) {
	t.Parallel()
	if _, err := execute(nil, "docker", "build", "--quiet", "--tag", poolerImage, "pgbouncer"); err != nil {
		t.Fatal(err)
	}
	s := newStack(t, map[string]string{
		"POOLER_IMAGE":          poolerImage,
		"APP_DATABASE_URL":      "postgres://postgres:secret@pgbouncer:6432/postgres",
		"RELAY_DATABASE_URL":    "postgres://postgres:secret@pgbouncer:6432/postgres",
		"RELAY_REPLICATION_URL": "postgres://postgres:secret@postgres/postgres",
	}, "pgbouncer.yaml")
	s.up("pgbouncer")
	s.start()
	s.up("relay-b")
	s.waitRole("relay-b", "standby")
	s.write(1_500, 150, both...)
	s.waitCommitted(500)
	s.kill("relay-a")
	s.waitRole("relay-b", "active")
	s.revive("relay-a")
	s.waitRole("relay-a", "standby")
	s.waitCommitted(1_500)
	s.kill("pgbouncer")
	time.Sleep(time.Second)
	s.revive("pgbouncer")
	t.Logf("FIGURE through PgBouncer, relay and PgBouncer killed: %s", s.check(both...))

	// Only the relay's stream has the relay's address.
	direct, err := s.query(fmt.Sprintf(`SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND client_addr IN ('%s', '%s')`,
		s.address("relay-a", "db"), s.address("relay-b", "db")))
	if direct != 0 || err != nil {
		t.Errorf("%d connections of the relays beside the stream are direct (%v)", direct, err)
	}
}

func TestTLSToPostgresIsVerified(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	makeCertificates(t, folder, "postgres")
	url := func(host string) string {
		return "postgres://postgres:secret@" + host + "/postgres?sslmode=verify-full&sslrootcert=/tls/ca.crt"
	}
	s := newStack(t, map[string]string{
		"TLS_FOLDER": folder, "APP_DATABASE_URL": "postgres://postgres:secret@postgres/postgres?sslmode=require", "RELAY_DATABASE_URL": url("postgres"),
	}, "tls.yaml")
	s.start()
	s.write(1_000, 200, both...)
	s.waitCommitted(500)
	s.kill("relay-a")
	s.revive("relay-a")
	f := s.check(both...)

	at := s.address("relay-a", "db")
	open, err := s.query(`SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE NOT ssl AND client_addr IS NOT NULL`)
	if open != 0 || err != nil {
		t.Errorf("%d connections are not encrypted (%v)", open, err)
	}
	walsenders, err := s.query(fmt.Sprintf(`SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND backend_type = 'walsender' AND client_addr = '%s'`, at))
	if walsenders != 1 || err != nil {
		t.Errorf("%d streams are encrypted (%v)", walsenders, err)
	}
	t.Logf("FIGURE TLS with verify-full: %s", f)

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

// makeCertificates writes an authority, a server's certificate for host, and a
// pg_hba.conf that takes TLS only.
func makeCertificates(t *testing.T, folder, host string) {
	t.Helper()
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644); err != nil {
			t.Fatal(err)
		}
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
	write("ca.crt", "CERTIFICATE", ca.Raw)
	write("server.crt", "CERTIFICATE", server.Raw)
	write("server.key", "PRIVATE KEY", der)
	hba := "local all all trust\nhostssl all all all scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(folder, "pg_hba.conf"), []byte(hba), 0o644); err != nil {
		t.Fatal(err)
	}
}
