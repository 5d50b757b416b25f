package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// tab is a person at a browser, with cookies of their own: one tab, whose
// console must stay empty.
type tab struct {
	t    testing.TB
	ctx  context.Context //nolint:containedctx // chromedp's handle of the tab
	base string          // the relay's address, without a path

	mu       sync.Mutex
	problems []string // what the console and the browser complain of
	expected []string // parts of problems that are meant to be
}

// newTab opens a tab for a person at the relay. What its console says fails
// the test when it ends.
func newTab(t testing.TB, base string) *tab {
	t.Helper()
	b := &tab{t: t, base: base}
	ctx, cancel := chromedp.NewContext(chrome, chromedp.WithNewBrowserContext(), chromedp.WithListener(b.listen))
	b.ctx = ctx
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the tab stands at %s", b.describe())
		}
		b.report()
		cancel()
	})
	if err := chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, audits.Enable, cdp.Empty{})
		return err
	})); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	return b
}

// listen takes the tab's events: everything that a developer would see in red
// or yellow.
func (b *tab) listen(event any) {
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		var said []string
		for _, a := range e.Args {
			said = append(said, string(a.Value)+a.Description)
		}
		b.problem("console.%s: %s", e.Type, strings.Join(said, " "))
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		b.problem("exception: %s", text)
	case *log.EventEntryAdded:
		if e.Entry.Level != log.EntryLevelVerbose && e.Entry.Level != log.EntryLevelInfo {
			b.problem("%s %s: %s %s", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL)
		}
	case *audits.EventIssueAdded:
		details, _ := json.Marshal(e.Issue.Details) // came as JSON
		b.problem("issue %s: %s", e.Issue.Code, details)
	}
}

func (b *tab) problem(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, fmt.Sprintf(format, args...))
}

// expect has the console's complaints that hold a text be right.
func (b *tab) expect(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, text)
}

// report fails the test for each complaint that was not expected.
func (b *tab) report() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		if !slices.ContainsFunc(b.expected, func(text string) bool { return strings.Contains(p, text) }) {
			b.t.Errorf("the browser complains: %s", p)
		}
	}
}

