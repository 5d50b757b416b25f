package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/transforms"
)

// counts is a comparison of one type without its examples.
func counts(t TypeComparison) string {
	return fmt.Sprintf("%s: %d events, %d same, %d differ, %d skipped (%d new), %d failed (%d new)",
		t.Type, t.Events, t.Same, t.Differ, t.Skipped, t.NewlySkipped, t.Failed, t.NewlyFailed)
}

func allCounts(c *Comparison) (all []string) {
	for _, t := range c.Types {
		all = append(all, counts(t))
	}
	return all
}

func TestCompareSaysWhatAChangedConfigurationChanges(t *testing.T) {
	db := newDatabase(t)
	db.initialised(t, "")
	db.script(t, `
INSERT INTO posthorn.outbox (id, type, payload, created_at) VALUES
  ('0198f1d2-0000-7000-8000-000000000001', 'a', '{"n": 1}', now() - interval '5 minutes'),
  ('0198f1d2-0000-7000-8000-000000000002', 'a', '{"n": 20}', now() - interval '4 minutes'),
  ('0198f1d2-0000-7000-8000-000000000003', 'a', '{"n": 200}', now() - interval '3 minutes'),
  ('0198f1d2-0000-7000-8000-000000000004', 'a', '{"n": "x"}', now() - interval '2 minutes'),
  ('0198f1d2-0000-7000-8000-000000000005', 'a', '{"n": 1000}', now() - interval '2 days'),
  ('0198f1d2-0000-7000-8000-000000000006', 'b', '{}', now() + interval '1 minute'),
  ('0198f1d2-0000-7000-8000-000000000007', 'c', '{"n": 1}', now());`)
	changed := openTransformer(t, db.readOnly().config(t, `
transforms:
  - {match: [a], filter: payload.n > 10}
  - {match: [a], filter: "payload.n < 100 || payload.m > 1"}
  - {match: [c], set: {n: 1}}`))
	today := openTransformer(t, db.readOnly().config(t, `
transforms:
  - {match: [a], filter: payload.n > 10}
  - {match: [c], set: {n: 2}}`))
	id := func(n int) uuid.UUID { return uuid.MustParse(fmt.Sprintf("0198f1d2-0000-7000-8000-%012d", n)) }

	c, err := changed.Compare(t.Context(), CompareOptions{Since: time.Hour, Limit: 100, Show: 2})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a: 4 events, 1 same, 0 differ, 2 skipped (2 new), 1 failed (1 new)",
		"b: 1 events, 1 same, 0 differ, 0 skipped (0 new), 0 failed (0 new)",
		"c: 1 events, 1 same, 0 differ, 0 skipped (0 new), 0 failed (0 new)", // set to what it was
	}
	if diff := cmp.Diff(want, allCounts(c)); diff != "" {
		t.Errorf("with the events as committed (-want +got):\n%s", diff)
	}
	if c.Events != 6 || c.Found != 6 || c.More || !c.Complete || c.NewlyFailed() != 1 {
		t.Errorf("got %+v", c)
	}

	var progress []int
	c, err = changed.Compare(t.Context(), CompareOptions{Since: time.Hour, Limit: 100, Show: 2, Against: today, Progress: func(done, total int) { progress = append(progress, done, total) }})
	if err != nil {
		t.Fatal(err)
	}
	want[0] = "a: 4 events, 1 same, 0 differ, 2 skipped (1 new), 1 failed (0 new)"
	want[2] = "c: 1 events, 0 same, 1 differ, 0 skipped (0 new), 0 failed (0 new)"
	if diff := cmp.Diff(want, allCounts(c)); diff != "" || c.NewlyFailed() != 0 {
		t.Errorf("with what is done today (-want +got):\n%s", diff)
	}
	if !slices.Equal(progress, []int{6, 6}) {
		t.Errorf("progress %v", progress)
	}
	examples := []Difference{{Event: id(3), Before: Outcome{Content: &Content{Type: "a", Payload: []byte(`{"n": 200}`)}}, After: Outcome{Skipped: "transforms[1] (filter): filter is false"}}}
	if diff := cmp.Diff(examples, c.Types[0].Examples); diff != "" {
		t.Errorf("examples of a differ (-want +got):\n%s", diff)
	}
	examples = []Difference{{
		Event: id(7), Before: Outcome{Content: &Content{Type: "c", Payload: []byte(`{"n": 2}`)}}, After: Outcome{Content: &Content{Type: "c", Payload: []byte(`{"n": 1}`)}},
	}}
	if diff := cmp.Diff(examples, c.Types[2].Examples); diff != "" {
		t.Errorf("examples of c differ (-want +got):\n%s", diff)
	}

	c, err = changed.Compare(t.Context(), CompareOptions{Since: time.Hour, Limit: 2, Show: 2})
	if err != nil || c.Events != 2 || !c.More || !c.Complete || c.Types[0].Type != "b" || c.Types[1].Type != "c" {
		t.Errorf("of the newest two: %+v, %v", c, err)
	}
}

