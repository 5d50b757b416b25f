package host

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

const (
	healthInterval = 5 * time.Second
	healthTimeout  = 5 * time.Second

	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 30 * time.Second

	// What makes former failures of a process's predecessors forgotten.
	steadyTime  = time.Minute
	steadyCalls = 10
)

// backoff returns the wait before a process is started again that failed this
// often before: none at first, then 100 ms, doubling to limit.
func backoff(failures int, limit time.Duration) time.Duration {
	if failures == 0 {
		return 0
	}
	return min(firstBackoff<<min(failures-1, 16), limit)
}

// supervise keeps one process running, proc to begin with, until ctx ends. None
// is left when it returns, if somebody stops the one that runs.
func (p *Plugin) supervise(ctx context.Context, proc *process) {
	failures := 0
	for {
		p.watch(ctx, proc)
		if ctx.Err() != nil {
			p.logger.LogAttrs(ctx, slog.LevelDebug, "plugin process stopped", slog.Int("pid", proc.runner.pid))
			return
		}
		if time.Since(proc.started) >= steadyTime || proc.succeeded.Load() >= steadyCalls {
			failures = 0
		}
		// It ran, and the events behind the one that ended it wait for the next.
		wait := backoff(failures, max(firstBackoff, p.options.Timeout/4))
		p.logger.LogAttrs(ctx, slog.LevelWarn, "plugin process ended",
			slog.Int("pid", proc.runner.pid), slog.String("reason", proc.reason(p)),
			slog.String("stderr", proc.runner.said.text(maxTail)), slog.Duration("retry_in", wait))
		if proc = p.restart(ctx, &failures, wait); proc == nil {
			return
		}
	}
}

// restart starts a process after a wait, and again with growing waits until one
// runs. It returns nil when ctx ends.
func (p *Plugin) restart(ctx context.Context, failures *int, wait time.Duration) *process {
	for {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		*failures++
		p.restarts.Add(1)
		proc, err := p.start(ctx)
		switch {
		case err == nil && p.add(proc):
			return proc
		case err == nil:
			proc.runner.kill()
			proc.release()
			return nil
		case ctx.Err() != nil:
			return nil
		}
		wait = backoff(*failures, maxBackoff)
		p.mu.Lock()
		p.last = ledgerText(err)
		p.mu.Unlock()
		p.logger.LogAttrs(ctx, slog.LevelWarn, "start plugin process",
			slog.Any("err", err), slog.Duration("retry_in", wait))
	}
}

// watch checks a process's health until it has ended, and then lets go of what
// belonged to it. When ctx has ended it only waits.
func (p *Plugin) watch(ctx context.Context, proc *process) {
	tick := time.NewTicker(healthInterval)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-proc.runner.exited:
			ended = true
		case <-tick.C:
			p.output.flush()
			// A process that works has its calls' deadlines, and may have no thread
			// to spare for an answer.
			if !p.busy(proc) && !proc.healthy(ctx, healthTimeout) && ctx.Err() == nil {
				p.fail(proc, "did not pass a health check and was killed")
			}
		}
	}
	p.remove(proc, proc.runner.end())
	proc.release()
	p.output.flush()
}

// busy reports whether calls are in flight on proc.
func (p *Plugin) busy(proc *process) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(proc.calls) > 0
}

// reason returns why a process that is out of service is.
func (proc *process) reason(p *Plugin) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return proc.why
}

// ledgerText returns what an error of start says without what the program
// wrote: that could hold what events held.
func ledgerText(err error) string {
	var start *startError
	if errors.As(err, &start) {
		return start.text
	}
	return err.Error()
}
