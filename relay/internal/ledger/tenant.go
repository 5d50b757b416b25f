package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// sqlOwned asks for both tenants: an endpoint may have been another tenant's
// before. The delivery is found by its id only: by tenant would be half the ledger.
const sqlOwned = `WITH d AS MATERIALIZED (
  SELECT endpoint_id, tenant FROM posthorn.pending WHERE id = $1 UNION ALL
  SELECT endpoint_id, tenant FROM posthorn.deliveries WHERE id = $1
) SELECT EXISTS (SELECT FROM d JOIN posthorn.endpoints e ON e.id = d.endpoint_id WHERE d.tenant = $2 AND e.tenant = $2)`

// Owned returns ErrUnknownDelivery for a delivery that is not one of the
// tenant's events to one of its endpoints.
func (l *Ledger) Owned(ctx context.Context, delivery uuid.UUID, tenant string) error {
	var owned bool
	err := l.searching(ctx, func(s *searcher) (err error) {
		owned, err = s.owned(ctx, delivery, tenant)
		return err
	})
	if err != nil {
		return fmt.Errorf("look for delivery %s: %w", delivery, err)
	}
	if !owned {
		return fmt.Errorf("delivery %s: %w", delivery, ErrUnknownDelivery)
	}
	return nil
}

func (s *searcher) owned(ctx context.Context, delivery uuid.UUID, tenant string) (owned bool, err error) {
	if err := s.use(ctx, blooms); err != nil {
		return false, err
	}
	return owned, s.tx.QueryRow(ctx, sqlOwned, delivery, tenant).Scan(&owned)
}

const sqlTenantOf = `SELECT coalesce(tenant, '') FROM posthorn.endpoints WHERE id = $1`

// tenantOf returns an endpoint's tenant, "" for none.
func tenantOf(ctx context.Context, tx pgx.Tx, endpoint uuid.UUID) (tenant string, err error) {
	err = tx.QueryRow(ctx, sqlTenantOf, endpoint).Scan(&tenant)
	if errors.Is(err, pgx.ErrNoRows) { // no relay ran with it yet
		return "", nil
	}
	return tenant, err
}
