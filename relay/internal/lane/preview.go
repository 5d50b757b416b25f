package lane

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/egress"
	"github.com/posthorn/posthorn/relay/internal/event"
)

// Preview returns the request that an attempt of e's delivery would make at
// now: rendered and signed by the code that does it for every delivery, with
// headers added after those that are rendered. Authentication is the client's,
// which adds it when it sends. Nothing is sent or recorded.
func (ep *Endpoint) Preview(id uuid.UUID, e *event.Event, now time.Time, headers ...[2]string) (*egress.Request, error) {
	request, err := ep.render(id, e)
	if err != nil {
		return nil, err
	}
	own := *request // it may be every delivery's
	own.Headers = slices.Concat(request.Headers, headers)
	return ep.sign(id, e, &own, now, nil)
}
