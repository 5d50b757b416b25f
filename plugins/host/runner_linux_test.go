package host

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// A shell or a service manager may have started the relay with files open.
func TestAProcessInheritsNoFilesOfTheRelays(t *testing.T) {
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := syscall.Dup(int(f.Fd())) // stays open where another program is executed
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	p := start(t, options(t, ""))
	if files := mustDo(t, p, "files").Text; !strings.Contains(files, "socket:") || strings.Contains(files, f.Name()) {
		t.Errorf("open files:\n%s", files)
	}
}
