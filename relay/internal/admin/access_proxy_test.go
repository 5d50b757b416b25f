package admin

import (
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func proxied() AccessOptions {
	o := accessOptions(io.Discard)
	o.Tokens = nil
	o.Proxy = &Proxy{
		From:       []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8:1::/48")},
		UserHeader: "X-Forwarded-User", RoleHeader: "X-Forwarded-Role",
	}
	return o
}

func TestTheProxysUsersAreKnownByItsWordOnly(t *testing.T) {
	user := func(name, role string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Del("Authorization")
			r.Header.Set("X-Forwarded-User", name)
			if role != "" {
				r.Header.Set("X-Forwarded-Role", role)
			}
		}
	}
	from := func(address string, change func(*http.Request)) func(*http.Request) {
		return func(r *http.Request) { change(r); r.RemoteAddr = address }
	}
	cases := []struct {
		name   string
		change func(*http.Request)
		role   Role // of every user
		want   string
	}{
		{"a user", user("jane@corp", "operator"), 0, "proxy:jane@corp operator"},
		{"a user with a space", user("Jané Doe", "viewer"), 0, "proxy:Jané Doe viewer"},
		{"a user by IPv6", from("[2001:db8:1::9]:1", user("jane", "admin")), 0, "proxy:jane admin"},
		{"a user by IPv4 in IPv6", from("[::ffff:192.0.2.7]:1", user("jane", "admin")), 0, "proxy:jane admin"},
		{"a role for all", user("jane", ""), Viewer, "proxy:jane viewer"},
		{"a role above that for all", user("jane", "admin"), Viewer, "proxy:jane admin"},
		{"no role", user("jane", ""), 0, "403"},
		{"another role", user("jane", "root"), Viewer, "403"},
		{"two roles", func(r *http.Request) { user("jane", "viewer")(r); r.Header.Add("X-Forwarded-Role", "admin") }, 0, "403"},
		{"two users", func(r *http.Request) { user("jane", "viewer")(r); r.Header.Add("X-Forwarded-User", "joe") }, 0, "403"},
		{"no user", func(r *http.Request) { r.Header.Del("Authorization") }, Admin, "401"},
		{"an empty user", user("", "admin"), 0, "403"},
		{"a long user", user(strings.Repeat("x", 129), "admin"), 0, "403"},
		{"a user of two lines", user("jane\nroot", "admin"), 0, "403"},
		{"a user that is no text", user("\xff", "admin"), 0, "403"},
		{"from elsewhere", from("192.0.2.8:1", user("jane", "admin")), Admin, "401"},
		{"from elsewhere, as forwarded", from("192.0.2.8:1", func(r *http.Request) {
			user("jane", "admin")(r)
			r.Header.Set("X-Forwarded-For", "192.0.2.7")
		}), Admin, "401"},
		{"by another name of the header", func(r *http.Request) {
			r.Header.Del("Authorization")
			r.Header["X_Forwarded_User"] = []string{"jane"}
		}, Admin, "401"},
		{"a wrong token beside it", func(r *http.Request) { user("jane", "admin")(r); r.Header.Set("Authorization", "Bearer wrong") }, 0, "401"},
		{"its own password beside it", func(r *http.Request) { user("jane", "admin")(r); r.Header.Set("Authorization", "Basic amFuZTp4") }, 0, "proxy:jane admin"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := proxied()
			o.Proxy.Role = c.role
			who, denied := NewAccess(o).know(request("GET", "/api/v1/events", "", c.change))
			var got string
			if denied != nil {
				got = strconv.Itoa(denied.status)
			} else {
				got = who.Actor().Name + " " + who.Role.String()
			}
			if got != c.want {
				t.Errorf("known as %q, want %q: %+v", got, c.want, denied)
			}
		})
	}
}

