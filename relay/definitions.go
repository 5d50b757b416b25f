package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// defined is an endpoint that the API made, as the configuration that runs
// understands it.
type defined struct {
	endpoint config.Endpoint // with what can be read of it where it is broken; zero but for name and tenant once deleted
	id       uuid.UUID
	revision int64
	from     event.LSN // it gets events that committed at or after
	deleted  bool
	broken   string // why it cannot be used with this configuration; "" when it can
	record   ledger.Definition
}

// loadDefined returns the endpoints that the API made or changed after a
// revision, ascending: all that there are for 0, with deleted ones for more.
func (d *databases) loadDefined(ctx context.Context, cfg *config.Config, keys *keyring, after int64) ([]defined, error) {
	led := ledger.New(d.ledger, cfg.Source.Slot, ledger.Bodies(cfg.Ledger.Bodies), slog.New(slog.DiscardHandler))
	records, err := led.Definitions(ctx, after)
	if err != nil {
		return nil, err
	}
	return understand(cfg, keys, records), nil
}

// understand returns what definitions are with a configuration.
func understand(cfg *config.Config, keys *keyring, records []ledger.Definition) []defined {
	list := make([]defined, len(records))
	documents := make([][]byte, 0, len(records))
	at := make([]int, 0, len(records)) // of each document in list
	for i := range records {
		r := &records[i]
		list[i] = defined{id: r.ID, revision: r.Revision, from: r.From, deleted: r.Deleted, record: *r}
		list[i].endpoint.Name, list[i].endpoint.Tenant, list[i].endpoint.ID = r.Name, r.Tenant, r.ID.String()
		if r.Deleted {
			continue
		}
		document, err := keys.document(r)
		if err != nil {
			list[i].broken, document = "its secrets cannot be decrypted: "+err.Error(), r.Document
		}
		documents, at = append(documents, document), append(at, i)
	}
	endpoints, errs := cfg.ParseEndpoints(documents)
	for n, i := range at {
		list[i].endpoint = endpoints[n]
		list[i].endpoint.ID = list[i].id.String()
		if errs[n] != nil && list[i].broken == "" {
			list[i].broken = errs[n].Error()
		}
	}
	return list
}

// document returns a definition's document with its secrets.
func (k *keyring) document(r *ledger.Definition) ([]byte, error) {
	if r.Sealed == nil {
		return r.Document, nil
	}
	secrets, err := k.open(r.Sealed, r.ID[:])
	if err != nil {
		return nil, err
	}
	document, err := config.JoinEndpoint(r.Document, secrets)
	if err != nil {
		return nil, errors.New("they are no secrets of an endpoint")
	}
	return document, nil
}

// check returns an error unless the keyring has the key of every secret
// that the ledger keeps.
func (k *keyring) check(ctx context.Context, led *ledger.Ledger) error {
	prefixes, err := led.SealedPrefixes(ctx, sealPrefix)
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		switch {
		case k.keyOf(prefix) != nil:
		case len(k.keys) == 0:
			return errors.New("the ledger keeps encrypted secrets of endpoints, and ledger.encryption_keys is not set: give the key with which they were encrypted")
		default:
			return fmt.Errorf("the ledger keeps secrets of endpoints that none of ledger.encryption_keys decrypts: add the key whose id is %x (how its SHA-256 begins)", prefix[min(1, len(prefix)):])
		}
	}
	return nil
}

// reseal encrypts anew, with the first key, what is sealed with another one,
// and returns how many endpoints' secrets that were.
func (k *keyring) reseal(ctx context.Context, led *ledger.Ledger) (int, error) {
	prefixes, err := led.SealedPrefixes(ctx, sealPrefix)
	if err != nil || !slices.ContainsFunc(prefixes, func(prefix []byte) bool { return !k.isNewest(prefix) }) {
		return 0, err
	}
	records, err := led.Definitions(ctx, 0)
	if err != nil {
		return 0, err
	}
	var list []ledger.Resealed
	for i := range records {
		r := &records[i]
		if r.Sealed == nil || k.isNewest(r.Sealed) {
			continue
		}
		secrets, err := k.open(r.Sealed, r.ID[:])
		if err != nil {
			return 0, fmt.Errorf("decrypt the secrets of endpoint %s: %w", r.Name, err)
		}
		sealed, err := k.seal(secrets, r.ID[:])
		if err != nil {
			return 0, err
		}
		list = append(list, ledger.Resealed{ID: r.ID, Was: r.Sealed, Sealed: sealed})
	}
	return len(list), led.Reseal(ctx, list)
}
