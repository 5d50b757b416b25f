package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

var server *Server

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		roles[role]()
		return
	}
	goleak.VerifyTestMain(WithServer(m, &server))
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func queryText(t *testing.T, url, sql string) string {
	t.Helper()
	var got string
	if err := connect(t, url).QueryRow(t.Context(), sql).Scan(&got); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

func TestDatabasesAreSeparate(t *testing.T) {
	first, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, first).Exec(t.Context(), "CREATE TABLE here (n int)"); err != nil {
		t.Fatal(err)
	}
	const tables = "SELECT count(*)::text FROM pg_tables WHERE tablename = 'here'"
	if got := queryText(t, first, tables) + queryText(t, second, tables); got != "10" {
		t.Errorf("tables in the first and the second database: got %s, want 10", got)
	}
}

func TestSettings(t *testing.T) {
	for name, want := range map[string]string{
		"wal_level": "logical", "fsync": "off", "server_encoding": "UTF8", "TimeZone": "UTC",
		"listen_addresses": "127.0.0.1", "port": strconv.Itoa(server.Port()),
	} {
		if got := queryText(t, server.URL("postgres"), "SHOW "+name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestPIDIsThatOfTheFirstProcess(t *testing.T) {
	const parent = `SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)`
	if got := queryText(t, server.URL("postgres"), parent); got != strconv.Itoa(server.PID()) {
		t.Errorf("got %d, want %s", server.PID(), got)
	}
}

func TestPasswordIsRequired(t *testing.T) {
	url := strings.Replace(server.URL("postgres"), server.password, "wrong", 1)
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		_ = conn.Close(t.Context())
		t.Fatal("connected with a wrong password")
	}
}

// TestLifecycle takes one server through a crash, a restart after it, one
// without it and its end.
func TestLifecycle(t *testing.T) {
	t.Setenv("TMPDIR", passableDir(t))
	quoted := `it's \ here`
	var log tail
	s, err := Start(t.Context(), Options{Settings: map[string]string{"cluster_name": quoted}, Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop() }()
	url := s.URL("postgres")
	if got := queryText(t, url, "SHOW cluster_name"); got != quoted {
		t.Errorf("cluster_name: got %q, want %q", got, quoted)
	}
	if got := queryText(t, url, "SHOW fsync"); got != "on" {
		t.Errorf("fsync: got %s, want on", got)
	}
	if _, err := connect(t, url).Exec(t.Context(), "CREATE TABLE kept AS SELECT 'committed' AS text"); err != nil {
		t.Fatal(err)
	}

	if err := s.Crash(); err != nil {
		t.Fatal(err)
	}
	if _, err := pgx.Connect(t.Context(), url); err == nil {
		t.Fatal("connected to a crashed server")
	}
	for range 2 { // once after the crash, once with the server running
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := queryText(t, url, "SELECT text FROM kept"); got != "committed" {
			t.Errorf("after a restart: got %q, want the committed row", got)
		}
	}
	if !strings.Contains(log.String(), "ready to accept connections") {
		t.Errorf("log misses the server's lines:\n%s", &log)
	}

	for range 2 {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if left := entries(t, os.TempDir()); len(left) != 0 {
		t.Errorf("left after Stop: %s", left)
	}
	if err := errors.Join(s.Restart(t.Context()), s.Crash()); !errors.Is(err, ErrStopped) {
		t.Errorf("use after Stop: got %v, want ErrStopped", err)
	}
}

// passableDir returns a temporary folder that the server's user can pass
// through, which those of t.TempDir are not.
func passableDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "posthorn-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestTakenPortIsReported(t *testing.T) {
	s, err := Start(t.Context(), Options{Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop() }()
	if err := s.Crash(); err != nil {
		t.Fatal(err)
	}
	var listen net.ListenConfig
	other, err := listen.Listen(t.Context(), "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port())))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); !errors.Is(err, errEnded) || !strings.Contains(err.Error(), "could not bind") {
		t.Errorf("restart on a taken port: got %v, want the server's own words", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Errorf("restart on the port that is free again: %v", err)
	}
}

func TestGivenFolderStays(t *testing.T) {
	dir := filepath.Join(passableDir(t), "new", "cluster")
	s, err := Start(t.Context(), Options{Dir: dir, Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, dir); len(got) != 1 || filepath.Base(got[0]) != "data" {
		t.Errorf("left in the folder: got %s, want data", got)
	}
	if s, err := Start(t.Context(), Options{Dir: dir}); err == nil {
		_ = s.Stop()
		t.Error("started in a folder that holds a cluster")
	}
}

func TestFoldersThatTheServersUserCannotEnter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as another user")
	}
	private := passableDir(t)
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	if s, err := Start(t.Context(), Options{Dir: filepath.Join(private, "cluster")}); err == nil {
		_ = s.Stop()
		t.Error("started in a folder that the server's user cannot enter")
	}
	t.Setenv("TMPDIR", private)
	cred, err := account()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := makeFolder("", cred)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(dir) }()
	if !passable(dir) {
		t.Errorf("temporary folder %s, which the server's user cannot enter", dir)
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := map[string]struct {
		ctx      context.Context
		settings map[string]string
		want     string // part of the error
	}{
		"bad setting": {t.Context(), map[string]string{"wal_level": "sideways"}, "sideways"},
		"cancelled":   {cancelled, nil, context.Canceled.Error()},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", passableDir(t))
			s, err := Start(test.ctx, Options{Settings: test.settings, Log: io.Discard})
			if err == nil {
				_ = s.Stop()
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want it to contain %q", err, test.want)
			}
			if left := entries(t, os.TempDir()); len(left) != 0 {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

type failingSuite struct{}

func (failingSuite) Run() int { return 3 }

func TestWithServerKeepsTheSuitesCode(t *testing.T) {
	var s *Server
	if got := WithServer(failingSuite{}, &s).Run(); got != 3 {
		t.Errorf("got %d, want the suite's 3", got)
	}
	if err := s.Restart(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("after the run: got %v, want ErrStopped", err)
	}
}
