package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roleVariable makes the test binary play a role instead of running tests:
// that of a program which is killed while it owns a child.
const roleVariable = "POSTHORN_TEST_ROLE"

var roles = map[string]func(){"server owner": ownServer, "guard owner": ownGuarded}

// deadline is when waiting for a process to end is given up.
func deadline() time.Time { return time.Now().Add(30 * time.Second) }

// ownServer starts a server, prints its folder and waits to be killed.
func ownServer() {
	s, err := Start(context.Background(), Options{Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.dir)
	select {}
}

// ownGuarded starts a guarded child that would outlive it, says so and waits
// to be killed.
func ownGuarded() {
	cmd := exec.Command("sleep", "600")
	cmd.Stdout = os.Stdout // held open as long as the child lives
	err := cmd.Start()
	if err == nil {
		_, err = guard(cmd.Process.Pid, &syscall.SysProcAttr{Setpgid: true})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}

// playAndKill has the test binary play a role, kills it with SIGKILL once it
// has printed a line, and returns that line and the rest of its output, which
// lasts as long as any process holds it open.
func playAndKill(t *testing.T, role string) (line string, rest io.Reader) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = read.Close() })
	if err := read.SetReadDeadline(deadline()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stdout = write
	if err := errors.Join(cmd.Start(), write.Close()); err != nil {
		t.Fatal(err)
	}
	output := bufio.NewReader(read)
	line, readErr := output.ReadString('\n')
	killErr := cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	if err := errors.Join(readErr, killErr); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line), output
}

func TestServerDiesWithItsOwner(t *testing.T) {
	t.Setenv("TMPDIR", passableDir(t))
	dir, _ := playAndKill(t, "server owner")
	pidFile := filepath.Join(dir, "data", "postmaster.pid")
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for giveUp := deadline(); ; <-ticker.C {
		// The server removes the file last of all.
		_, err := os.Stat(pidFile)
		if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(dir, os.TempDir()) {
			return
		}
		if time.Now().After(giveUp) {
			t.Fatalf("server in %s still runs after its owner was killed (%v)", dir, err)
		}
	}
}

func TestGuardEndsTheChildOfAKilledOwner(t *testing.T) {
	line, rest := playAndKill(t, "guard owner")
	if line != "ready" {
		t.Fatal(line)
	}
	if _, err := io.ReadAll(rest); err != nil {
		t.Fatalf("child still runs after its owner was killed: %v", err)
	}
}

func TestDismissedGuardSparesTheChild(t *testing.T) {
	cmd := exec.Command("cat")
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	release, err := guard(cmd.Process.Pid, &syscall.SysProcAttr{Setpgid: true})
	if err != nil {
		t.Fatal(err)
	}
	release()
	if err := errors.Join(input.Close(), cmd.Wait()); err != nil {
		t.Errorf("child of a dismissed guard: %v, want it to end by itself", err)
	}
}

func TestTailKeepsTheEndAndPassesAllOn(t *testing.T) {
	var all strings.Builder
	log := tail{next: &all}
	for i := range 3000 {
		fmt.Fprintf(&log, "line %d\n", i)
	}
	if got := log.String(); len(got) != tailSize || !strings.HasSuffix(all.String(), got) || !strings.HasSuffix(got, "line 2999\n") {
		t.Errorf("kept %d bytes ending in %q, want the last %d of all", len(got), got[max(0, len(got)-20):], tailSize)
	}
	if !strings.HasPrefix(all.String(), "line 0\n") {
		t.Error("the first line was not passed on")
	}
}
