// Command screenshots takes the pictures of the dashboard that the documents
// show: it runs the demo with its dashboard, logs in with headless Chromium, and
// writes every page, light and dark, as wide as a desk's and a phone's screen, to
// a folder. Look at them before you commit them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

// maxTaken bounds the whole, the demo's first minutes left out.
const maxTaken = 15 * time.Minute

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/posthorn", "`path` of the posthorn to run")
	flag.StringVar(&o.out, "out", "docs/images", "`folder` of the pictures")
	flag.StringVar(&o.chromium, "chromium", "chromium", "`path` of Chromium")
	flag.DurationVar(&o.after, "after", 6*time.Minute, "how `long` the demo runs before, for its charts")
	flag.StringVar(&o.only, "only", "", "take pages whose name begins so only")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1) //nolint:gocritic // what is deferred only restores a signal
	}
}

type options struct {
	binary, out, chromium, only string
	after                       time.Duration
}

func run(ctx context.Context, o options) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.after+maxTaken, errors.New("it took too long"))
	defer cancel()
	d, err := startDemo(ctx, o.binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if err := d.ripen(ctx, o.after); err != nil {
		return err
	}
	pages, err := d.pages(ctx)
	if err != nil {
		return err
	}
	portal, err := d.portal(ctx)
	if err != nil {
		return err
	}
	c, err := newCamera(ctx, o, d.base)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.takeAll(entrance); err != nil {
		return err
	}
	if err := c.enter(d.token); err != nil {
		return err
	}
	if err := c.takeAll(pages); err != nil {
		return err
	}
	if err := c.enter(portal); err != nil {
		return err
	}
	return c.takeAll(portalPages(pages))
}
