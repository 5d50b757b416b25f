package browser

import (
	"testing"
)

// look has the tab hidden, or shown again, as far as its page can tell.
func (b *tab) look(hidden bool) {
	b.t.Helper()
	if _, err := eval[bool](b, `(() => {
		Object.defineProperty(document, "hidden", { configurable: true, value: %v });
		return document.dispatchEvent(new Event("visibilitychange"));
	})()`, hidden); err != nil {
		b.t.Fatal(err)
	}
}

// TestHiddenTabsLetTheirStreamGo holds that tabs that nobody looks at take none
// of the few connections that a browser has to a server.
func TestHiddenTabsLetTheirStreamGo(t *testing.T) {
	t.Parallel()
	s := byro.begin(t)
	b := s.logIn(operatorToken)
	b.visit(pages + "/deliveries")
	if _, err := eval[bool](b, `(() => {
		const Real = EventSource;
		window.streams = [];
		window.EventSource = class extends Real {
			constructor(...args) {
				super(...args);
				window.streams.push(this);
			}
		};
		return true;
	})()`); err != nil {
		t.Fatal(err)
	}
	const states = `JSON.stringify(window.streams.map((s) => s.readyState)) === %s`
	b.look(true)
	b.look(false)
	b.until("no stream once it is shown", states, "[1]")
	b.look(true)
	b.until("a stream of a hidden tab", states, "[2]")
	b.look(false)
	b.look(false)
	b.until("no stream once it is shown again", states, "[2,1]")
	s.publish("pr.submitted", `{"prId":"clx123"}`)
	b.seeIn("tbody", "pr.submitted")
	b.press("Stop")
	b.see("Stopped.")
	b.until("a stream that was stopped", states, "[2,2]")
	b.look(true)
	b.look(false)
	b.until("a stream that was stopped, and began again", states, "[2,2]")
}

// TestADoubleClickSendsAFormOnce holds that the second click is none.
func TestADoubleClickSendsAFormOnce(t *testing.T) {
	t.Parallel()
	s := byro.begin(t)
	b := s.logIn(operatorToken)
	b.visit(pages + "/endpoints/new")
	sent, err := eval[int](b, `(() => {
		let sent = 0;
		window.addEventListener("submit", (event) => {
			if (!event.defaultPrevented) sent++;
			event.preventDefault();
		});
		const button = document.querySelector("form.endpoint button[type=submit]");
		button.click();
		button.click();
		return sent;
	})()`)
	if err != nil || sent != 1 {
		t.Errorf("two clicks send the form %d times: %v", sent, err)
	}
	b.until("the button can be pressed still", `document.querySelector("form.endpoint button[type=submit]").disabled`)
}

// TestAFormOutlivesItsSession holds that what was written is not lost.
func TestAFormOutlivesItsSession(t *testing.T) {
	t.Parallel()
	s := byro.begin(t)
	b := s.logIn(operatorToken)
	b.visit(pages + "/endpoints/new")
	b.fill("Name", "half-filled")
	b.fill("URL", s.url())
	b.press("All events, those that come later too")
	if status := b.post(pages+"/logout", map[string]string{}); status >= 400 {
		t.Fatalf("logging out is answered %d", status)
	}
	b.expect("status of 401")
	b.fill("Tenant", "acme")
	b.see("Your session has ended.")
	b.look(true)
	if _, err := eval[bool](b, `fetch(%s, { method: "POST", body: new URLSearchParams({ token: %s }) }).then((answer) => answer.redirected)`, login, operatorToken); err != nil {
		t.Fatal(err)
	}
	b.look(false)
	b.until("the session is still over", `document.getElementById("form-problem").textContent === ""`)
	b.submit("Create endpoint")
	b.see("The endpoint was created", "half-filled")
}
