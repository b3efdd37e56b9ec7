package compiled_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"turbocat.io/services/runner/internal/compiled"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestKeptWithinBounds(t *testing.T) {
	const most = 1 << 20
	compiles := map[string]int{}
	c := compiled.NewCache(most, func(text string) (int, error) {
		compiles[text]++
		return len(text), nil
	})
	text := func(i int) string { return fmt.Sprintf("%d ", i) + strings.Repeat("x", 60_000) }
	get := func(i int) {
		t.Helper()
		if n, err := c.Of(text(i)); n != len(text(i)) || err != nil {
			t.Fatalf("%d: %d, %v", i, n, err)
		}
	}
	for i := range 40 {
		get(i)
		get(0)
	}
	if n := compiles[text(0)]; n != 1 {
		t.Errorf("what is used was compiled %d times", n)
	}
	for i := range most/60_000 + 1 {
		get(100 + i)
	}
	get(0)
	if n := compiles[text(0)]; n != 2 {
		t.Errorf("what is not used was compiled %d times, want twice", n)
	}
	huge := strings.Repeat("y", most+1)
	for range 2 {
		if _, err := c.Of(huge); err != nil {
			t.Fatal(err)
		}
	}
	if compiles[huge] != 2 {
		t.Error("a text beyond the bound is kept")
	}
}

func TestErrorIsNotKept(t *testing.T) {
	fails := errors.New("no")
	err := fails
	c := compiled.NewCache(10, func(string) (int, error) { return 1, err })
	if _, got := c.Of("a"); !errors.Is(got, fails) {
		t.Fatal(got)
	}
	err = nil
	if n, got := c.Of("a"); n != 1 || got != nil {
		t.Errorf("%d, %v", n, got)
	}
}

func TestMadeByManyAtOnce(t *testing.T) {
	c := compiled.NewCache(1000, func(text string) (string, error) { return text + "!", nil })
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 1000 {
				text := fmt.Sprint((n * i) % 300)
				if got, _ := c.Of(text); got != text+"!" {
					t.Errorf("%q of %q", got, text)
				}
			}
		})
	}
	all.Wait()
}
