package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/integration/postgres"
)

var (
	fence  = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")
	export = regexp.MustCompile(`^export ([A-Z_]+)=(.*)$`)
	// What differs from one run to the next; the size does where the body holds
	// the receiver's port.
	varying = regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f-]{21}|wh_evt_[0-9A-Z]{26}|\d+ bytes`)
)

// readme is what an example's README tells people to do.
type readme struct {
	env         []string
	listen, run []string // arguments of posthorn
	sql, output string
}

// parseReadme reads a README as a shell would, with the port that it names
// replaced by a free one.
func parseReadme(t *testing.T, path, database, receiver string) readme {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	var r readme
	for _, block := range fence.FindAllStringSubmatch(strings.ReplaceAll(string(text), "127.0.0.1:9000", receiver), -1) {
		switch kind, body := block[1], block[2]; kind {
		case "sql":
			r.sql = body
		case "text":
			r.output = body
		case "sh":
			for line := range strings.Lines(body) {
				line = strings.TrimSpace(line)
				if m := export.FindStringSubmatch(line); m != nil {
					values[m[1]] = strings.Trim(m[2], "'")
					continue
				}
				args := strings.Fields(os.Expand(line, func(name string) string { return values[name] }))
				for i := range args {
					args[i] = strings.Trim(args[i], `"'`)
				}
				switch {
				case len(args) > 1 && args[0] == "posthorn" && args[1] == "listen":
					r.listen = args[1:]
				case len(args) > 1 && args[0] == "posthorn" && args[1] == "run":
					r.run = args[1:]
				default:
					t.Errorf("%s: unexpected command %q", path, line)
				}
			}
		}
	}
	values["DATABASE_URL"] = database
	for name, value := range values {
		r.env = append(r.env, name+"="+value)
	}
	if r.listen == nil || r.run == nil || r.sql == "" || r.output == "" {
		t.Fatalf("%s lacks a block: %+v", path, r)
	}
	return r
}

// TestExamplesDoWhatTheirReadmesSay follows the READMEs of the examples, one
// after the other on one database, as somebody would who tries them all.
func TestExamplesDoWhatTheirReadmesSay(t *testing.T) {
	server, err := postgres.Start(t.Context(), postgres.Options{Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	database, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("../..") // the READMEs' commands run there
	for _, product := range []string{"byro", "danbyte", "bindbee", "offly"} {
		t.Run(product, func(t *testing.T) { followReadme(t, database, filepath.Join("examples", product, "README.md")) })
	}
}

func followReadme(t *testing.T, database, path string) {
	receiver, err := freeAddress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := parseReadme(t, path, database, receiver)
	listen := start(t, r.env, append(r.listen, "--addr", receiver, "--count", "1")...)
	listen.stderr.waitFor(t, "Listening on ")
	relay := start(t, append(r.env, "POSTHORN_HTTP__LISTEN=127.0.0.1:0"), r.run...)
	publish(t, database, r.sql)

	if code := listen.wait(t); code != exitOK {
		t.Errorf("posthorn listen ended with %d: %s", code, listen.stderr)
	}
	relay.stop()
	if code := relay.wait(t); code != exitOK {
		t.Errorf("posthorn run ended with %d: %s", code, relay.stderr)
	}
	if got, want := varying.ReplaceAllString(listen.stdout.String(), "*"), varying.ReplaceAllString(r.output, "*"); got != want {
		t.Errorf("posthorn listen printed:\n%s\nthe README says:\n%s", got, want)
	}
}

// publish runs the README's statements once the relay has its slot.
func publish(t *testing.T, database, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	const isActive = `SELECT count(*) > 0 FROM pg_replication_slots WHERE active AND database = current_database()`
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for active := false; !active; <-ticker.C {
		if err := conn.QueryRow(ctx, isActive).Scan(&active); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(ctx, sql); err != nil { // several statements are one exchange
		t.Fatal(err)
	}
}
