package main

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// canMeasure says that the kernel tells how much CPU another process used.
const canMeasure = true

// sysProcAttr has the kernel kill the child when this process is gone.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// cpuOf returns the CPU time that all threads of a process used so far, those
// that ended included, or 0 when there is no such process. It reads the
// process' own clock, see clock_getcpuclockid(3): /proc counts in hundredths
// of a second.
func cpuOf(pid int) time.Duration {
	const clockOfProcess = 2 // CPUCLOCK_SCHED
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|clockOfProcess), &at); err != nil {
		return 0
	}
	return time.Duration(at.Nano())
}

// sleep blocks the thread and ends some tens of microseconds after d, or sooner
// when it is interrupted.
func sleep(d time.Duration) {
	at := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&at, nil)
}
