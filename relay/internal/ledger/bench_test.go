package ledger

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// BenchmarkWrite records batches of ordinary successes, and of deliveries that
// are parked. Beside the usual figures it prints, per record, what the server's
// process for the ledger takes of the CPU, what a walsender takes to decode and
// skip the rows, and the bytes of WAL.
func BenchmarkWrite(b *testing.B) {
	for _, state := range []State{Delivered, Pending} {
		for _, size := range []int{1, 50, 1000} {
			b.Run(fmt.Sprintf("%s/%d", state, size), func(b *testing.B) { benchmarkWrite(b, state, size) })
		}
	}
}

// BenchmarkWriteForLists is what the indexes of lists cost a success and a parked
// delivery: in turns with the tables as they are, without those indexes, and with
// one that a list by endpoint could be read from in its order.
func BenchmarkWriteForLists(b *testing.B) {
	const without = `DROP INDEX posthorn.deliveries_ids, posthorn.deliveries_kinds, posthorn.deliveries_unsent`
	variants := []struct {
		name   string
		state  State
		change []string
	}{
		{"delivered/indexed", Delivered, nil},
		{"delivered/without", Delivered, []string{without}},
		{"delivered/btree", Delivered, []string{without, `CREATE INDEX ON posthorn.deliveries (endpoint_id, created_at)`}},
		{"pending/indexed", Pending, nil},
		{"pending/without", Pending, []string{`DROP INDEX posthorn.pending_list`}},
	}
	for round := range 3 {
		for _, v := range variants {
			b.Run(fmt.Sprintf("%s/%d", v.name, round), func(b *testing.B) { benchmarkWrite(b, v.state, 1000, v.change...) })
		}
	}
}

// benchmarkWrite writes batches of so many records after it changed the schema.
func benchmarkWrite(b *testing.B, state State, size int, change ...string) {
	pool := open(b)
	for _, sql := range change {
		if _, err := pool.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	l := acquire(b, pool)
	watcher, err := pgx.Connect(b.Context(), pool.Config().ConnString())
	if err != nil {
		b.Fatal(err)
	}
	defer watcher.Close(b.Context())
	mustExec := func(sql string) {
		if _, err := watcher.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	mustExec(`CREATE PUBLICATION benchmark FOR TABLE posthorn.outbox WITH (publish = 'insert')`)
	mustExec(`SELECT pg_create_logical_replication_slot('benchmark', 'pgoutput')`)
	defer mustExec(`SELECT pg_drop_replication_slot('benchmark')`)

	batch := make([]*Record, size)
	for i := range batch {
		batch[i] = newRecord(i, state)
		batch[i].Event.Type, batch[i].Event.Key = "order.created", "customer-"+strconv.Itoa(i%100)
	}
	n := uint64(0)
	renew := func() {
		for _, r := range batch {
			n++
			e := r.Event
			binary.BigEndian.PutUint64(e.ID[8:], n*0x9E3779B97F4A7C15) // spread, as random ids are
			r.ID = event.DeliveryID(e.ID, r.Endpoint)
			e.Position = event.Position{LSN: event.LSN(1000 + n*100)}
			e.CommittedAt = committed.Add(time.Duration(n) * 50 * time.Microsecond)
		}
	}
	write := func() {
		renew()
		if err := l.write(b.Context(), batch, batch[0].Event.Position.LSN); err != nil {
			b.Fatal(err)
		}
	}
	for range 10 { // plans are cached
		write()
	}
	pids := make(map[uint32]bool)
	for _, c := range pool.AcquireAllIdle(b.Context()) {
		pids[c.Conn().PgConn().PID()] = true
		c.Release()
	}
	cpu := func() (sum time.Duration) {
		for pid := range pids {
			sum += processCPU(b, pid)
		}
		return sum
	}
	mustExec(`SELECT count(*) FROM pg_logical_slot_get_binary_changes('benchmark', NULL, NULL, 'proto_version', '1', 'publication_names', 'benchmark')`)
	before, wal := cpu(), walPosition(b, watcher)
	b.ReportAllocs()
	rounds := 0
	for b.Loop() {
		write()
		rounds++
	}
	records := float64(rounds * size)
	used, bytes := cpu()-before, walPosition(b, watcher)-wal
	decoder := watcher.PgConn().PID()
	before = processCPU(b, decoder)
	mustExec(`SELECT count(*) FROM pg_logical_slot_peek_binary_changes('benchmark', NULL, NULL, 'proto_version', '1', 'publication_names', 'benchmark')`)
	decoding := processCPU(b, decoder) - before
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/records, "ns/record")
	b.ReportMetric(float64(used.Nanoseconds())/records, "server-ns/record")
	b.ReportMetric(float64(decoding.Nanoseconds())/records, "decode-ns/record")
	b.ReportMetric(float64(bytes)/records, "wal-B/record")
	wal, before = walPosition(b, watcher), cpu()
	if err := l.Summarize(b.Context()); err != nil { // what the session does each minute
		b.Fatal(err)
	}
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/records, "summary-ns/record")
	b.ReportMetric(float64(walPosition(b, watcher)-wal)/records, "summary-wal-B/record")
}

// processCPU returns what the process took of the CPU, in steps of 10 ms.
func processCPU(tb testing.TB, pid uint32) time.Duration {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		tb.Skip(err) // there is no such file but on Linux
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	var ticks time.Duration
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		ticks += time.Duration(n)
	}
	return ticks * 10 * time.Millisecond
}

func walPosition(tb testing.TB, conn *pgx.Conn) (at int64) {
	tb.Helper()
	if err := conn.QueryRow(tb.Context(), `SELECT pg_current_wal_insert_lsn() - '0/0'`).Scan(&at); err != nil {
		tb.Fatal(err)
	}
	return at
}
