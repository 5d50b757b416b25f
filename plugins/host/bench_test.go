package host

import (
	"errors"
	"fmt"
	"testing"

	"github.com/posthorn/posthorn/plugins"
)

func BenchmarkPlugin(b *testing.B) {
	for _, size := range []int{1, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			p := start(b, options(b, "no-op"))
			payload := []byte(`{"prId":"clx1234567890","amount":4500,"currency":"EUR","lines":[{"sku":"a-1","qty":3},{"sku":"b-2","qty":1}]}`)
			events := make([]*plugins.Event, size)
			b.ReportAllocs()
			for b.Loop() {
				for i := range events {
					events[i] = &plugins.Event{
						ID: "01890a5d-ac96-774b-bcce-b302099a8057", Type: "pr.submitted", Tenant: "acme", Key: "pr-1",
						Headers: map[string]string{"X-Source": "bench"}, Payload: payload,
					}
				}
				if err := errors.Join(p.Transform(b.Context(), events)...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
