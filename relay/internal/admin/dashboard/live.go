package dashboard

import (
	"bytes"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// liveDeliveries keeps the first page of a list up to date: whenever it changed,
// its rows are sent as a server-sent event, for htmx to put in place.
func (d *Dashboard) liveDeliveries(w http.ResponseWriter, r *http.Request, who *admin.Caller, csrf string) {
	q := &request{Request: r, w: w, who: who, csrf: csrf}
	flush := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy would wait for more
	ticker := time.NewTicker(d.liveEvery)
	defer ticker.Stop()
	last := []ledger.Delivery{{}} // none that a list begins with
	for {
		b, err := d.deliveries(q, filterOf(q.URL.Query()), "/deliveries")
		if err != nil {
			return // the browser asks again
		}
		if !reflect.DeepEqual(b.Rows, last) {
			last = b.Rows
			text, err := d.render(q, &answer{page: "deliveries", part: "rows", body: b})
			if err != nil {
				return
			}
			if _, err := w.Write(serverSent("rows", text)); err != nil || flush.Flush() != nil {
				return
			}
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
		if !who.Stays(r.Context()) {
			return // the browser asks again, and is told
		}
	}
}

// serverSent returns a server-sent event.
func serverSent(name string, text []byte) []byte {
	var b bytes.Buffer
	b.WriteString("event: " + name + "\n")
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\r", "\n")) {
		b.WriteString("data: " + strings.TrimSuffix(line, "\n") + "\n")
	}
	b.WriteString("\n")
	return b.Bytes()
}
