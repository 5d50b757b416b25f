package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// manyEndpoints is a configuration of n endpoints. Those of the rich one have a
// tenant, a secret, two headers, of which one is a template, and every tenth a
// filter, which some share.
func manyEndpoints(n int, rich bool) string {
	var b strings.Builder
	b.WriteString(`database: {url: "postgres://localhost/app"}
profiles:
  product:
    headers: {X-Product: acme, X-Event: "{{ .Event.Type }}"}
    signatures: [{scheme: hmac, header: X-Signature, value: "sha256={signature}"}]
endpoints:
`)
	for i := range n {
		secret := "a secret of the test that is long enough"
		if rich {
			secret = fmt.Sprintf("secret %032d", i)
		}
		fmt.Fprintf(&b, "  - {name: e%d, url: \"${RECEIVER}/e/%d\", events: [\"order%d.*\"], profile: product, secret: %s", i, i, i, secret)
		if rich {
			fmt.Fprintf(&b, ", tenant: tenant%d, headers: {X-Number: \"%d\", X-Tenant: \"{{ .Endpoint.Tenant }}\"}", i, i)
			if i%10 == 0 {
				fmt.Fprintf(&b, ", filter: payload.amount > %d", i%100)
			}
		}
		b.WriteString("}\n")
	}
	return b.String()
}

func BenchmarkLoad(b *testing.B) {
	environ := []string{"RECEIVER=https://receiver.example"}
	for _, bb := range []struct {
		name string
		n    int
		rich bool
	}{{"1000", 1000, false}, {"10000", 10_000, false}, {"10000 rich", 10_000, true}} {
		b.Run(bb.name, func(b *testing.B) {
			file := filepath.Join(b.TempDir(), "posthorn.yaml")
			if err := os.WriteFile(file, []byte(manyEndpoints(bb.n, bb.rich)), 0o600); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := LoadWithFiles(file, environ); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
