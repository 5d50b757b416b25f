package relay

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"time"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// keepWithin bounds how long keeping an answer may take, after who asked may
// have gone.
const keepWithin = 5 * time.Second

// Once implements admin.Control.
func (c *control) Once(ctx context.Context, who *admin.Caller, r admin.OnceRequest, do func(context.Context) ([]byte, error)) ([]byte, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	scope, err := json.Marshal([]string{who.Via, who.Name, who.Tenant, r.Operation, r.Key})
	if err != nil {
		return nil, err
	}
	key, request := sha256.Sum256(scope), sha256.Sum256(r.Request)
	before, err := o.ledger.BeginRequest(ctx, key[:], request[:])
	if err != nil {
		return nil, err
	}
	keys := o.directory.keys
	if before.Body != nil {
		if !before.Sealed {
			return before.Body, nil
		}
		answer, err := keys.open(before.Body, key[:])
		if err != nil {
			return nil, told(who, ledger.RefusedButTold("it was done, and its answer cannot be shown again", "it was done, and its answer cannot be shown again: %v", err))
		}
		return answer, nil
	}
	answer, err := do(ctx)
	keeping, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepWithin)
	defer cancel()
	if err != nil {
		// Else it may have been done, where the answer to a commit was lost: done
		// again at once, a rotation would take away the secret that was the old one.
		if admin.Refuses(err) {
			_ = o.ledger.KeepAnswer(keeping, key[:], ledger.Answer{})
		}
		return nil, err
	}
	kept := ledger.Answer{Body: answer}
	if len(keys.keys) > 0 { // without them no answer has a secret
		if kept.Body, err = keys.seal(answer, key[:]); err != nil {
			return nil, err
		}
		kept.Sealed = true
	}
	// Done is done: that it will not be remembered is nothing to whoever asked.
	_ = o.ledger.KeepAnswer(keeping, key[:], kept)
	return answer, nil
}
