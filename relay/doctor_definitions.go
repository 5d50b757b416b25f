package relay

import (
	"context"
	"fmt"
)

// definitions looks whether the configuration can use the endpoints that the
// API made.
func (d *doctor) definitions(ctx context.Context) {
	const name = "endpoints of the API"
	if !d.ledgerUp {
		d.skip(name, "the ledger")
		return
	}
	keys, err := newKeyring(d.cfg)
	if err == nil {
		err = keys.check(ctx, d.led)
	}
	if err != nil {
		d.fail(name, err, "ledger.encryption_keys in the configuration")
		return
	}
	list, err := d.databases.loadDefined(ctx, d.cfg, keys, 0)
	if err != nil {
		d.fail(name, err, "")
		return
	}
	broken := 0
	for i := range list {
		made := &list[i]
		if made.broken == "" {
			continue
		}
		if broken++; broken <= manyHeld {
			d.add(name, FindingWarn, fmt.Sprintf("%s cannot be used with this configuration, its events are parked: %s", made.endpoint.Name, made.broken), "the configuration, or the endpoint by the API")
		}
	}
	switch {
	case broken > manyHeld:
		d.add(name, FindingWarn, fmt.Sprintf("%d more cannot be used with this configuration", broken-manyHeld), "")
	case broken == 0:
		d.add(name, FindingOK, fmt.Sprintf("all %d can be used", len(list)), "")
	}
}
