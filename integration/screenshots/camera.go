package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// widths are those of the pictures, with how high one can be.
var widths = []struct{ width, most int64 }{{1280, 2400}, {390, 3000}}

// loaded is true when a page stands, its charts drawn as wide as their boxes.
const loaded = `document.readyState === "complete" && [...document.querySelectorAll("[data-plot]")].every((box) =>
	box.querySelector("canvas") !== null && Math.abs(box.querySelector(".uplot").clientWidth - box.clientWidth) < 2)`

// painted resolves when what was changed last has been painted.
const painted = `new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))`

// camera is a browser that takes pictures.
type camera struct {
	ctx     context.Context //nolint:containedctx // chromedp's handle of the tab
	base    string
	out     string
	only    string
	release []context.CancelFunc
}

func newCamera(ctx context.Context, o options, base string) (*camera, error) {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return nil, err
	}
	settings := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(o.chromium), chromedp.Flag("headless", "new"), chromedp.Flag("hide-scrollbars", true), chromedp.Flag("lang", "en"), chromedp.DisableGPU)
	allocator, free := chromedp.NewExecAllocator(ctx, settings...)
	tab, cancel := chromedp.NewContext(allocator)
	c := &camera{ctx: tab, base: base + dashboard, out: o.out, only: o.only, release: []context.CancelFunc{cancel, free}}
	if err := chromedp.Do(tab); err != nil {
		c.close()
		return nil, fmt.Errorf("start %s: %w", o.chromium, err)
	}
	return c, nil
}

func (c *camera) close() {
	for _, release := range c.release {
		release()
	}
}

// enter logs in by a token, out of whatever session there was.
func (c *camera) enter(token string) error {
	script := fmt.Sprintf(`fetch(%q, { method: "POST", body: new URLSearchParams({ token: %q, instead: "1" }) }).then((answer) => answer.redirected)`, dashboard+"/login", token)
	if err := chromedp.Do(c.ctx, chromedp.Navigate(c.base+"/enter")); err != nil {
		return err
	}
	ok, err := chromedp.Run(c.ctx, chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise))
	if err == nil && !ok {
		err = errors.New("refused")
	}
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	return nil
}

// takeAll takes shots in every width and both colours.
func (c *camera) takeAll(shots []shot) error {
	for _, s := range shots {
		if !strings.HasPrefix(s.name, c.only) {
			continue
		}
		for _, w := range widths {
			if err := c.take(s, w.width, w.most); err != nil {
				return fmt.Errorf("take %s at %d: %w", s.name, w.width, err)
			}
		}
	}
	return nil
}

// take takes a shot of one width, light and dark.
func (c *camera) take(s shot, width, most int64) error {
	ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
	defer cancel()
	size := emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 900, DeviceScaleFactor: 1, Mobile: width < 500}
	if _, err := chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, size); err != nil {
		return err
	}
	if err := c.colour(ctx, "light"); err != nil {
		return err
	}
	if err := chromedp.Do(ctx, chromedp.Navigate(c.base+s.path)); err != nil {
		return err
	}
	if err := until(ctx, loaded); err != nil {
		return err
	}
	if s.act != "" {
		if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("(() => {"+s.act+"; return true})()")); err != nil {
			return fmt.Errorf("act: %w", err)
		}
		if err := until(ctx, "("+s.then+") && "+loaded); err != nil {
			return err
		}
	}
	if err := c.unroll(ctx, size, most); err != nil {
		return err
	}
	for _, scheme := range []string{"light", "dark"} {
		if err := c.colour(ctx, scheme); err != nil {
			return err
		}
		if err := c.shoot(ctx, fmt.Sprintf("%s-%s-%d.png", s.name, scheme, width), width, most); err != nil {
			return err
		}
	}
	return nil
}

// unroll makes the screen as high as the page, so that what is loaded when it is
// seen is there.
func (c *camera) unroll(ctx context.Context, size emulation.SetDeviceMetricsOverrideParams, most int64) error {
	high, err := chromedp.Run(ctx, chromedp.Evaluate[int64](`document.documentElement.scrollHeight`))
	if err != nil {
		return err
	}
	size.Height = max(size.Height, min(high, most))
	if _, err := chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, size); err != nil {
		return err
	}
	return until(ctx, loaded+` && [...document.querySelectorAll("[hx-trigger^=intersect]")].every((box) =>
		box.childElementCount > 0 || box.getBoundingClientRect().top > innerHeight || !box.checkVisibility())`)
}

func (c *camera) colour(ctx context.Context, scheme string) error {
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	return err
}

// until returns when an expression is true of the page.
func until(ctx context.Context, expression string) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		if err == nil && ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait for %s: %w", expression, ctx.Err()), err) // an error may be that another page came meanwhile
		case <-ticker.C:
		}
	}
}

// shoot writes the picture of the page as it stands, down to most.
func (c *camera) shoot(ctx context.Context, name string, width, most int64) error {
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](painted, chromedp.EvalAwaitPromise)); err != nil {
		return err
	}
	high, err := chromedp.Run(ctx, chromedp.Evaluate[int64](`document.documentElement.scrollHeight`))
	if err != nil {
		return err
	}
	wide, err := chromedp.Run(ctx, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`))
	if err != nil {
		return err
	}
	if wide > width {
		fmt.Fprintf(os.Stderr, "%s is %d wide: it scrolls sideways\n", name, wide)
	}
	beyond := true
	shot, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{
		CaptureBeyondViewport: &beyond, Clip: &page.Viewport{Width: float64(width), Height: float64(min(high, most)), Scale: 1},
	})
	if err != nil {
		return err
	}
	small, err := shrink(shot.Data)
	if err != nil {
		return fmt.Errorf("picture %s: %w", name, err)
	}
	return os.WriteFile(filepath.Join(c.out, name), small, 0o644)
}
