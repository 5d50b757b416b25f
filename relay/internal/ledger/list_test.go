package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

func TestListFindsPendingAndFinalDeliveriesNewestFirst(t *testing.T) {
	l, records := filled(t)
	cases := []struct {
		name   string
		filter Filter
		want   []int // indexes of records
	}{
		{"all", Filter{Limit: 10}, []int{0, 1, 2, 3}},
		{"limit", Filter{Limit: 3}, []int{0, 1, 2}},
		{"state of a pending one", Filter{States: []State{Sending}, Limit: 10}, []int{1}},
		{"state of a final one", Filter{States: []State{Delivered}, Limit: 10}, []int{2}},
		{"endpoint by name", Filter{Endpoint: "erp", Limit: 2}, []int{0, 1}},
		{"endpoint by id", Filter{Endpoint: endpointID.String(), States: []State{Failed}, Limit: 2}, []int{3}},
		{"another endpoint", Filter{Endpoint: "other", Limit: 10}, nil},
		{"tenant", Filter{Tenant: "t1", Limit: 10}, []int{3}},
		{"type", Filter{Type: "u", Limit: 10}, nil},
		{"event", Filter{Event: records[2].Event.ID, Limit: 10}, []int{2}},
		{"since", Filter{Since: time.Minute, Limit: 10}, nil},
		{"since long ago", Filter{Since: 100 * 365 * 24 * time.Hour, States: []State{Pending}, Limit: 10}, []int{0}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			list, err := l.List(t.Context(), c.filter)
			if err != nil {
				t.Fatal(err)
			}
			var got, want []uuid.UUID
			for _, d := range list {
				got = append(got, d.ID)
			}
			for _, i := range c.want {
				want = append(want, records[i].ID)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("ids differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPagesOfAListAreTheWholeList(t *testing.T) {
	l := acquire(t, open(t))
	var records []*Record
	for n := range 7 {
		r := newRecord(n+1, []State{Pending, Delivered}[n%2])
		r.Event.CommittedAt = committed.Add(time.Duration(n/4) * time.Microsecond) // several at one moment, in both tables
		records = append(records, r)
	}
	if err := write(t, l, &positions{}, records...); err != nil {
		t.Fatal(err)
	}
	whole, err := l.List(t.Context(), Filter{Limit: 10})
	if err != nil || len(whole) != len(records) {
		t.Fatalf("%d in the list: %v", len(whole), err)
	}
	for _, size := range []int{1, 2, 3, 7} {
		var pages []Delivery
		f := Filter{Limit: size}
		for {
			page, err := l.List(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			pages = append(pages, page...)
			last := page[len(page)-1]
			f.After = Cursor{CreatedAt: last.CreatedAt, ID: last.ID}
		}
		if diff := cmp.Diff(whole, pages); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", size, diff)
		}
	}
}

// fillDays writes n final deliveries over three days from committed on, to
// endpoints e0 to e9 of tenants t0 to t2, of which few are to e9, and 500 pending
// ones.
func fillDays(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	for _, sql := range []string{
		`SELECT posthorn.ensure_partition($2::timestamptz + d * interval '1 day') FROM generate_series(0, 3) d WHERE $1 > 0`,
		`INSERT INTO posthorn.endpoints (id, name, url, tenant) SELECT md5('e' || n)::uuid, 'e' || n, 'https://example.com', 't' || n % 3
FROM generate_series(0, 9) n WHERE $1 > 0 AND $2::timestamptz IS NOT NULL`,
		`INSERT INTO posthorn.deliveries (created_at, id, endpoint_id, event_id, type, tenant, lsn, index, state, attempts)
SELECT $2::timestamptz + n * interval '3 days' / $1::int, md5('d' || n)::uuid, md5('e' || e)::uuid, md5('v' || n / 3)::uuid,
  CASE WHEN n % 20011 = 0 THEN 'rare' ELSE 'type-' || (e + n % 3) % 7 END, 't' || e % 3, '0/1', n, (ARRAY['failed', 'delivered', 'skipped'])[1 + (n % 50 > 1)::int + (n % 999 = 2)::int], 1
FROM (SELECT n, CASE WHEN n % 9973 = 0 THEN 9 ELSE n * 31 % 97 % 9 END AS e FROM generate_series(1, $1::int) n) s`,
		`INSERT INTO posthorn.pending (id, endpoint_id, event_id, type, tenant, lsn, index, created_at, state, due_at, epoch, bytes)
SELECT md5('p' || n)::uuid, md5('e' || n % 5)::uuid, md5('v' || n)::uuid, 'type-' || n % 7, 't' || n % 5 % 3, '0/1', n,
  $2::timestamptz + n * interval '3 days' / 500, CASE WHEN n % 100 = 0 THEN 'sending' ELSE 'pending' END, now(), 1, 1 FROM generate_series(1, 500) n WHERE $1 > 0`,
	} {
		if _, err := pool.Exec(t.Context(), sql, n, committed); err != nil {
			t.Fatal(err)
		}
	}
	for _, sql := range []string{`SELECT posthorn.summarize()`, `VACUUM ANALYZE posthorn.deliveries, posthorn.pending`} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

// naive returns what a list has to be.
func naive(all []Delivery, f *Filter, forwards bool) (want []Delivery) {
	for _, d := range all {
		at := Delivery{CreatedAt: f.After.CreatedAt, ID: f.After.ID}
		switch before := d.compare(&at) < 0; {
		case len(f.States) > 0 && !slices.Contains(f.States, d.State), f.Endpoint != "" && d.Endpoint != f.Endpoint,
			f.Tenant != "" && d.Tenant != f.Tenant, f.Scope != "" && d.Tenant != f.Scope, f.Type != "" && d.Type != f.Type,
			f.Event != uuid.Nil && d.Event != f.Event, !f.From.IsZero() && d.CreatedAt.Before(f.From), !f.Until.IsZero() && !d.CreatedAt.Before(f.Until),
			f.After != (Cursor{}) && (before == forwards || d.compare(&at) == 0):
		default:
			want = append(want, d)
		}
	}
	slices.SortFunc(want, func(a, b Delivery) int {
		if forwards {
			return a.compare(&b)
		}
		return b.compare(&a)
	})
	return want[:min(len(want), f.Limit)]
}

func TestListsAreWhatANaiveFilterFinds(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	fillDays(t, pool, 6000)
	all, err := l.List(t.Context(), Filter{Limit: 10_000})
	if err != nil || len(all) != 6500 {
		t.Fatalf("%d deliveries, %v", len(all), err)
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	sometimes := func(f func()) {
		if random.IntN(3) == 0 {
			f()
		}
	}
	for range 300 {
		f := Filter{Limit: 1 + random.IntN(100)}
		some := all[random.IntN(len(all))]
		sometimes(func() { f.States = []State{Pending, Failed} })
		sometimes(func() { f.States = append(f.States, []State{Sending, Delivered, Failed, Skipped}[random.IntN(4)]) })
		sometimes(func() { f.Endpoint = fmt.Sprintf("e%d", random.IntN(11)) })
		sometimes(func() { f.Tenant = fmt.Sprintf("t%d", random.IntN(4)) })
		sometimes(func() { f.Type = fmt.Sprintf("type-%d", random.IntN(8)) })
		sometimes(func() {
			f.From = committed.Add(time.Duration(random.Int64N(int64(72 * time.Hour)))).Truncate(time.Microsecond)
		})
		sometimes(func() {
			f.Until = committed.Add(time.Duration(random.Int64N(int64(72 * time.Hour)))).Truncate(time.Microsecond)
		})
		sometimes(func() { f.Scope = fmt.Sprintf("t%d", random.IntN(4)) })
		sometimes(func() { f.After = Cursor{some.CreatedAt, some.ID} })
		if random.IntN(10) == 0 {
			f.Event = some.Event
		}
		q := &search{Filter: f, forwards: random.IntN(2) == 0, walk: 1 + random.IntN(200)}
		var got []Delivery
		if err := l.searching(t.Context(), func(s *searcher) (err error) {
			got, err = s.find(t.Context(), q)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(naive(all, &f, q.forwards), got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%+v, forwards %t (-want +got):\n%s", f, q.forwards, diff)
		}
	}
}

// explained is a transaction that keeps the plan of each of its queries.
type explained struct {
	pgx.Tx
	plans []string
}

func (e *explained) explain(ctx context.Context, sql string, args []any) error {
	rows, err := e.Tx.Query(ctx, `EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) `+sql, args...)
	if err != nil {
		return err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	e.plans = append(e.plans, strings.Join(lines, "\n"))
	return err
}

func (e *explained) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := e.explain(ctx, sql, args); err != nil {
		return nil, err
	}
	return e.Tx.Query(ctx, sql, args...)
}

func (e *explained) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	_ = e.explain(ctx, sql, args) // the query meets the same error
	return e.Tx.QueryRow(ctx, sql, args...)
}

var (
	readTwice = regexp.MustCompile(`Rows Removed by (?:Filter|Index Recheck): (\d+)`)
	readWhole = regexp.MustCompile(`Seq Scan on (?:deliveries|pending|attempts)\S*`)
)

// TestListsReadWhatTheirIndexesName holds that no list reads the table, however
// little its filter matches.
func TestListsReadWhatTheirIndexesName(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	fillDays(t, pool, 200_000)
	noon := committed.Add(36 * time.Hour)
	cases := []struct {
		name   string
		filter Filter
		most   int    // rows that are read in vain
		uses   string // in the plans
	}{
		{"all", Filter{}, 0, `Index Scan Backward using deliveries_\d+_pkey`},
		{"a page far back", Filter{After: Cursor{CreatedAt: noon, ID: uuid.Nil}}, 0, `Index Scan Backward using deliveries_\d+_pkey`},
		{"what failed", Filter{States: []State{Failed}}, 0, `using deliveries_\d+_created_at_id_endpoint_id_state_\S+`},
		{"what failed, of a type that none has", Filter{States: []State{Failed}, Type: "none"}, 0, `Index Cond: .*"left"\(type, 64\) = 'none'`},
		{"what failed at a rare endpoint", Filter{States: []State{Failed}, Endpoint: "e9"}, 10, `Index Cond: .*endpoint_id = `},
		{"what is pending", Filter{States: []State{Pending}}, 50, `using pending_list`},
		{"pending at an endpoint", Filter{States: []State{Pending, Sending}, Endpoint: "e1"}, 10, `using pending_list`},
		{"an endpoint", Filter{Endpoint: "e1"}, 1000, `using deliveries_\d+_pkey`},
		{"a rare endpoint", Filter{Endpoint: "e9"}, walked + 40_000, `Bitmap Index Scan on deliveries_\d+_created_at_endpoint_id_type_tenant\S+`},
		{"a type that none has", Filter{Type: "none"}, walked + 1000, `Bitmap Index Scan on deliveries_\d+_created_at_endpoint_id_type_tenant\S+`},
		{"a rare type", Filter{Type: "rare"}, walked + 20_000, `Bitmap Index Scan on deliveries_\d+_created_at_endpoint_id_type_tenant\S+`},
		{"a type that the endpoint gets none of", Filter{Type: "type-5", Endpoint: "e1"}, walked + 8000, `Bitmap Index Scan on deliveries_\d+_created_at_endpoint_id_type_tenant\S+`},
		{"another tenant's endpoint", Filter{Scope: "t1", Endpoint: "e0"}, 10, ``},
		{"a scope", Filter{Scope: "t1"}, 1000, `using deliveries_\d+_pkey`},
		{"an event", Filter{Event: uuid.MustParse("e4fcb9b8-e8ff-3f0d-7a4a-e4b7c6b7fd1f")}, 12_000, `Bitmap Index Scan on deliveries_\d+_created_at_id_event_id_idx`},
		{"a time", Filter{From: noon, Until: noon.Add(time.Minute), Endpoint: "e9"}, 1000, `using deliveries_\d+_pkey`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.filter.Limit = 51
			var x explained
			if err := l.searching(t.Context(), func(s *searcher) error {
				x.Tx, s.tx = s.tx, &x
				_, err := s.find(t.Context(), &search{Filter: c.filter})
				return err
			}); err != nil {
				t.Fatal(err)
			}
			x.check(t, c.most, c.uses)
		})
	}
	t.Run("show", func(t *testing.T) {
		var x explained
		if err := l.searching(t.Context(), func(s *searcher) error {
			x.Tx, s.tx = s.tx, &x
			_, err := s.show(t.Context(), uuid.MustParse("b5cc8c2f-cb42-d1b4-4b0b-cb4e5b4dd1b0"))
			if err == pgx.ErrNoRows { //nolint:errorlint // as it is
				return nil
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		x.check(t, 12_000, `Bitmap Index Scan on deliveries_\d+_created_at_id_event_id_idx`)
	})
	t.Run("whether it is a tenant's", func(t *testing.T) {
		var x explained
		if err := l.searching(t.Context(), func(s *searcher) error {
			x.Tx, s.tx = s.tx, &x
			_, err := s.owned(t.Context(), uuid.MustParse("b5cc8c2f-cb42-d1b4-4b0b-cb4e5b4dd1b0"), "t1")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		x.check(t, 12_000, `Bitmap Index Scan on deliveries_\d+_created_at_id_event_id_idx`)
	})
}

// check fails for plans that read a table, or more than most in vain.
func (e *explained) check(t *testing.T, most int, uses string) {
	t.Helper()
	plans := strings.Join(e.plans, "\n\n")
	vain := 0
	for _, m := range readTwice.FindAllStringSubmatch(plans, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		vain += n
	}
	if read := readWhole.FindString(plans); read != "" || vain > most || !regexp.MustCompile(uses).MatchString(plans) {
		t.Errorf("%q, %d rows read in vain, wanted at most %d, and %s:\n%s", read, vain, most, uses, plans)
	}
}
