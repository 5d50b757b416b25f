package transforms

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// appending returns a transform that adds to the payload, an array without
// its closing bracket.
func appending(text string) Transform {
	return Each(func(_ context.Context, m *Message) error {
		m.Payload = []byte(string(m.Payload) + text)
		return nil
	})
}

func TestChainsHoldTheRulesOfATypeInTheirOrder(t *testing.T) {
	chains := NewChains([]Rule{
		{Name: "0", Match: []string{"*"}, Transform: appending("0")},
		{Name: "1", Match: []string{"pr.*"}, Transform: appending("1"), Parallel: 4},
		{Name: "2", Match: []string{"order.created", "pr.submitted"}, Transform: appending("2"), Parallel: 2},
		{Name: "3", Match: []string{"posthorn.*"}, Transform: appending("3")},
	})
	tests := []struct {
		eventType, want string
		parallel        int
	}{
		{"pr.submitted", "012", 4},
		{"pr.closed", "01", 4},
		{"pr.line.added", "01", 4},
		{"pr", "0", 0},
		{"pr.", "0", 0},
		{"order.created", "02", 2},
		{"order.created.twice", "0", 0},
		{"", "0", 0},
		{"posthorn.test", "3", 0},
		{"posthorn", "0", 0},
	}
	for _, tt := range tests {
		t.Run(tt.eventType, func(t *testing.T) {
			chain := chains.For(tt.eventType)
			m := &Message{}
			if chain == nil || !chain.Apply(t.Context(), []*Message{m}) || m.Err != nil {
				t.Fatalf("got %v, %v", chain, m.Err)
			}
			if string(m.Payload) != tt.want || chain.Parallel() != tt.parallel {
				t.Errorf("got %s by %d, want %s by %d", m.Payload, chain.Parallel(), tt.want, tt.parallel)
			}
			if again := chains.For(tt.eventType); again != chain {
				t.Error("got another chain the second time")
			}
		})
	}
	if chains.For("pr.closed") != chains.For("pr.line.added") || chains.For("pr") != chains.For("none") {
		t.Error("types with the same rules have different chains")
	}
}

func TestChainsWithoutRules(t *testing.T) {
	if got := NewChains(nil).For("a"); got != nil {
		t.Errorf("without rules: got %v, want nil", got)
	}
	if got := NewChains([]Rule{{Match: []string{"a"}}}).For("b"); got != nil {
		t.Errorf("without one that matches: got %v, want nil", got)
	}
}

func TestChainsRememberFewTypes(t *testing.T) {
	chains := NewChains([]Rule{{Match: []string{"*"}}, {Match: []string{"t.7"}}})
	for i := range 3 * maxTypes {
		chains.For(fmt.Sprintf("t.%d", i))
	}
	long := "t." + strings.Repeat("x", maxType)
	if chains.For(long) != chains.For("t.1") {
		t.Error("a long type has another chain")
	}
	if got := len(chains.byType); got > maxTypes {
		t.Errorf("%d types are remembered, at most %d shall be", got, maxTypes)
	}
	if got := len(chains.same); got != 2 {
		t.Errorf("there are %d different chains, want 2", got)
	}
	if _, ok := chains.byType[long]; ok {
		t.Error("a type longer than the outbox has them is remembered")
	}
}

// transformFunc is a transform of whole batches.
type transformFunc func(ctx context.Context, batch []*Message)

func (f transformFunc) Transform(ctx context.Context, batch []*Message) { f(ctx, batch) }

// batchOf returns messages with the payloads that are given.
func batchOf(payloads ...string) []*Message {
	batch := make([]*Message, len(payloads))
	for i, p := range payloads {
		batch[i] = &Message{Payload: []byte(p)}
	}
	return batch
}

// outcomes returns what became of each message.
func outcomes(batch []*Message) []string {
	texts := make([]string, len(batch))
	for i, m := range batch {
		switch {
		case m.Err != nil:
			texts[i] = "error: " + m.Err.Error()
		case m.Skipped != "":
			texts[i] = "skipped: " + m.Skipped
		default:
			texts[i] = string(m.Payload)
		}
	}
	return texts
}

func TestErrorsAndSkipsNameTheRuleAndStopTheirMessage(t *testing.T) {
	final, later := errors.New("final"), errors.New("later")
	judge := Each(func(_ context.Context, m *Message) error {
		switch string(m.Payload) {
		case "e":
			return final
		case "r":
			return Retryable(later)
		case "s":
			m.Skipped = "no use"
		}
		return nil
	})
	var sizes []int
	counting := transformFunc(func(_ context.Context, batch []*Message) { sizes = append(sizes, len(batch)) })
	chain := NewChains([]Rule{
		{Name: "transforms[0] (count)", Match: []string{"*"}, Transform: counting},
		{Name: "transforms[1] (judge)", Match: []string{"*"}, Transform: judge},
		{Name: "transforms[2] (count)", Match: []string{"*"}, Transform: counting},
		{Name: "transforms[3] (append)", Match: []string{"*"}, Transform: appending("!")},
	}).For("a")

	batch := batchOf("a", "e", "s", "b", "r")
	if !chain.Apply(t.Context(), batch) {
		t.Fatal("got false")
	}
	want := []string{"a!", "error: transforms[1] (judge): final", "skipped: transforms[1] (judge): no use", "b!", "error: transforms[1] (judge): later"}
	if got := outcomes(batch); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if !errors.Is(batch[1].Err, final) || IsRetryable(batch[1].Err) || !errors.Is(batch[4].Err, later) || !IsRetryable(batch[4].Err) {
		t.Errorf("got %v and %v", batch[1].Err, batch[4].Err)
	}
	chain.Apply(t.Context(), batchOf("e", "s"))
	if want := []int{5, 2, 2}; !reflect.DeepEqual(sizes, want) {
		t.Errorf("batches had %v messages, want %v: nothing is called when none is left", sizes, want)
	}
}

