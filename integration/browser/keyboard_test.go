package browser

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// key presses a key.
func (b *tab) key(keys string) {
	b.t.Helper()
	b.do("press a key", chromedp.KeyEvent(keys))
}

// tabTo presses Tab until what has the focus has a name. The focus must be seen
// on its way: each thing that takes it has a name and an outline.
func (b *tab) tabTo(name string) {
	b.t.Helper()
	var passed []string
	for range 60 {
		b.key(kb.Tab)
		got, err := eval[[]string](b, `(() => {
			const e = document.activeElement;
			if (e === document.body) return null;
			const said = e.getAttribute("aria-label") || [...(e.labels ?? [])].map((l) => l.innerText).join(" ") || e.innerText || e.value || "";
			const style = getComputedStyle(e);
			const seen = style.outlineStyle !== "none" && style.outlineWidth !== "0px" || style.boxShadow !== "none";
			return [said.replace(/\s+/g, " ").trim(), seen ? "" : "no outline"];
		})()`)
		if err != nil {
			b.t.Fatal(err)
		}
		if got == nil {
			continue // past the last: the browser's own buttons would be next
		}
		passed = append(passed, got[0])
		if got[0] == "" || got[1] != "" {
			b.t.Errorf("after %q the focus is on what has the name %q: %s", passed, got[0], got[1])
		}
		if got[0] == name {
			return
		}
	}
	b.t.Fatalf("Tab does not lead to %q, but past %q", name, passed)
}

// enter presses Enter, which leads to another page.
func (b *tab) enter() {
	b.t.Helper()
	b.follow(func() { b.key(kb.Enter) })
}

// TestKeyboard goes from the login to a test and a pause without a mouse.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	s := byro.begin(t)
	b := newTab(t, s.relay.base)
	b.visit(pages)
	b.key("a-wrong-token-of-the-right-length") // the field has the focus
	b.expect("status of 401")
	b.enter()
	b.seeIn("[role=alert]", "token")
	b.key(operatorToken)
	b.enter()
	b.see("Overview")
	b.tabTo("Skip to the content")
	b.key(kb.Enter)
	b.until("not skipped to", `document.activeElement.id === "content"`)
	b.visit(pages)
	b.tabTo("Endpoints")
	b.enter()
	b.tabTo("New endpoint")
	b.enter()
	b.tabTo("Name required")
	b.key("by-keyboard")
	b.tabTo("URL required")
	b.key(s.url())
	b.tabTo("Profile")
	b.key("byro")
	b.tabTo("pr.submitted PR submitted")
	b.key(" ")
	b.tabTo("Create endpoint")
	b.enter()
	b.see("The endpoint was created. This is its secret")
	s.receiver.knows(b.text(".secret pre"))
	b.tabTo("Copy the secret")
	b.key(kb.Enter)
	b.see("Copied")
	b.tabTo("I have copied it")
	b.enter()
	b.see("by-keyboard", "byro")
	b.tabTo("Pause")
	b.key(kb.Enter)
	b.tabTo("Why")
	b.key("by hand" + kb.Escape)
	b.until("the way out of the form", `document.activeElement.matches("summary") && !document.activeElement.parentElement.open`)
	b.tabTo("Send test")
	b.key(kb.Enter)
	b.seeIn("#test-result", "HTTP 200")
	if at := b.path(); at == pages {
		t.Errorf("the tab is at %s", at)
	}
	b.visit(b.path())
	b.tabTo("Pause")
	b.key(kb.Enter)
	b.tabTo("Why")
	b.key("by hand")
	b.enter()
	b.see("The endpoint is paused.", "by hand")
	b.tabTo("Log out")
	b.enter()
	if at := b.path(); at != login {
		t.Errorf("after the logout the tab is at %s", at)
	}
}

// TestPhone opens the pages on a phone: nothing is wider than the screen.
func TestPhone(t *testing.T) {
	t.Parallel()
	s := byro.begin(t)
	b := s.logIn(operatorToken)
	s.publish("pr.submitted", submitted)
	b.submit("Deliveries")
	b.see("pr.submitted")
	b.do("be a phone", chromedp.EmulateViewport(390, 844))
	b.visit(pages)
	b.press("Menu")
	links, err := eval[[]string](b, `[...document.querySelectorAll("nav.side a")].map((a) => a.pathname)`)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range append(links, pages+"/endpoints/new", pages+"/endpoints/acme-erp", pages+"/replays/new", pages+"/events/pr.submitted") {
		b.visit(link)
		wide, err := eval[int](b, `document.documentElement.scrollWidth`)
		if err != nil || wide > 390 {
			t.Errorf("%s is %d px wide: %v", link, wide, err)
		}
	}
	b.visit(pages)
	b.press("Menu")
	b.submit("Endpoints")
	b.see("acme-erp")
}
