package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// sqlOwned asks for both tenants: an endpoint may have been another tenant's
// before.
const sqlOwned = `SELECT EXISTS (SELECT FROM (
  SELECT endpoint_id FROM posthorn.pending WHERE id = $1 AND tenant = $2 UNION ALL
  SELECT endpoint_id FROM posthorn.deliveries WHERE id = $1 AND tenant = $2
) d JOIN posthorn.endpoints e ON e.id = d.endpoint_id WHERE e.tenant = $2)`

// Owned returns ErrUnknownDelivery for a delivery that is not one of the
// tenant's events to one of its endpoints.
func (l *Ledger) Owned(ctx context.Context, delivery uuid.UUID, tenant string) error {
	var owned bool
	if err := l.pool.QueryRow(ctx, sqlOwned, delivery, tenant).Scan(&owned); err != nil {
		return fmt.Errorf("look for delivery %s: %w", delivery, err)
	}
	if !owned {
		return fmt.Errorf("delivery %s: %w", delivery, ErrUnknownDelivery)
	}
	return nil
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
