package ledger

import (
	"slices"
	"testing"
	"time"
)

// TestOldDaysAreDroppedAsTables holds that retention deletes no rows: the tables
// of a day go, those of stats and attempts with them.
func TestOldDaysAreDroppedAsTables(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	fillDays(t, pool, 3000)
	for _, sql := range []string{
		`INSERT INTO posthorn.attempts (created_at, delivery_id, number, started_at, outcome, total_us) SELECT created_at, id, 1, created_at, 'failed', 1 FROM posthorn.deliveries`,
		`INSERT INTO posthorn.stats (created_at, span, events, delivered, failed, attempts, failed_attempts) SELECT created_at, 10, 1, 1, 0, 1, 0 FROM posthorn.deliveries`,
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	const days = `SELECT relname::text FROM pg_class WHERE relnamespace = 'posthorn'::regnamespace AND relkind = 'r' AND relname ~ '_\d{8}$' ORDER BY 1`
	if got := texts(t, pool, days); len(got) != 12 {
		t.Fatalf("the days are %v", got)
	}
	end := committed.Truncate(24 * time.Hour).Add(48 * time.Hour) // two of four days are over by then
	dropped, err := l.DropPartitions(t.Context(), time.Since(end))
	if err != nil || !slices.Equal(dropped, []string{"deliveries_20260522", "deliveries_20260523"}) {
		t.Fatalf("dropped %v, %v", dropped, err)
	}
	want := []string{"attempts_20260524", "attempts_20260525", "deliveries_20260524", "deliveries_20260525", "stats_20260524", "stats_20260525"}
	if got := texts(t, pool, days); !slices.Equal(got, want) {
		t.Errorf("left are %v", got)
	}
	if _, err := pool.Exec(t.Context(), `SELECT pg_stat_force_next_flush() WHERE current_setting('server_version_num')::int >= 150000`); err != nil {
		t.Log(err) // older servers have no such function, and flush by themselves
	}
	if got := texts(t, pool, `SELECT coalesce(sum(n_tup_del), 0)::text FROM pg_stat_user_tables WHERE schemaname = 'posthorn'`); got[0] != "0" {
		t.Errorf("%s rows were deleted", got[0])
	}
	list, err := l.List(t.Context(), Filter{States: []State{Delivered, Failed, Skipped}, Limit: 10_000})
	if err != nil || len(list) == 0 || list[len(list)-1].CreatedAt.Before(end) {
		t.Errorf("%d deliveries are left, %v", len(list), err)
	}
}

// TestSummarizeLeavesTheNewestBlocksOut holds that rows which come after it
// change nothing in the bloom indexes, and are found all the same.
func TestSummarizeLeavesTheNewestBlocksOut(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	r := newRecord(1, Delivered)
	r.Event.CommittedAt = time.Now().UTC().Truncate(time.Microsecond)
	if err := write(t, l, &positions{}, r); err != nil {
		t.Fatal(err)
	}
	const blocks = `WITH filled AS (
  INSERT INTO posthorn.deliveries (created_at, id, endpoint_id, event_id, type, lsn, index, state, attempts)
  SELECT $1, md5($2 || n)::uuid, md5('e')::uuid, gen_random_uuid(), 't', '0/1', n, 'delivered', 1 FROM generate_series(1, $3::int) n)
SELECT ''`
	if err := l.Summarize(t.Context()); err != nil {
		t.Fatal(err)
	}
	var made int
	summarize := func() int {
		t.Helper()
		if err := pool.QueryRow(t.Context(), `SELECT posthorn.summarize()`).Scan(&made); err != nil {
			t.Fatal(err)
		}
		return made
	}
	if n := summarize(); n != 0 {
		t.Errorf("%d ranges of a table of one block", n)
	}
	texts(t, pool, blocks, r.Event.CommittedAt, "a", 5000) // some 100 blocks
	if n := summarize(); n < 5 || n > 12 {
		t.Errorf("%d ranges of a hundred blocks", n)
	}
	if n := summarize(); n != 0 {
		t.Errorf("%d ranges once more", n)
	}
	texts(t, pool, blocks, r.Event.CommittedAt, "b", 5000)
	vacuum, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// As a vacuum holds it.
	if _, err := vacuum.Exec(t.Context(), `LOCK TABLE posthorn.deliveries IN SHARE UPDATE EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	if n := summarize(); n != 0 {
		t.Errorf("%d ranges of a table that is being vacuumed", n)
	}
	if err := vacuum.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := summarize(); n < 5 || n > 12 {
		t.Errorf("%d ranges after that", n)
	}
	if _, err := l.Show(t.Context(), r.ID); err != nil {
		t.Error(err)
	}
}
