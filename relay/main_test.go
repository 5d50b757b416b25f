package relay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/integration/postgres"
	"github.com/posthorn/posthorn/plugins"
)

var server *postgres.Server

// TestMain is a plugin when a relay starts it as one.
func TestMain(m *testing.M) {
	if os.Getenv("POSTHORN_PLUGIN") != "" {
		plugins.Serve(plugins.TransformerFunc(transformInPlugin))
		return
	}
	goleak.VerifyTestMain(postgres.WithServer(m, &server))
}

// database is a test's own database, with a slot name of its own.
type database struct {
	url, slot string
	pool      *pgxpool.Pool
}

func newDatabase(t *testing.T) *database {
	t.Helper()
	url, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	db := &database{url: url, slot: "s_" + strings.ToLower(pool.Config().ConnConfig.Database), pool: pool}
	t.Cleanup(func() { db.dropSlot(t) })
	return db
}

// dropSlot drops the slot. The server lets go of it a moment after its relay
// has closed the connection.
func (db *database) dropSlot(t *testing.T) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := db.pool.Exec(context.Background(), `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`, db.slot)
		var inUse *pgconn.PgError
		switch {
		case err == nil:
			return
		case !errors.As(err, &inUse) || inUse.Code != "55006" || time.Now().After(deadline):
			t.Fatal(err)
		}
		<-ticker.C
	}
}

// config returns the configuration that extra, in YAML, and the database's own
// slot make.
func (db *database) config(t *testing.T, extra string) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "posthorn.yaml")
	if err := os.WriteFile(path, []byte(extra), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path, []string{"POSTHORN_DATABASE__URL=" + db.url, "POSTHORN_SOURCE__SLOT=" + db.slot})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// initialised returns the configuration of a database on which Init was run.
func (db *database) initialised(t *testing.T, extra string) *config.Config {
	t.Helper()
	cfg := db.config(t, extra)
	if err := Init(t.Context(), cfg, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// script runs several statements, each in a transaction of its own.
func (db *database) script(t *testing.T, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, statement := range statements(sql) {
		if _, err := conn.PgConn().Exec(t.Context(), statement).ReadAll(); err != nil {
			t.Fatalf("run %s: %v", statement, err)
		}
	}
}

// statements splits SQL as psql does: at semicolons outside of quotes, dollar
// quotes and comments.
func statements(sql string) []string {
	var all []string
	start, end := 0, ""
	ends := map[string]string{"'": "'", "$$": "$$", "--": "\n"}
	for i := 0; i < len(sql); i++ {
		switch rest := sql[i:]; {
		case end != "":
			if strings.HasPrefix(rest, end) {
				i += len(end) - 1
				end = ""
			}
		case rest[0] == ';':
			all = append(all, sql[start:i+1])
			start = i + 1
		default:
			for begin, stop := range ends {
				if strings.HasPrefix(rest, begin) {
					i += len(begin) - 1
					end = stop
					break
				}
			}
		}
	}
	return all
}

func (db *database) text(t *testing.T, sql string, args ...any) string {
	t.Helper()
	var s string
	if err := db.pool.QueryRow(t.Context(), sql, args...).Scan(&s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

// wants fails the test unless err's text holds all of texts.
func wants(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(fmt.Sprint(err), text) {
			t.Errorf("error %v does not say %q", err, text)
		}
	}
}