// burst writes n events of two types, numbered by their age.
func (db *database) burst(t *testing.T, n, bytes int) {
	t.Helper()
	db.script(t, fmt.Sprintf(`INSERT INTO posthorn.outbox (type, payload, created_at)
SELECT 'a.' || n %% 2, json_build_object('n', n, 'pad', repeat('x', %d)), now() - n * interval '1 millisecond' FROM generate_series(1, %d) n;`, bytes, n))
}

func TestCompareAppliesChainsToBatches(t *testing.T) {
	db := newDatabase(t)
	cfg := db.initialised(t, "")
	db.burst(t, 600, 0)
	tr := openTransformer(t, cfg)
	var batches []int
	tr.chains.Chains = transforms.NewChains([]transforms.Rule{{Name: "counting", Match: []string{"a.*"}, Transform: batchFunc(func(batch []*transforms.Message) {
		batches = append(batches, len(batch))
	})}})
	c, err := tr.Compare(t.Context(), CompareOptions{Since: time.Hour, Limit: 1000})
	if err != nil || c.Events != 600 || len(c.Types) != 2 || c.Types[0].Same != 300 {
		t.Errorf("got %+v, %v", c, err)
	}
	if !slices.Equal(batches, []int{256, 256, 88}) {
		t.Errorf("batches of %v", batches)
	}
}

// batchFunc is a transform of whole batches.
type batchFunc func(batch []*transforms.Message)

func (f batchFunc) Transform(_ context.Context, batch []*transforms.Message) { f(batch) }

