package redact

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// told gives what a stream tells of a text that comes in pieces of these lengths, and the rest as the last.
func told(r *Redactor, text string, cuts ...int) []string {
	s := r.Stream()
	var out []string
	for _, n := range cuts {
		out = append(out, s.Next(text[:n]))
		text = text[n:]
	}
	return append(out, s.Next(text), s.Rest())
}

func TestStreamHoldsBackBeginnings(t *testing.T) {
	r := New(map[string]string{"KEY": "hunter2-swordfish"})
	for name, c := range map[string]struct {
		text string
		cuts []int
		want []string
	}{
		"nothing of it":          {"it is, well", []int{3}, []string{"it ", "is, well", ""}},
		"whole in a piece":       {"is hunter2-swordfish.", []int{3}, []string{"is ", "***.", ""}},
		"over two pieces":        {"is hunter2-swordfish.", []int{7}, []string{"is ", "***.", ""}},
		"letter by letter":       {"xhunter", []int{1, 1, 1, 1}, []string{"x", "", "", "", "", "hunter"}},
		"another word after all": {"hunter3 here", []int{6}, []string{"", "hunter3 here", ""}},
		"cut at its end":         {"it is hunter2-swordfi", []int{9}, []string{"it is ", "", "***"}},
		"as base64":              {"a aHVudGVyMi1zd29yZGZpc2g= b", []int{9}, []string{"a ", "***g= b", ""}},
	} {
		if got := told(r, c.text, c.cuts...); strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%s: told %q, want %q", name, got, c.want)
		}
	}
}

// TestStreamTellsNoSecret cuts texts full of secrets, whole, encoded and overlapping, by chance.
func TestStreamTellsNoSecret(t *testing.T) {
	secrets := map[string]string{"A": "abcabcabd", "B": "cabdxyz€", "C": "aaaa", "D": `q"<w>` + "\n"}
	r := New(secrets)
	words := append([]string{"abcab", "a", "aa", "cabd", "€", " ", "lorem", `\`}, r.forms...)
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var text strings.Builder
		for range 1 + random.IntN(6) {
			text.WriteString(words[random.IntN(len(words))])
		}
		var cuts []int
		for left := []rune(text.String()); len(left) > 0; {
			n := 1 + random.IntN(len(left))
			cuts = append(cuts, len(string(left[:n])))
			left = left[n:]
		}
		got := strings.Join(told(r, text.String(), cuts...), "")
		for _, form := range r.forms {
			if strings.Contains(got, form) {
				t.Fatalf("%q in pieces of %v was told as %q, which has %q", text.String(), cuts, got, form)
			}
		}
		if !strings.Contains(got, Mask) && got != text.String() {
			t.Fatalf("%q in pieces of %v became %q", text.String(), cuts, got)
		}
	}
}

// TestStreamOfOverlapsHoldsLittle has a secret overlap itself without an end.
func TestStreamOfOverlapsHoldsLittle(t *testing.T) {
	s := New(map[string]string{"A": "aaaa"}).Stream()
	for range 10_000 {
		if out := s.Next("a"); strings.Contains(out, "aaaa") {
			t.Fatalf("told %q", out)
		}
		if len(s.held) > 100 {
			t.Fatalf("%d bytes are held", len(s.held))
		}
	}
}