// describe returns where the tab is and what it shows.
func (b *tab) describe() string {
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText`))
	if err != nil {
		return err.Error()
	}
	return text
}

// open goes to a path and returns the answer's status.
func (b *tab) open(path string) int {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	res, err := chromedp.Run(ctx, chromedp.NavigateResponse(b.base+path))
	if err != nil {
		b.t.Fatalf("open %s: %v", path, err)
	}
	return int(res.Status)
}

// visit opens a path where there is a page.
func (b *tab) visit(path string) {
	b.t.Helper()
	if status := b.open(path); status != http.StatusOK {
		b.t.Fatalf("%s answers %d: %s", path, status, b.describe())
	}
}

// shut opens a path that the person must not get, but status.
func (b *tab) shut(path string, status int) {
	b.t.Helper()
	b.expect(fmt.Sprintf("status of %d", status))
	if got := b.open(path); got != status {
		b.t.Errorf("%s answers %d, want %d: %s", path, got, status, b.describe())
	}
}

// eval returns the value of an expression in the page. An error may be that the
// page has just made place for another.
func eval[T any](b *tab, format string, args ...any) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	for i, a := range args { // as JavaScript writes them
		text, err := json.Marshal(a)
		if err != nil {
			panic(err) // texts and numbers always marshal
		}
		args[i] = string(text)
	}
	return chromedp.Run(ctx, chromedp.Evaluate[T](fmt.Sprintf(format, args...), chromedp.EvalAwaitPromise))
}

// until returns once the expression is true of the page.
func (b *tab) until(what, format string, args ...any) {
	b.t.Helper()
	eventually(b.t, func() error {
		ok, err := eval[bool](b, format, slices.Clone(args)...)
		if err == nil && !ok {
			err = errors.New(what)
		}
		return err
	}, b.describe)
}

// see returns once the page shows all the texts.
func (b *tab) see(texts ...string) {
	b.t.Helper()
	b.seeIn("body", texts...)
}

// seeIn returns once what a selector finds shows all the texts.
func (b *tab) seeIn(selector string, texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		b.until(fmt.Sprintf("no %q in %s", text, selector), `document.querySelector(%s)?.innerText.replace(/\s+/g, " ").includes(%s) ?? false`, selector, text)
	}
}

// lacks fails the test if the page shows one of the texts, or holds it.
func (b *tab) lacks(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		there, err := eval[bool](b, `document.documentElement.outerHTML.includes(%[1]s) || document.body.innerText.includes(%[1]s)`, text)
		if err != nil {
			b.t.Fatal(err)
		}
		if there {
			b.t.Errorf("the page has %q: %s", text, b.describe())
		}
	}
}

// text returns what an element shows that a selector finds.
func (b *tab) text(selector string) string {
	b.t.Helper()
	b.until("no "+selector, `document.querySelector(%s) !== null`, selector)
	text, err := eval[string](b, `document.querySelector(%s).textContent`, selector)
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimSpace(text)
}

// path returns where the tab is, below the relay's address.
func (b *tab) path() string {
	b.t.Helper()
	path, err := eval[string](b, `location.pathname`)
	if err != nil {
		b.t.Fatal(err)
	}
	return path
}

// What a name is looked for among, as people see it: what they can press, and
// what the labels of the fields say.
const (
	pressable = `a, button, summary, [role=button], label`
	named     = `((within, kinds, name) => {
	const words = (e) => e.innerText.replace(/\s+/g, " ").trim();
	const seen = [...(document.querySelector(within)?.querySelectorAll(kinds) ?? [])].filter((e) => e.checkVisibility({ visibilityProperty: true }));
	return seen.find((e) => words(e) === name) ?? seen.find((e) => words(e).startsWith(name)) ?? null;
})`
)

// point is where something stands on the screen.
type point struct{ X, Y float64 }

// press clicks what has a name, once it is there and nothing lies over it. What
// moves while it is aimed at, because a chart was drawn or a problem shown above
// it, is aimed at again: what is hit instead does not feel it.
func (b *tab) press(name string) {
	b.t.Helper()
	b.pressIn("body", name)
}

// pressIn is press within what a selector finds.
func (b *tab) pressIn(selector, name string) {
	b.t.Helper()
	eventually(b.t, func() error {
		at, err := eval[*point](b, `(() => {
			const e = `+named+`(%s, %s, %s);
			if (!e) return null;
			e.scrollIntoView({ block: "center", behavior: "instant" });
			const box = e.getBoundingClientRect();
			const at = { X: box.x + Math.min(box.width / 2, 60), Y: box.y + box.height / 2 };
			if (!e.contains(document.elementFromPoint(at.X, at.Y))) return null;
			window.missed = true;
			const events = ["mousedown", "mouseup", "click"];
			const guard = (event) => {
				if (event.isTrusted && !e.contains(event.target)) {
					event.preventDefault();
					event.stopImmediatePropagation();
				} else if (event.type === "click") {
					window.missed = false;
				}
				if (event.type === "click") events.forEach((type) => window.removeEventListener(type, guard, true));
			};
			events.forEach((type) => window.addEventListener(type, guard, true));
			return at;
		})()`, selector, pressable, name)
		if err != nil {
			return err
		}
		if at == nil {
			return fmt.Errorf("nothing named %q to press", name)
		}
		b.do("press "+name, chromedp.MouseClickXY(at.X, at.Y))
		if missed, err := eval[bool](b, `window.missed === true`); err == nil && missed { // else another page is on its way
			return fmt.Errorf("%q moved away", name)
		}
		return nil
	}, b.describe)
}

// submit presses what has a name and returns once the page that it leads to is
// there.
func (b *tab) submit(name string) {
	b.t.Helper()
	b.follow(func() { b.press(name) })
}

// follow does what leads to another page, and returns once that is there.
func (b *tab) follow(do func()) {
	b.t.Helper()
	before, err := eval[float64](b, `performance.timeOrigin`)
	if err != nil {
		b.t.Fatal(err)
	}
	do()
	b.until("no other page came", `performance.timeOrigin !== %v && document.readyState === "complete"`, before)
}

// fill writes into the field that a label names, in place of what is there.
func (b *tab) fill(label, text string) {
	b.t.Helper()
	b.until("no field "+label, `(() => {
		const field = `+named+`("body", "label", %s)?.control;
		if (!field) return false;
		field.focus();
		field.select();
		return document.activeElement === field;
	})()`, label)
	if text == "" {
		b.do("empty "+label, chromedp.KeyEvent("\b"))
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	if _, err := chromedp.Call(ctx, input.InsertText, input.InsertTextParams{Text: text}); err != nil {
		b.t.Fatalf("fill %s: %v", label, err)
	}
}

// choose picks the option of a list that a label names.
func (b *tab) choose(label, option string) {
	b.t.Helper()
	b.until(fmt.Sprintf("no option %q of %s", option, label), `(() => {
		const list = `+named+`("body", "label", %s)?.control;
		const found = [...(list?.options ?? [])].find((o) => o.text.trim() === %s);
		if (!found) return false;
		list.value = found.value;
		list.dispatchEvent(new Event("input", { bubbles: true }));
		list.dispatchEvent(new Event("change", { bubbles: true }));
		return true;
	})()`, label, option)
}

// do runs an action of the browser.
func (b *tab) do(what string, action chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	if _, err := chromedp.Run(ctx, action); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// post sends a form by hand, with the page's own CSRF token, and returns the
// answer's status: what somebody can do who knows the address behind a button
// that the page does not show.
func (b *tab) post(path string, form map[string]string) int {
	b.t.Helper()
	status, err := eval[int](b, `(async () => {
		const form = new URLSearchParams(%[2]v);
		form.set("csrf", document.querySelector("meta[name=csrf-token]").content);
		return (await fetch(%[1]s, { method: "POST", body: form })).status;
	})()`, path, form)
	if err != nil {
		b.t.Fatalf("post to %s: %v", path, err)
	}
	return status
}
