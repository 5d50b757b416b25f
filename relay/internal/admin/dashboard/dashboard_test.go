package dashboard

import (
	"log/slog"

	"github.com/posthorn/posthorn/relay/internal/admin"
)

const settingsYAML = `database:
  url: postgres://posthorn:***@db.internal/app
source:
  slot: posthorn
http:
  listen: 127.0.0.1:8080
  tokens:
    - {name: ops, role: admin, token: "***"}
`

func newDashboard(c control, a access) (*Dashboard, error) {
	return New(Options{
		Control: c, Access: a, Version: "1.0.0-test", Logger: slog.New(slog.DiscardHandler),
		Snapshot: func() admin.Snapshot {
			return admin.Snapshot{Role: admin.RoleActive, Flushed: "0/1", SlotKnown: true, SlotLag: 182 << 10, SlotRetained: 48 << 20}
		},
		Settings: func() []byte { return []byte(settingsYAML) },
		Profiles: func() []string { return []string{"bindbee", "byro", "danbyte", "offly"} },
	})
}
