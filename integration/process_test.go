package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// relay is one process of the binary.
type relay struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed once the process ended

	mu   sync.Mutex
	logs []logLine
	part []byte // of a line
}

// logLine is one line that the relay logged; Text is all of it.
type logLine struct {
	Msg    string `json:"msg"`
	Level  string `json:"level"`
	Listen string `json:"listen"`
	Text   string `json:"-"`
}

// startRelay runs posthorn run --init with a configuration in YAML. What every
// test has in common reaches it through the environment, the configuration's
// own variables too: ${RECEIVER} and ${SECRET}. It is killed when the test
// ends, if it still runs.
func startRelay(t testing.TB, db *database, rcv *receiver, config string) *relay {
	t.Helper()
	return startCommand(t, db, rcv, config, "run", "--init")
}

// startRelayWith is startRelay with more variables.
func startRelayWith(t testing.TB, db *database, rcv *receiver, config string, env ...string) *relay {
	t.Helper()
	file := filepath.Join(t.TempDir(), "posthorn.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return startProcess(t, slices.Concat(commonEnv(db), []string{"RECEIVER=" + rcv.url(), "SECRET=" + secret}, env), "run", "--init", "--config", file)
}

// startCommand is startRelay for any command.
func startCommand(t testing.TB, db *database, rcv *receiver, config string, args ...string) *relay {
	t.Helper()
	file := filepath.Join(t.TempDir(), "posthorn.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return startProcess(t, append(commonEnv(db), "RECEIVER="+rcv.url(), "SECRET="+secret), append(args, "--config", file)...)
}

// commonEnv is what every relay of a test is told by its environment.
func commonEnv(db *database) []string {
	return []string{
		"POSTHORN_DATABASE__URL=" + db.url,
		"POSTHORN_SOURCE__SLOT=" + db.slot,
		"POSTHORN_HTTP__LISTEN=127.0.0.1:0",
		`POSTHORN_EGRESS__ALLOW=["127.0.0.0/8"]`,
		"POSTHORN_LOG__FORMAT=json",
	}
}

// startProcess runs the binary with nothing but env in its environment.
func startProcess(t testing.TB, env []string, args ...string) *relay {
	t.Helper()
	r := &relay{t: t, cmd: exec.Command(binary, args...), done: make(chan struct{})}
	r.cmd.Env = env
	r.cmd.Stderr, r.cmd.Stdout = r, r
	r.cmd.SysProcAttr = sysProcAttr()
	r.cmd.WaitDelay = 10 * time.Second // a child of its that lives on holds the pipe
	started := make(chan error)
	go func() {
		// The kernel ends the child with the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := r.cmd.Start()
		started <- err
		if err == nil {
			_ = r.cmd.Wait() // ProcessState says how it ended
			close(r.done)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			t.Logf("the end of the relay's log:\n%s", r.tail(30))
		}
	})
	return r
}

// Write takes what the process prints.
func (r *relay) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.part = append(r.part, b...)
	for {
		end := bytes.IndexByte(r.part, '\n')
		if end < 0 {
			return len(b), nil
		}
		line := logLine{Text: string(r.part[:end])}
		if json.Unmarshal(r.part[:end], &line) != nil {
			line.Msg = line.Text // a last word that is not logged
		}
		r.logs = append(r.logs, line)
		r.part = r.part[end+1:]
	}
}

// logged returns the lines whose message contains msg.
func (r *relay) logged(msg string) []logLine {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []logLine
	for _, line := range r.logs {
		if strings.Contains(line.Msg, msg) {
			found = append(found, line)
		}
	}
	return found
}

func (r *relay) tail(n int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var text strings.Builder
	for _, line := range r.logs[max(0, len(r.logs)-n):] {
		text.WriteString(line.Text + "\n")
	}
	return text.String()
}

