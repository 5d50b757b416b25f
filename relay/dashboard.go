package relay

import (
	"maps"
	"slices"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/admin/dashboard"
)

// newDashboard makes the pages under /admin/webhooks, for those whom r.access
// lets in.
func (r *Relay) newDashboard(running func() (*config.Config, map[string]string)) (*dashboard.Dashboard, error) {
	return dashboard.New(dashboard.Options{
		Control: r.control, Access: r.access, Snapshot: r.snapshot, Version: r.version, Logger: r.logger,
		Settings: func() []byte {
			cfg, _ := running()
			return cfg.Masked()
		},
		Profiles: func() []string {
			cfg, _ := running()
			return slices.Sorted(maps.Keys(cfg.Profiles))
		},
	})
}
