package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/relay/signing"
)

const oneEndpoint = `
endpoints:
  - {name: plain, url: "${RECEIVER}/plain", events: ["*"], secret: "${SECRET}"}
`

const oneOrderedEndpoint = `
endpoints:
  - {name: ordered, url: "${RECEIVER}/ordered", events: ["*"], secret: "${SECRET}", ordering: key}
`

// waitSettled is waitRead, and holds that nothing is pending then: what did not
// arrive by then never will.
func waitSettled(t testing.TB, db *database) {
	t.Helper()
	waitRead(t, db)
	if pending := db.count(t, `SELECT count(*) FROM posthorn.pending`); pending > 0 {
		t.Errorf("%d deliveries are pending", pending)
	}
}

// waitRead commits one event more, of type test.marker, and returns once the
// slot has passed all that was committed before.
func waitRead(t testing.TB, db *database) {
	t.Helper()
	var end string
	if err := db.pool.QueryRow(t.Context(), `SELECT pg_current_wal_lsn()::text`).Scan(&end); err != nil {
		t.Fatal(err)
	}
	db.exec(t, `INSERT INTO posthorn.outbox (type, payload) VALUES ('test.marker', '{}')`)
	eventually(t, time.Minute, func() error {
		var passed bool
		var at string
		err := db.pool.QueryRow(t.Context(), `SELECT confirmed_flush_lsn > $1::pg_lsn, confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $2`, end, db.slot).Scan(&passed, &at)
		if err == nil && !passed {
			err = fmt.Errorf("slot is at %s, not past %s", at, end)
		}
		return err
	})
}

func TestRolledBackEventsNeverArrive(t *testing.T) {
	db := newDatabase(t)
	rcv := newReceiver(t, "/plain")
	plain := rcv.endpoints["/plain"]
	startRelay(t, db, rcv, oneEndpoint).waitReady()

	n := scaled(10_000)
	rolledBack, err := db.write(t.Context(), bulk{From: 1, To: n}, 20)
	if err != nil {
		t.Fatal(err)
	}
	rolledBack += rollBackInOtherWays(t, db, n)
	plain.waitDelivered(n+2, time.Minute)
	waitSettled(t, db)

	committed := n + 3 // two among those that were rolled back, and the marker
	if got, want := plain.counts(), (account{Requests: committed, Delivered: committed}); got != want {
		t.Errorf("arrived: got %+v, want %+v", got, want)
	}
	if stored := db.count(t, `SELECT count(*) FROM posthorn.deliveries`); stored != committed {
		t.Errorf("ledger: got %d deliveries, want %d", stored, committed)
	}
	t.Logf("FIGURE rolled back: %d committed and delivered, %d rolled back, of which 0 arrived", committed, rolledBack)
}

// rollBackInOtherWays commits the events n+1 and n+2 around some that do not:
// behind a savepoint, in a statement that fails, and on a connection that goes
// away. It returns how many do not commit.
func rollBackInOtherWays(t *testing.T, db *database, n int) int {
	ctx := t.Context()
	lost := bulk{From: 1, To: 10, RolledBack: true}
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		if err := (bulk{From: n + 1, To: n + 1}).insert(ctx, tx); err != nil {
			return err
		}
		savepoint, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		if err := lost.insert(ctx, savepoint); err != nil {
			return err
		}
		if err := savepoint.Rollback(ctx); err != nil {
			return err
		}
		return bulk{From: n + 2, To: n + 2}.insert(ctx, tx)
	})
	if err != nil {
		t.Fatal(err)
	}

	err = pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		if err := lost.insert(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `SELECT 1/0`)
		return err
	})
	if err == nil {
		t.Fatal("a division by zero succeeded")
	}

	conn, err := pgx.Connect(ctx, db.url)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := lost.insert(ctx, tx); err != nil {
		t.Fatal(err)
	}
	if err := conn.PgConn().Conn().Close(); err != nil { // without a farewell
		t.Fatal(err)
	}
	return 30
}

