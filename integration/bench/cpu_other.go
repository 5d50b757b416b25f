//go:build !linux

package main

import (
	"syscall"
	"time"
)

// canMeasure says that there is no way here to ask how much CPU and memory
// another process uses: the program refuses to run.
const canMeasure = false

// sysProcAttr has nothing that ends a child with this process.
func sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func cpuOf(int) time.Duration { return 0 }

func sleep(d time.Duration) { time.Sleep(d) }
