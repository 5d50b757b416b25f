package admin

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How many wrong tokens an address may try, and how many addresses are
// remembered: past that the one that was wrong longest ago is forgotten.
const (
	guessBurst   = 10
	guessEvery   = 10 * time.Second // one more
	maxGuessers  = 1024
	maxRight     = 1024 // right tokens with their addresses that are remembered
	sameMistakes = 4    // wrong tokens of an address that count once only
)

// guesses bounds how fast tokens can be guessed. It is safe for concurrent use.
type guesses struct {
	mu    sync.Mutex
	by    map[netip.Prefix]*guesser
	known map[rightToken]time.Time // when it was last sent
}

// rightToken is a token that was right from an address.
type rightToken struct {
	from netip.Prefix
	hash [sha256.Size]byte
}

// guesser is one address, or an IPv6 network that one machine may have.
type guesser struct {
	left   *rate.Limiter
	recent [sameMistakes][sha256.Size]byte // a program that was not told of a new token is no guesser
	next   int                             // which of recent is replaced
	last   time.Time
}

func newGuesses() *guesses {
	return &guesses{by: make(map[netip.Prefix]*guesser), known: make(map[rightToken]time.Time)}
}

// guesserOf returns under what an address, with or without port, is remembered.
func guesserOf(from string) netip.Prefix {
	ip := addressOf(from)
	if !ip.IsValid() {
		return netip.Prefix{} // of no network that Go listens on; all of them together
	}
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

// wait returns for how long an address is not listened to.
func (g *guesses) wait(from netip.Prefix) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	who := g.by[from]
	if who == nil {
		return 0
	}
	left := who.left.TokensAt(time.Now())
	if left >= 1 {
		return 0
	}
	return time.Duration((1 - left) * float64(guessEvery))
}

// right remembers a right token: who guesses on from the address learns nothing
// by it.
func (g *guesses) right(from netip.Prefix, hash [sha256.Size]byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	token := rightToken{from, hash}
	if _, ok := g.known[token]; !ok && len(g.known) >= maxRight {
		delete(g.known, oldest(g.known, func(at time.Time) time.Time { return at }))
	}
	g.known[token] = time.Now()
}

// wasRight reports whether a token was right from an address before.
func (g *guesses) wasRight(from netip.Prefix, hash [sha256.Size]byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.known[rightToken{from, hash}]
	return ok
}

// wrong counts a wrong token, unless it is one that the address tried lately: then
// it returns false.
func (g *guesses) wrong(from netip.Prefix, hash [sha256.Size]byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	who := g.by[from]
	if who == nil {
		if len(g.by) >= maxGuessers {
			delete(g.by, oldest(g.by, func(who *guesser) time.Time { return who.last }))
		}
		who = &guesser{left: rate.NewLimiter(rate.Every(guessEvery), guessBurst)}
		g.by[from] = who
	}
	who.last = time.Now()
	if slices.Contains(who.recent[:], hash) {
		return false
	}
	who.recent[who.next] = hash
	who.next = (who.next + 1) % sameMistakes
	who.left.AllowN(who.last, 1)
	return true
}

// oldest returns the key of what was last used longest ago.
func oldest[K comparable, V any](all map[K]V, last func(V) time.Time) (found K) {
	var at time.Time
	for key, v := range all {
		if used := last(v); at.IsZero() || used.Before(at) {
			found, at = key, used
		}
	}
	return found
}