func TestCommitOrderHoldsPerKey(t *testing.T) {
	const (
		keys = 10
		side = 5 // transactions side by side
	)
	db := newDatabase(t)
	rcv := newReceiver(t, "/ordered")
	ordered := rcv.endpoints["/ordered"]
	ordered.ordered = true
	startRelay(t, db, rcv, oneOrderedEndpoint).waitReady()

	ctx := t.Context()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	rounds := scaled(200)
	turned := 0
	for round := range rounds {
		txs := make([]pgx.Tx, side)
		inserts, commits := random.Perm(side), random.Perm(side)
		for i := range txs {
			txs[i] = begin(t, db.pool)
		}
		// Transaction i commits at place rank[i], which is what its events say.
		rank := make([]int, side)
		for place, i := range commits {
			rank[i] = place
		}
		for _, i := range inserts {
			from := (round*side+rank[i])*keys + 1
			if err := (bulk{From: from, To: from + keys - 1, Keys: keys}).insert(ctx, txs[i]); err != nil {
				t.Fatal(err)
			}
		}
		for place, i := range commits {
			if err := txs[i].Commit(ctx); err != nil {
				t.Fatal(err)
			}
			if inserts[place] != i {
				turned++
			}
		}
	}
	n := rounds * side * keys
	ordered.waitDelivered(n, 2*time.Minute)
	if got := ordered.counts().Requests; got != n {
		t.Errorf("requests: got %d, want %d", got, n)
	}
	t.Logf("FIGURE commit order: %d events of %d keys in commit order; %d of %d transactions had committed in another place than they had inserted", n, keys, turned, rounds*side)
}

func begin(t *testing.T, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // an error, once it is committed
	return tx
}

func TestPayloadsArriveByteExact(t *testing.T) {
	const config = `
profiles:
  marked: {headers: {X-Event: "{{ .Event.ID }}"}}
endpoints:
  - {name: standard, url: "${RECEIVER}/standard", events: ["*"], secret: "${SECRET}", profile: marked}
  - name: hmac
    url: ${RECEIVER}/hmac
    events: ["*"]
    secret: ${SECRET}
    profile: marked
    signatures: [{scheme: hmac, header: X-Signature, algorithm: sha512, content: "{timestamp}.{body}", value: "t={timestamp},v1={signature}"}]
  - {name: wrapped, url: "${RECEIVER}/wrapped", events: [test.created], secret: "${SECRET}", profile: marked, body: '{"data": {{ .Payload }}}'}
`
	db := newDatabase(t)
	rcv := newReceiver(t, "/standard", "/hmac", "/wrapped")
	rcv.endpoints["/hmac"].verify = verifier(t, signing.Options{
		Scheme: "hmac", Header: "X-Signature", Algorithm: "sha512", Content: "{timestamp}.{body}", Value: "t={timestamp},v1={signature}",
	})
	payloads := hostilePayloads(t, db)
	ids := map[string]string{} // payload names by event id
	for name := range payloads {
		ids[uuid.NewString()] = name
	}
	for path, e := range rcv.endpoints {
		e.answers(func(q *request) int {
			name := ids[q.Header.Get("X-Event")]
			want := payloads[name].text
			if path == "/wrapped" {
				want = `{"data": ` + want + `}`
			}
			if string(q.Body) != want {
				e.complain("payload %q: %s", name, difference(q.Body, want))
			}
			return http.StatusOK
		})
	}
	r := startRelay(t, db, rcv, config)
	r.waitReady()
	total, want := 0, 0
	for id, name := range ids {
		p := payloads[name]
		db.exec(t, `INSERT INTO posthorn.outbox (id, type, payload) VALUES ($1, $2, $3::text::json)`, id, p.eventType, p.text)
		total += len(p.text)
		if want += 2; p.eventType == "test.created" {
			want++
		}
	}
	eventually(t, 2*time.Minute, func() error {
		if got := db.count(t, `SELECT count(*) FROM posthorn.deliveries`); got < want {
			return fmt.Errorf("%d of %d deliveries are final", got, want)
		}
		return nil
	})
	if failed := db.count(t, `SELECT count(*) FROM posthorn.deliveries WHERE state <> 'delivered'`); failed > 0 {
		t.Errorf("%d deliveries failed", failed)
	}
	requests := 0
	for _, e := range rcv.endpoints {
		requests += e.counts().Requests
	}
	if requests != want {
		t.Errorf("requests: got %d, want %d", requests, want)
	}
	t.Logf("FIGURE payloads: %d of %d bytes in all, in %d requests, each byte-exact and verified; peak memory %d MiB", len(payloads), total, requests, r.peakRSS()>>20)
}