func TestTheProxysUsersChangeNothingByOtherPages(t *testing.T) {
	o := proxied()
	a := NewAccess(o)
	b := newBrowser(t, a)
	b.change = func(r *http.Request) {
		r.Header.Set("X-Forwarded-User", "jane")
		r.Header.Set("X-Forwarded-Role", "admin")
	}
	b.wants(b.ask("POST", "/admin/webhooks/x", url.Values{"csrf": {"\x00"}}), 403, "CSRF")
	token := b.csrf()
	if len(token) < 40 || len(b.cookies) != 1 {
		t.Fatalf("the page has the token %q, and the cookies %v", token, b.cookies)
	}
	if again := b.csrf(); again != token {
		t.Errorf("the next page has another token: %q", again)
	}
	b.wants(b.ask("POST", "/admin/webhooks/x", url.Values{"csrf": {token}}), 200, "jane is admin (proxy)")
	b.wants(b.ask("POST", "/admin/webhooks/x", nil), 403, "CSRF")
	as := b.change
	b.change = func(r *http.Request) { as(r); r.Header.Set("X-Forwarded-User", "joe") }
	b.wants(b.ask("POST", "/admin/webhooks/x", url.Values{"csrf": {token}}), 403, "CSRF")
	api, err := NewAPI(APIOptions{Control: &fakeControl{}, Access: a, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	pause := func(change func(*http.Request)) int {
		r := request("POST", "/api/v1/endpoints/e/pause", "", as)
		r.Header.Del("Authorization")
		r.AddCookie(&http.Cookie{Name: "posthorn-csrf", Value: b.cookies["posthorn-csrf"]})
		change(r)
		return answerOf(api, r).Code
	}
	if without, with := pause(func(*http.Request) {}), pause(header("X-Csrf-Token", token)); without != 403 || with != 200 {
		t.Errorf("the API answers %d without the token, %d with it", without, with)
	}
}

func TestTheProxysUsersComeInToTheAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := proxied()
		o.Proxy.Role = Viewer
		a := NewAccess(o)
		ask := func(user string) {
			if _, denied := a.know(request("GET", "/api/v1/events", "", func(r *http.Request) {
				r.Header.Del("Authorization")
				r.Header.Set("X-Forwarded-User", user)
			})); denied != nil {
				t.Errorf("%s: %+v", user, denied)
			}
		}
		for range 3 {
			ask("jane")
			time.Sleep(arrivedFor - time.Second)
		}
		ask("jo")
		time.Sleep(time.Second)
		ask("jane")
		want := []string{"login proxy:jane jane ", "login proxy:jo jo ", "login proxy:jane jane "}
		if got := o.Sessions.(*fakeSessions).audit; !slices.Equal(got, want) {
			t.Errorf("the audit has %q", got)
		}
		for i := range 2 * maxArrivals {
			ask(strconv.Itoa(i))
		}
		if n := len(a.arrived.seen); n != maxArrivals {
			t.Errorf("%d users are remembered", n)
		}
	})
}

func TestAddressesAreOfTheProxysWordOrTheConnection(t *testing.T) {
	p := proxied().Proxy
	for _, c := range []struct{ remote, forwarded, want string }{
		{"192.0.2.8:1", "", "192.0.2.8"},
		{"192.0.2.8:1", "203.0.113.1", "192.0.2.8"},
		{"192.0.2.7:1", "203.0.113.1", "203.0.113.1"},
		{"192.0.2.7:1", "198.51.100.9, 203.0.113.1", "203.0.113.1"},
		{"192.0.2.7:1", "198.51.100.9, 203.0.113.1, 192.0.2.7", "203.0.113.1"},
		{"192.0.2.7:1", "203.0.113.1, unknown", "192.0.2.7"},
		{"192.0.2.7:1", "203.0.113.1, <script>", "192.0.2.7"},
		{"192.0.2.7:1", "", "192.0.2.7"},
		{"192.0.2.7:1", "[2001:db8::1]:8", "2001:db8::1"},
		{"[2001:db8:1::1]:1", "::ffff:203.0.113.1", "203.0.113.1"},
		{"@", "203.0.113.1", "@"},
	} {
		r := request("GET", "/", "", nil)
		r.RemoteAddr = c.remote
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := p.clientOf(r); got != c.want {
			t.Errorf("%s for %q is %q, want %q", c.remote, c.forwarded, got, c.want)
		}
	}
}
