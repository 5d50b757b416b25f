package browser

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/chromedp/chromedp"
)

// programs are what Chromium is called: by Debian, by others, and on macOS.
var programs = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "/Applications/Chromium.app/Contents/MacOS/Chromium", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"}

func findChrome() (string, error) {
	for _, name := range programs {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("install Chromium, in which the dashboard's tests run: integration/browser/ensure.sh does where apt-get or brew is")
}

// startChrome starts the browser that all tests share. stop ends it, with all
// of its processes. Should this process be killed, the kernel ends the browser.
func startChrome() (stop func() error, err error) {
	path, err := findChrome()
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.Flag("headless", "new"),
		chromedp.WindowSize(1280, 900),
		chromedp.DisableGPU,
	) // no-sandbox is chromedp's own where root runs it
	allocator, free := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	start, late := context.WithTimeoutCause(ctx, within, errors.New("it does not start"))
	defer late()
	// The browser lives as long as the context that it is started with.
	started := make(chan error, 1)
	go func() { started <- chromedp.Do(ctx) }()
	select {
	case err = <-started:
	case <-start.Done():
		err = context.Cause(start)
	}
	if err != nil {
		cancel()
		free()
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	chrome = ctx
	return func() error {
		closing, late := context.WithTimeout(ctx, within)
		defer late()
		err := chromedp.Cancel(closing)
		free() // returns once its processes are gone
		return err
	}, nil
}
