package compose

import (
	"strings"
	"testing"
	"time"
)

// both are the applications that write in most tests.
var both = []string{"app-a", "app-b"}

func TestNothingIsLostWhenTheNetworkToPostgresIsCut(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	s.start()
	s.write(2_000, 100, both...)
	// Shorter and longer than Postgres waits before it gives a connection up.
	for i, away := range []time.Duration{2 * time.Second, 11 * time.Second} {
		s.waitCommitted(200 + 1_500*i)
		s.cut("relay-a", "db")
		time.Sleep(away)
		s.mend("relay-a", "db")
	}
	t.Logf("FIGURE network between relay and Postgres cut for 2 s and 11 s: %s", s.check(both...))
}

func TestNothingIsLostWhenTheNetworkToTheReceiverIsCut(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	s.start()
	s.write(2_000, 100, both...)
	for i, away := range []time.Duration{2 * time.Second, 10 * time.Second} {
		s.waitCommitted(200 + 1_500*i)
		s.cut("receiver", "web")
		time.Sleep(away)
		s.mend("receiver", "web")
	}
	t.Logf("FIGURE network between relay and receiver cut for 2 s and 10 s: %s", s.check(both...))
}

func TestNothingIsLostWhenEachContainerIsKilled(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	s.start()
	s.write(2_000, 100, both...)
	for i, victim := range []string{"relay-a", "receiver", "postgres", "relay-a", "postgres"} {
		s.waitCommitted(300 + 700*i)
		s.kill(victim)
		time.Sleep(time.Second)
		s.revive(victim)
	}
	t.Logf("FIGURE relay and Postgres killed twice, receiver once, each away for 1 s: %s", s.check(both...))
}

// An application that is killed in the midst of a transaction has committed or
// rolled back: what it committed arrives.
func TestNothingIsLostWhenTheApplicationIsKilled(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	s.start()
	s.write(1_000, 300, both...)
	for i := range 5 {
		s.waitCommitted(100 + 200*i)
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
	s.write(3_500, 100, both...)
	active, waiting := "relay-a", "relay-b"
	for _, lose := range []struct {
		at   int // events committed
		how  string
		lose func(relay string) time.Time
		mend func(relay string)
	}{
		{500, "killed", s.kill, s.revive},
		{1_300, "cut off from Postgres", func(relay string) time.Time { return s.cut(relay, "db") }, func(relay string) { s.mend(relay, "db") }},
		{3_500, "killed", s.kill, s.revive},
		{4_300, "cut off from Postgres", func(relay string) time.Time { return s.cut(relay, "db") }, func(relay string) { s.mend(relay, "db") }},
	} {
		s.waitCommitted(lose.at)
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
	s := newStack(t, map[string]string{"RELAY_IMAGE": olderImage, "RELAY_B_IMAGE": olderImage})
	s.start()
	s.up("relay-b")
	s.waitRole("relay-b", "standby")
	s.write(1_500, 100, both...)
	s.waitCommitted(500)

	// The waiting one first; the one that delivers then hands over to it.
	s.env["RELAY_B_IMAGE"] = relayImage
	s.up("relay-b")
	s.waitRole("relay-b", "standby")
	s.waitCommitted(1_000)
	s.env["RELAY_IMAGE"] = relayImage
	s.up("relay-a")
	s.waitRole("relay-b", "active")
	s.waitRole("relay-a", "standby")
	for _, relay := range []string{"relay-a", "relay-b"} {
		if got := docker(t, "exec", s.container(relay), "posthorn", "version"); !strings.HasPrefix(got, "posthorn "+testedVersion+" ") {
			t.Errorf("%s runs %s", relay, got)
		}
	}
	f := s.check(both...)
	if f.duplicates > 0 {
		t.Errorf("%d deliveries were made again", f.duplicates)
	}
	t.Logf("FIGURE both relays replaced by another version under load: %s", f)
}
