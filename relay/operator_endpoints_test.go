package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// operator returns an operator of the configuration's ledger.
func operator(t *testing.T, cfg *config.Config) *Operator {
	t.Helper()
	o, err := OpenOperator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

// configured returns the configuration's endpoints in their order.
func (o *Operator) configured() []ledger.Endpoint {
	list := make([]ledger.Endpoint, len(o.directory.cfg.Endpoints))
	for _, e := range o.directory.all("") {
		list[e.index] = e.Endpoint
	}
	return list
}

// starts does what a relay does with the endpoints when it starts, and returns
// their states by name.
func (db *database) starts(t *testing.T, o *Operator) map[string]ledger.EndpointState {
	t.Helper()
	led := ledger.New(db.pool, db.slot, ledger.BodiesAll, slog.New(slog.DiscardHandler))
	if _, err := led.Acquire(t.Context(), "test", "", 0); err != nil {
		t.Fatal(err)
	}
	standings, err := led.SyncEndpoints(t.Context(), o.configured())
	if err != nil {
		t.Fatal(err)
	}
	states := make(map[string]ledger.EndpointState)
	for _, ep := range o.configured() {
		states[ep.Name] = standings[ep.ID].State
	}
	return states
}

const threeEndpoints = `
endpoints:
  - {name: erp, tenant: acme, url: "https://user:hidden@erp.example/hooks?token=hidden", events: ["*"]}
  - {name: crm, url: "https://crm.example/", events: ["*"]}
  - {name: "off", url: "https://off.example/", events: ["*"], enabled: false}`

func TestEndpointsOfTheConfigurationAreKnownBeforeTheFirstStart(t *testing.T) {
	db := newDatabase(t)
	o := operator(t, db.initialised(t, threeEndpoints))
	list := func(removed bool) string {
		t.Helper()
		all, err := o.Endpoints(t.Context(), removed)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, e := range all {
			if strings.Contains(fmt.Sprint(e), "hidden") {
				t.Errorf("%s shows its credentials: %+v", e.Name, e)
			}
			lines = append(lines, fmt.Sprint(e.Name, " ", e.State, " ", e.By, " ", e.Since != nil))
		}
		return strings.Join(lines, "\n")
	}
	if diff := cmp.Diff("crm enabled configuration false\nerp enabled configuration false\noff disabled configuration false", list(true)); diff != "" {
		t.Errorf("before a relay ran (-want +got):\n%s", diff)
	}
	if e, err := o.Pause(t.Context(), "erp", "not yet", testActor); err != nil || !e.Changed || e.Was != EndpointEnabled {
		t.Errorf("paused: %+v, %v", e, err)
	}
	if states := db.starts(t, o); states["erp"] != EndpointPaused || states["crm"] != EndpointEnabled || states["off"] != EndpointDisabled {
		t.Errorf("the relay starts with %v", states)
	}
	fewer := operator(t, db.config(t, strings.Join(strings.Split(threeEndpoints, "\n")[:3], "\n")))
	db.starts(t, fewer)
	o = fewer
	if diff := cmp.Diff("erp paused operator true", list(false)); diff != "" {
		t.Errorf("after two were removed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("crm removed configuration true\nerp paused operator true\noff removed configuration true", list(true)); diff != "" {
		t.Errorf("with the removed ones (-want +got):\n%s", diff)
	}
	if e, err := o.Resume(t.Context(), o.configured()[0].ID.String(), "mended", testActor); err != nil || e.State != EndpointEnabled || e.Reason != "mended" || !e.Changed {
		t.Errorf("resumed by id: %+v, %v", e, err)
	}
}

func TestPauseAndResumeRefuseWhatTheyCannotDo(t *testing.T) {
	db := newDatabase(t)
	o := operator(t, db.initialised(t, threeEndpoints))
	var many strings.Builder
	many.WriteString("endpoints:\n")
	for i := range 12 {
		fmt.Fprintf(&many, "  - {name: e%02d, url: 'https://a.example/', events: ['*']}\n", i)
	}
	crowd, nobody := operator(t, db.config(t, many.String())), operator(t, db.config(t, ""))
	cases := []struct {
		name, endpoint string
		operator       *Operator
		want           []string
		is             error
	}{
		{"an unknown name", "nope", o, []string{"endpoint nope: ", "there are crm, erp, off"}, ErrUnknownEndpoint},
		{"an unknown id", uuid.Nil.String(), o, []string{"there are crm, erp, off"}, ErrUnknownEndpoint},
		{"an unknown name among many", "nope", crowd, []string{"there are e00, e01,", "e09 and 2 more"}, ErrUnknownEndpoint},
		{"no endpoints at all", "nope", nobody, []string{"there is none"}, ErrUnknownEndpoint},
		{"one that the configuration disables", "off", o, []string{"enable it there"}, ledger.ErrConfigured},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, pause := c.operator.Pause(t.Context(), c.endpoint, "", testActor)
			_, resume := c.operator.Resume(t.Context(), c.endpoint, "", testActor)
			for _, err := range []error{pause, resume} {
				wants(t, err, c.want...)
				if !errors.Is(err, c.is) {
					t.Errorf("it is no %v: %v", c.is, err)
				}
			}
			if _, err := db.pool.Exec(t.Context(), `TRUNCATE posthorn.endpoints`); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestRetryToAPausedEndpointIsRefused(t *testing.T) {
	db := newDatabase(t)
	cfg := db.initialised(t, threeEndpoints)
	o := operator(t, cfg)
	id := db.record(t, cfg, "erp", uuid.New(), ledger.Failed)
	if _, err := o.Pause(t.Context(), "erp", "", testActor); err != nil {
		t.Fatal(err)
	}
	_, err := o.Retry(t.Context(), id, testActor)
	wants(t, err, "resume it first: posthorn endpoints resume erp")
	if _, err := o.Resume(t.Context(), "erp", "", testActor); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Retry(t.Context(), id, testActor); err != nil {
		t.Errorf("after it was resumed: %v", err)
	}
}

func TestEndpointsSayThatInitIsMissing(t *testing.T) {
	o := operator(t, newDatabase(t).config(t, ""))
	_, list := o.Endpoints(context.Background(), false)
	_, pause := o.Pause(context.Background(), "erp", "", testActor)
	_, resume := o.Resume(context.Background(), "erp", "", testActor)
	for _, err := range []error{list, pause, resume} {
		wants(t, err, "run posthorn init")
	}
}
