package compose

import (
	"strings"
	"testing"
	"time"
)

// both are the applications that write in most tests.
var both = []string{"app-a", "app-b"}

func TestNothingIsLostWhenANetworkIsCut(t *testing.T) {
	for _, cut := range []struct{ between, service, network string }{
		{"relay and Postgres", "relay-a", "db"},
		{"relay and receiver", "receiver", "web"},
	} {
		t.Run(cut.network, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, nil)
			s.start()
			s.write(100, both...)
			// Shorter and longer than Postgres waits before it gives a connection up.
			for _, away := range []time.Duration{2 * time.Second, 11 * time.Second} {
				s.waitMore(200)
				s.cut(cut.service, cut.network)
				s.standsFor(away)
				s.mend(cut.service, cut.network)
			}
			t.Logf("FIGURE network between %s cut for 2 s and 11 s: %s", cut.between, s.check(both...))
		})
	}
}

func TestNothingIsLostWhenEachContainerIsKilled(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	s.start()
	s.write(100, both...)
	for _, victim := range []string{"relay-a", "receiver", "postgres", "relay-a", "postgres"} {
		s.waitMore(200)
		s.kill(victim)
		time.Sleep(time.Second)
		s.revive(victim)
	}
	s.waitMore(100)
	t.Logf("FIGURE relay and Postgres killed twice, receiver once, each away for 1 s: %s", s.check(both...))
}

// An application that is killed in the midst of a transaction has committed or
// rolled back: what it committed arrives.
func TestNothingIsLostWhenTheApplicationIsKilled(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	s.start()
	s.write(300, both...)
	for range 5 {
		s.waitMore(200)
		s.kill("app-a")
		s.revive("app-a")
	}
	t.Logf("FIGURE application killed 5 times: %s", s.check(both...))
}

// waitLimit is how long nobody may deliver when a relay is lost.
const waitLimit = 10 * time.Second

func TestWaitingSidecarTakesOver(t *testing.T) {
	s := newStack(t, nil)
	s.start()
	s.up("relay-b")
	s.waitRole("relay-b", "standby")
	s.write(100, both...)
	cut := func(relay string) time.Time { return s.cut(relay, "db") }
	mend := func(relay string) { s.mend(relay, "db") }
	active, waiting := "relay-a", "relay-b"
	for _, lose := range []struct {
		how  string
		lose func(relay string) time.Time
		mend func(relay string)
	}{
		{"killed", s.kill, s.revive},
		{"cut off from Postgres", cut, mend},
		{"killed", s.kill, s.revive},
		{"cut off from Postgres", cut, mend},
	} {
		s.waitMore(200)
		heir := s.address(waiting, "web")
		took := s.takeover(heir, lose.lose(active))
		t.Logf("FIGURE relay %s: the waiting one delivered after %s", lose.how, took.Round(10*time.Millisecond))
		if took > waitLimit {
			t.Errorf("the waiting sidecar took over after %s", took)
		}
		lose.mend(active)
		s.waitRole(active, "standby")
		active, waiting = waiting, active
	}
	t.Logf("FIGURE four takeovers: %s", s.check(both...))
}

func TestRollingUpgradeLosesAndRepeatsNothing(t *testing.T) {
	older, version := olderImage(t)
	s := newStack(t, map[string]string{"RELAY_IMAGE": older, "RELAY_B_IMAGE": older})
	runs := func(relay, version string) {
		t.Helper()
		if got := docker(t, "exec", s.container(relay), "posthorn", "version"); !strings.HasPrefix(got, "posthorn "+version+" ") {
			t.Errorf("%s runs %s, want %s", relay, got, version)
		}
	}
	s.start()
	s.up("relay-b")
	s.waitRole("relay-b", "standby")
	runs("relay-a", version)
	runs("relay-b", version)
	s.write(100, both...)
	s.waitMore(200)

	// The waiting one first. When the one that delivers goes, whichever asks
	// first takes over: the waiting one, or its own successor, which may be there
	// before the waiting one looks again.
	s.env["RELAY_B_IMAGE"] = relayImage(t)
	s.up("relay-b")
	s.waitRole("relay-b", "standby")
	s.waitMore(200)
	s.env["RELAY_IMAGE"] = relayImage(t)
	s.up("relay-a")
	s.waitPair("relay-a", "relay-b")
	s.waitMore(200)
	runs("relay-a", testedVersion)
	runs("relay-b", testedVersion)
	f := s.check(both...)
	if f.duplicates > 0 {
		t.Errorf("%d deliveries were made again", f.duplicates)
	}
	t.Logf("FIGURE both relays replaced under load, %s by %s: %s", version, testedVersion, f)
}
