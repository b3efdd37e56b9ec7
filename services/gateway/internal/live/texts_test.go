package live

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/runner"
)

func TestTextsAreBounded(t *testing.T) {
	now := time.Now()
	texts := newTexts()
	f := texts.follow("last")
	big := strings.Repeat("x", 1<<20)
	for i := range 100 {
		texts.add(runner.Token{ExecutionID: fmt.Sprint("x", i), Text: big}, now)
	}
	for i := range 3 * maxCalls {
		texts.add(runner.Token{ExecutionID: "last", Iteration: i, Text: "y"}, now)
	}
	if texts.bytes > maxTexts || len(texts.known) >= 100 || texts.known["x0"] != nil || texts.known["x99"] == nil {
		t.Errorf("%d bytes of %d executions are kept", texts.bytes, len(texts.known))
	}
	if n := len(texts.unread(f)); n != maxCalls || len(texts.unread(f)) != 0 {
		t.Errorf("%d calls are told", n)
	}
	texts.leave(f)
	texts.forget(now.Add(runner.TokensKept + time.Second))
	if texts.bytes != 0 || len(texts.known) != 0 || texts.silent.Len() != 0 || len(texts.followers) != 0 {
		t.Errorf("%d bytes of %d executions are left", texts.bytes, len(texts.known))
	}
}

func TestWhatIsWrittenAnewIsToldAnew(t *testing.T) {
	now := time.Now()
	texts := newTexts()
	f := texts.follow("x")
	add := func(offset int, text string) {
		texts.add(runner.Token{ExecutionID: "x", Offset: offset, Text: text}, now)
	}
	expect := func(want string) {
		t.Helper()
		var got []string
		for _, token := range texts.unread(f) {
			got = append(got, fmt.Sprint(token.Offset, token.Text))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	add(0, "abcdef")
	add(6, "ghi")
	expect("0abcdefghi")
	add(12, "mno") // three bytes are lost
	expect("12mno")
	add(4, "E")
	expect("4E")
	add(5, "F")
	expect("5F")
	add(0, "A")
	add(1, "B")
	expect("0AB")
	if texts.bytes != 2+pieceBytes {
		t.Errorf("%d bytes are counted", texts.bytes)
	}
}