func TestCompareThatIsEndedSaysWhatItFound(t *testing.T) {
	db := newDatabase(t)
	cfg := db.initialised(t, `transforms: [{match: ["*"], set: {n: 0}}]`)
	db.burst(t, 600, 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, err := openTransformer(t, cfg).Compare(ctx, CompareOptions{Since: time.Hour, Limit: 1000, Progress: func(int, int) { cancel() }})
	if !errors.Is(err, context.Canceled) || c.Events != 256 || c.Found != 600 || c.Complete || c.Types[0].Differ+c.Types[1].Differ != 256 {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestRecentRowsComeInPagesOfBoundedBytes(t *testing.T) {
	db := newDatabase(t)
	tr := openTransformer(t, db.initialised(t, ""))
	const rows, bytes = 20, 1 << 20
	db.burst(t, rows, bytes)
	recent, err := tr.databases.source.Recent(t.Context(), time.Hour, rows)
	if err != nil || recent.Total != rows || recent.More {
		t.Fatalf("got %+v, %v", recent, err)
	}
	if _, err := db.pool.Exec(t.Context(), `DELETE FROM posthorn.outbox WHERE payload->>'n' = '3'`); err != nil {
		t.Fatal(err)
	}
	var all []*event.Event
	for {
		page, err := recent.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		if len(page) > 4 { // it is four that come to 4 MiB
			t.Errorf("a page of %d MiB", len(page))
		}
		all = append(all, page...)
	}
	if len(all) != rows-1 {
		t.Fatalf("%d rows were read", len(all))
	}
	for i := range all[1:] {
		if all[i].CreatedAt.Before(all[i+1].CreatedAt) {
			t.Errorf("row %d is older than the next", i)
		}
	}
}

func TestRecentRowsNeedATime(t *testing.T) {
	db := newDatabase(t)
	db.script(t, `CREATE TABLE events (id text, type text, payload json);`)
	_, err := openTransformer(t, db.config(t, "source: {table: public.events}")).Compare(t.Context(), CompareOptions{Since: time.Hour, Limit: 1})
	wants(t, err, "table public.events has no created_at: mend source.columns")
}

func TestRecentRowsOfEachTypeOfID(t *testing.T) {
	db := newDatabase(t)
	db.script(t, `
CREATE TABLE a (id char(20) PRIMARY KEY, type text, payload jsonb, created_at timestamp DEFAULT (now() AT TIME ZONE 'UTC'));
INSERT INTO a VALUES ('one', 'a', '1'), ('it''s', 'b', '2');
CREATE TABLE b (id integer PRIMARY KEY, type text, payload text, created_at timestamptz DEFAULT now());
INSERT INTO b VALUES (1, 'a', '{'), (-2, 'b', '2');
CREATE DOMAIN d AS varchar(10);
CREATE TABLE c (id d PRIMARY KEY, type text, payload json, created_at timestamptz DEFAULT now());
INSERT INTO c VALUES ('one', 'a', '1'), ('two', 'b', '2');`)
	for _, table := range []string{"a", "b", "c"} {
		c, err := openTransformer(t, db.readOnly().config(t, "source: {table: public."+table+"}")).Compare(t.Context(), CompareOptions{Since: time.Hour, Limit: 10})
		if err != nil || c.Events != 2 || len(c.Types) != 2 || c.NewlyFailed() != 0 || c.Types[1].Same != 1 {
			t.Errorf("table %s: %+v, %v", table, c, err)
		}
	}
}

func TestRowsOfATimeAreListedInParts(t *testing.T) {
	db := newDatabase(t)
	db.script(t, `
CREATE TABLE a (id char(20) PRIMARY KEY, type text, payload jsonb, created_at timestamp);
CREATE TABLE b (id integer PRIMARY KEY, type text, payload text, created_at timestamptz);
CREATE DOMAIN d AS varchar(10);
CREATE TABLE c (id d PRIMARY KEY, type text, payload json, created_at date);
INSERT INTO a SELECT 'n' || n, n, '1', timestamp '2026-05-01' + n / 6 * interval '1 day' FROM generate_series(1, 20) n;
INSERT INTO b SELECT id::int, type, payload, created_at AT TIME ZONE 'UTC' FROM (SELECT substr(id, 2) AS id, type, payload, created_at FROM a) o;
INSERT INTO c SELECT * FROM a;`)
	day := func(n int) time.Time {
		return time.Date(2026, time.May, 1+n, 2, 0, 0, 0, time.FixedZone("CEST", 2*3600))
	}
	for _, table := range []string{"a", "b", "c"} {
		for _, tt := range []struct {
			from, until time.Time
			want        int
		}{{time.Time{}, day(10), 20}, {day(1), day(3), 12}, {day(1), day(1), 0}} {
			source := openTransformer(t, db.readOnly().config(t, "source: {table: public."+table+"}")).databases.source
			rows, err := source.Between(t.Context(), tt.from, tt.until, 4) // fewer than are of one time
			if err != nil {
				t.Fatal(err)
			}
			types, last := make(map[string]bool), time.Time{}
			for {
				page, err := rows.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				if len(page) > 4 {
					t.Errorf("%d rows at once", len(page))
				}
				for _, e := range page {
					if types[e.Type] || e.CreatedAt.Before(last) {
						t.Errorf("table %s: %s comes after others of %s", table, e.Type, last)
					}
					types[e.Type], last = true, e.CreatedAt
				}
			}
			if len(types) != tt.want {
				t.Errorf("table %s: %d rows from %s to %s", table, len(types), tt.from, tt.until)
			}
		}
	}
}

func TestComparisonIsBounded(t *testing.T) {
	c := &comparer{options: CompareOptions{Show: 3}, types: map[string]*TypeComparison{}}
	large := &Content{Payload: make([]byte, maxExampleBytes/4)}
	for i := range maxComparedTypes + 10 {
		for range 5 {
			c.count(&event.Event{Type: fmt.Sprint(i)}, Outcome{Content: &Content{}}, Outcome{Content: large})
		}
	}
	if len(c.types) != maxComparedTypes+1 || c.types[""].Differ != 50 {
		t.Errorf("%d types, of which the others are %+v", len(c.types), c.types[""])
	}
	examples := 0
	for _, of := range c.types {
		examples += len(of.Examples)
	}
	if examples != 4 || len(c.types["0"].Examples) != 3 {
		t.Errorf("%d examples, %d of the first type", examples, len(c.types["0"].Examples))
	}
}