func TestPanicsBecomeErrors(t *testing.T) {
	t.Run("of one message", func(t *testing.T) {
		panicking := Each(func(_ context.Context, m *Message) error {
			if string(m.Payload) == secret {
				panic("it was " + secret)
			}
			return nil
		})
		batch := batchOf("a", secret, "b")
		NewChains([]Rule{{Name: "r", Match: []string{"*"}, Transform: panicking}}).For("a").Apply(t.Context(), batch)
		if got, want := outcomes(batch), []string{"a", "error: r: it panicked", "b"}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		var panicked *PanicError
		if !errors.As(batch[1].Err, &panicked) || panicked.Value != "it was "+secret || !strings.Contains(string(panicked.Stack), "chain_test.go") {
			t.Errorf("got %+v", panicked)
		}
	})
	t.Run("of a batch", func(t *testing.T) {
		panicking := transformFunc(func(_ context.Context, batch []*Message) {
			batch[0].Err = errors.New("known")
			batch[1].Skipped = "known"
			panic(errors.New(secret))
		})
		batch := batchOf("a", "b", "c")
		NewChains([]Rule{{Name: "r", Match: []string{"*"}, Transform: panicking}}).For("a").Apply(t.Context(), batch)
		if got, want := outcomes(batch), []string{"error: r: known", "skipped: r: known", "error: r: it panicked"}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestWhatIsLeftWhenTheContextEndsIsRetryable(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ending := Each(func(_ context.Context, m *Message) error {
		if string(m.Payload) == "b" {
			cancel()
		}
		return nil
	})
	batch := batchOf("a", "b", "c")
	NewChains([]Rule{{Name: "r", Match: []string{"*"}, Transform: ending}}).For("a").Apply(ctx, batch)
	if got, want := outcomes(batch), []string{"a", "b", "error: r: context canceled"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !IsRetryable(batch[2].Err) || !errors.Is(batch[2].Err, context.Canceled) {
		t.Errorf("got %v, want it retryable", batch[2].Err)
	}
}

func TestRetireWaitsForApply(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	ran := 0
	chains := NewChains([]Rule{{Match: []string{"*"}, Transform: transformFunc(func(context.Context, []*Message) {
		ran++
		close(started)
		<-finish
	})}})
	chain := chains.For("a")

	var events []string
	var mu sync.Mutex
	note := func(event string) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, event)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if !chain.Apply(t.Context(), batchOf("a")) {
			t.Error("the Apply that ran when the chains were retired got false")
		}
	})
	<-started
	wg.Go(func() {
		chains.Retire()
		note("retired")
	})
	for !chains.isRetired() { // then Retire has begun, and waits
		runtime.Gosched()
	}
	if chain.Apply(t.Context(), batchOf("b")) || chains.For("c").Apply(t.Context(), nil) {
		t.Error("a later Apply got true")
	}
	note("finish")
	close(finish)
	wg.Wait()
	if want := []string{"finish", "retired"}; !reflect.DeepEqual(events, want) || ran != 1 {
		t.Errorf("got %q after %d calls, want %q after 1", events, ran, want)
	}
	chains.Retire()
}

func (c *Chains) isRetired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.retired
}

func TestChainsAreSafeForConcurrentUse(t *testing.T) {
	chains := NewChains([]Rule{{Match: []string{"*"}, Transform: appending("1")}, {Match: []string{"t.1"}, Transform: appending("2")}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 2000 {
				eventType, want := fmt.Sprintf("t.%d", i%3), "1"
				if i%3 == 1 {
					want = "12"
				}
				batch := batchOf("")
				if !chains.For(eventType).Apply(context.Background(), batch) {
					return // retired
				}
				if got := string(batch[0].Payload); got != want {
					t.Errorf("%s: got %s, want %s", eventType, got, want)
				}
			}
		})
	}
	wg.Go(chains.Retire)
	wg.Wait()
}

func TestMatchesType(t *testing.T) {
	tests := []struct {
		patterns  []string
		eventType string
		want      bool
	}{
		{nil, "a", false},
		{[]string{"a"}, "a", true},
		{[]string{"a"}, "a.b", false},
		{[]string{"a.*"}, "a.b", true},
		{[]string{"a.*"}, "a.b.c", true},
		{[]string{"a.*"}, "a", false},
		{[]string{"a.*"}, "a.", false},
		{[]string{"a.*"}, "ab.c", false},
		{[]string{"b", "c", "a.*"}, "a.b", true},
		{[]string{"*"}, "a", true},
		{[]string{"*"}, "posthorn.test", false},
		{[]string{"*", "posthorn.*"}, "posthorn.test", true},
		{[]string{"posthorn.test"}, "posthorn.test", true},
	}
	for _, tt := range tests {
		if got := MatchesType(tt.patterns, tt.eventType); got != tt.want {
			t.Errorf("%q, %q: got %t, want %t", tt.patterns, tt.eventType, got, tt.want)
		}
	}
}

func TestSetTypeChangesObjectAndAction(t *testing.T) {
	m := message(`1`)
	m.SetType("v2.order.made")
	if m.Event.Type != "v2.order.made" || m.Event.Object != "v2.order" || m.Event.Action != "made" || m.Committed != "order.created" {
		t.Errorf("got %+v", m)
	}
}
