package lane

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
)

// TestHeader marks a request that SendTest made; its value is "true".
const TestHeader = "Posthorn-Test"

// SendTest makes one attempt of e outside of any lane: rendered, signed and
// sent by the code that sends every delivery. Nothing is recorded. It returns
// what was sent and what came of it, or an error when nothing could be sent.
func (ep *Endpoint) SendTest(ctx context.Context, s sender, id uuid.UUID, e *event.Event) (*egress.Request, egress.Response, error) {
	q, err := ep.Preview(id, e, time.Now(), [2]string{TestHeader, "true"})
	if err != nil {
		return nil, egress.Response{}, err
	}
	return q, s.Send(ctx, q), nil
}
