package dashboard

import (
	"log"
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/posthorn/posthorn/relay/internal/admin"
)

// TestMain serves the pages instead of testing them where the environment names
// an address: that is how they are looked at without a relay. /as/viewer and
// /as/portal show them to others.
func TestMain(m *testing.M) {
	if address := os.Getenv("POSTHORN_DASHBOARD_LISTEN"); address != "" {
		log.Fatal(serve(address))
	}
	goleak.VerifyTestMain(m)
}

var people = map[string]*admin.Caller{
	"admin":  {Name: "ops", Role: admin.Admin, Via: "web"},
	"viewer": {Name: "watcher", Role: admin.Viewer, Via: "web"},
	"portal": {Name: "jane", Role: admin.Operator, Tenant: "acme", Via: "portal"},
}

func serve(address string) error {
	access := &fakeAccess{people["admin"]}
	d, err := newDashboard(newFake(time.Now()), access)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", d)
	mux.HandleFunc("/as/{who}", func(w http.ResponseWriter, r *http.Request) {
		if who, ok := people[r.PathValue("who")]; ok {
			access.who = who
		}
		http.Redirect(w, r, Base, http.StatusSeeOther)
	})
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: time.Second}
	return server.ListenAndServe()
}
