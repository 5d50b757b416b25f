package ledger

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// partitions remembers for which days (UTC) deliveries and attempts have a
// partition.
type partitions struct {
	mu   sync.Mutex
	days map[int64]bool // days since 1970
}

const secondsADay = 24 * 60 * 60

// ensure creates the partitions that batch needs.
func (p *partitions) ensure(ctx context.Context, pool *pgxpool.Pool, batch []*Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.days == nil {
		p.days = make(map[int64]bool)
	}
	last := int64(-1) // most records of a batch are of one day
	for _, r := range batch {
		day := r.Event.CommittedAt.Unix() / secondsADay
		if day == last || p.days[day] {
			last = day
			continue
		}
		b := &pgx.Batch{}
		b.Queue(sqlTransaction)
		b.Queue(`SELECT posthorn.ensure_partition($1)`, time.Unix(day*secondsADay, 0).UTC())
		if err := pool.SendBatch(ctx, b).Close(); err != nil {
			return fmt.Errorf("create partition: %w", err)
		}
		p.days[day] = true
		last = day
	}
	return nil
}

// forget makes ensure look again.
func (p *partitions) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.days)
}

// PreparePartitions creates tomorrow's partitions ahead.
func (l *Ledger) PreparePartitions(ctx context.Context) error {
	if _, err := l.pool.Exec(ctx, `SELECT posthorn.ensure_partition(now() + interval '1 day')`); err != nil {
		return fmt.Errorf("create tomorrow's partitions: %w", err)
	}
	return nil
}

// Summarize has the bloom indexes of lists know what was written since. Until
// it was called lists read it as a whole.
func (l *Ledger) Summarize(ctx context.Context) error {
	if _, err := l.pool.Exec(ctx, `SELECT posthorn.summarize()`); err != nil {
		return fmt.Errorf("fill in the indexes of lists: %w", err)
	}
	return nil
}

// DropPartitions removes the partitions whose deliveries are all older than
// retention, but none that holds a delivery above the flushed position. It
// returns the names of those removed.
func (l *Ledger) DropPartitions(ctx context.Context, retention time.Duration) ([]string, error) {
	defer l.partitions.forget() // a day that comes again needs its partition again
	var dropped []string
	err := l.pool.QueryRow(ctx, `SELECT posthorn.drop_partitions(now() - $1 * interval '1 microsecond', $2::text::pg_lsn)`,
		microseconds(retention), event.LSN(l.flushed.Load()).String()).Scan(&dropped)
	if err != nil {
		return nil, fmt.Errorf("drop old partitions: %w", err)
	}
	return dropped, nil
}