// difference says where body leaves want, without all of it.
func difference(body []byte, want string) string {
	at := 0
	for at < len(body) && at < len(want) && body[at] == want[at] {
		at++
	}
	excerpt := func(b []byte) []byte { return b[min(at, len(b)):min(at+40, len(b))] }
	return fmt.Sprintf("has %d bytes, want %d; at byte %d it has %q, want %q", len(body), len(want), at, excerpt(body), excerpt([]byte(want)))
}

// payload is a JSON text that Postgres takes, and its event's type.
type payload struct{ eventType, text string }

// hostilePayloads returns payloads by name. Those of type test.deepest are
// nested as deep as Postgres allows, which is deeper than bodies that a
// template makes can be.
func hostilePayloads(t *testing.T, db *database) map[string]payload {
	size := scaled(10 << 20)
	unicode := everyCharacter()
	depth := deepest(t, db)
	t.Logf("FIGURE payloads: the server takes JSON nested %d levels deep", depth)
	const deep = 9_999
	payloads := map[string]payload{}
	for name, text := range map[string]string{
		"null":               `null`,
		"a number":           `-0`,
		"an empty text":      `""`,
		"an empty object":    `{}`,
		"spelling":           " {\n\t\"b\" : 1.0 ,\r\n \"a\":1e400, \"a\" :  -0, \"\": 12345678901234567890.10 }\n ",
		"as HTML":            `"<script>&amp;</script>\/` + "\u2028\u2029" + `"`,
		"every character":    `{"text": "` + unicode + `"}`,
		"every escape":       `["` + everyEscape() + `"]`,
		"escapes as keys":    `{"\u0000": "\ud800", "\udfff\ud83d": "\ud83d\ude00", "\uDBFF\uDFFF": null}`,
		"deep arrays":        strings.Repeat("[", deep) + strings.Repeat("]", deep),
		"deep objects":       strings.Repeat(`{"a":`, deep/2) + "1" + strings.Repeat("}", deep/2),
		"large, ASCII":       `{"text": "` + strings.Repeat("0123456789abcdef", size/16) + `"}`,
		"large, Unicode":     `{"text": "` + repeatTo(unicode, size) + `"}`,
		"large, many values": `[` + strings.TrimSuffix(repeatTo(`{"id":1.50,"n":[true,false,null]}, `, size), ", ") + `]`,
	} {
		payloads[name] = payload{"test.created", text}
	}
	payloads["deepest"] = payload{"test.deepest", strings.Repeat("[", depth) + strings.Repeat("]", depth)}
	return payloads
}

// everyCharacter returns every character that there is, as it stands in a JSON
// text: raw, but for those that must be escaped.
func everyCharacter() string {
	var b strings.Builder
	for c := rune(1); c <= utf8.MaxRune; c++ {
		switch {
		case !utf8.ValidRune(c):
		case c < ' ':
			fmt.Fprintf(&b, `\u%04x`, c)
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// everyEscape returns every escape, those of NUL and of surrogates without a
// partner too, in lower and upper case.
func everyEscape() string {
	var b strings.Builder
	b.WriteString(`\"\\\/\b\f\n\r\t`)
	for c := range 1 << 16 {
		fmt.Fprintf(&b, `\u%04x\u%04X `, c, c)
	}
	return b.String()
}

// repeatTo repeats text until it has at least size bytes.
func repeatTo(text string, size int) string {
	return strings.Repeat(text, (size+len(text)-1)/len(text))
}

// deepest returns how many arrays in one another Postgres takes, at most a
// million.
func deepest(t *testing.T, db *database) int {
	low, high := 1, 1_000_000
	for low < high {
		middle := (low + high + 1) / 2
		_, err := db.pool.Exec(t.Context(), `SELECT $1::text::json`, strings.Repeat("[", middle)+strings.Repeat("]", middle))
		if err == nil {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low
}
