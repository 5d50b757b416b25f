package tail

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Own is the prefix of the transactional logical messages by which the relay
// tells what happens to itself: events whose type begins with OwnGroup. Who
// may connect may write a message, so no other type is taken from one of these.
const Own = "posthorn.event"

// OwnGroup is the group of the relay's own events, which "*" does not match.
const OwnGroup = "posthorn."

// OwnEvent is one event of the relay's own.
type OwnEvent struct {
	ID        uuid.UUID       `json:"id"`
	Type      string          `json:"type"`             // begins with OwnGroup
	Tenant    string          `json:"tenant,omitempty"` // "" when it is about no tenant's endpoint
	Payload   json.RawMessage `json:"payload"`
	CreatedAt time.Time       `json:"created_at"`
}

// ours reports whether a message's prefix and event type fit together.
func ours(prefix, eventType string) bool {
	return prefix != Own || strings.HasPrefix(eventType, OwnGroup)
}

// sqlEmit takes bytes: they are not converted to the database's encoding.
const sqlEmit = `SELECT pg_logical_emit_message(true, $1, content) FROM unnest($2::bytea[]) AS content`

// EmitOwn writes events into the stream, all in one transaction. After an error
// they may stand there all the same.
func (s *Source) EmitOwn(ctx context.Context, events []OwnEvent) error {
	contents := make([][]byte, len(events))
	for i := range events {
		content, err := json.Marshal(&events[i])
		if err != nil {
			return fmt.Errorf("write event of type %s: %w", events[i].Type, err)
		}
		contents[i] = content
	}
	if _, err := s.Pool.Exec(ctx, sqlEmit, Own, contents); err != nil {
		return fmt.Errorf("emit the relay's own events: %w", err)
	}
	return nil
}