// waitLog returns the n-th line that contains msg, counting from 1, once it is
// there.
func (r *relay) waitLog(msg string, n int) logLine {
	r.t.Helper()
	var found []logLine
	eventually(r.t, 60*time.Second, func() error {
		found = r.logged(msg)
		if len(found) >= n {
			return nil
		}
		select {
		case <-r.done:
			r.t.Fatalf("the relay ended before it said %q:\n%s", msg, r.tail(30))
		default:
		}
		return fmt.Errorf("the relay said %q %d times, not %d", msg, len(found), n)
	})
	return found[n-1]
}

const msgReady = "slot acquired, delivering"

// waitReady returns once the relay delivers.
func (r *relay) waitReady() {
	r.t.Helper()
	r.waitLog(msgReady, 1)
}

// signal sends sig, unless the process ended already.
func (r *relay) signal(sig syscall.Signal) {
	select {
	case <-r.done:
		return
	default:
	}
	if err := r.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		r.t.Errorf("signal the relay: %v", err)
	}
}

// kill ends the process at once, paused or not.
func (r *relay) kill() {
	r.signal(syscall.SIGKILL)
	<-r.done
}

// stop asks for a graceful stop and returns the exit code and how long it took.
func (r *relay) stop() (code int, took time.Duration) {
	r.t.Helper()
	started := time.Now()
	r.signal(syscall.SIGTERM)
	return r.wait(time.Minute), time.Since(started)
}

// wait returns the exit code once the process ended.
func (r *relay) wait(timeout time.Duration) int {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(timeout):
		r.t.Fatalf("the relay did not end within %s", timeout)
	}
	return r.cmd.ProcessState.ExitCode()
}

// pause stops the process where it is, and returns once none of its threads
// runs any more; resume lets it go on.
func (r *relay) pause() {
	r.t.Helper()
	r.signal(syscall.SIGSTOP)
	eventually(r.t, 10*time.Second, func() error {
		if state := r.status("State"); !strings.HasPrefix(state, "T") {
			return fmt.Errorf("the relay's state is %s", state)
		}
		return nil
	})
}

func (r *relay) resume() { r.signal(syscall.SIGCONT) }

// status returns a field of the process' status as the kernel gives it.
func (r *relay) status(field string) string {
	r.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	r.t.Fatalf("the kernel says nothing of %s", field)
	return ""
}

// peakRSS returns the most memory that the process ever had, in bytes.
func (r *relay) peakRSS() int {
	r.t.Helper()
	kib, err := strconv.Atoi(strings.TrimSuffix(r.status("VmHWM"), " kB"))
	if err != nil {
		r.t.Fatal(err)
	}
	return kib << 10
}

// get returns what the relay answers at a path of its own HTTP server.
func (r *relay) get(path string) []byte {
	r.t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + r.waitLog("posthorn starts", 1).Listen + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		r.t.Fatalf("get %s: %s, %v", path, res.Status, err)
	}
	return body
}

// role returns the relay's role as /healthz says it.
func (r *relay) role() string {
	r.t.Helper()
	var health struct{ Status, Role string }
	if err := json.Unmarshal(r.get("/healthz"), &health); err != nil || health.Status != "ok" {
		r.t.Fatalf("health is %q: %v", health.Status, err)
	}
	return health.Role
}

var sample = regexp.MustCompile(`^(\w+(?:\{.*\})?) (\S+)$`)

// metrics returns the relay's metrics by name and labels, as they are written:
// posthorn_attempts_total{endpoint="a",outcome="delivered"}.
func (r *relay) metrics() map[string]float64 {
	r.t.Helper()
	all := map[string]float64{}
	lines := bufio.NewScanner(bytes.NewReader(r.get("/metrics")))
	for lines.Scan() {
		found := sample.FindStringSubmatch(lines.Text())
		if found == nil {
			continue
		}
		value, err := strconv.ParseFloat(found[2], 64)
		if err != nil {
			r.t.Fatalf("read metric %s: %v", lines.Text(), err)
		}
		all[found[1]] = value
	}
	return all
}
