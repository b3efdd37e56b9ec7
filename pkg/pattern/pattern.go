// Package pattern compiles regular expressions that users wrote. Their syntax is RE2's, which
// matches in linear time; what is bounded here is the memory that one takes.
package pattern

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"unicode/utf8"
)

// MaxSize bounds an expression with its repetitions written out, in characters and operators;
// MaxTotal bounds several that are kept together.
const (
	MaxSize  = 1000
	MaxTotal = 20_000
)

// Compile makes an expression of its text. The error says what is wrong with it.
func Compile(text string) (*regexp.Regexp, error) { return new(Budget).Compile(text) }

// Budget compiles expressions that are kept together. It is not safe for concurrent use.
type Budget struct{ spent int }

// Compile makes an expression of its text. The error says what is wrong with it, or that those
// before it have used up the budget.
func (b *Budget) Compile(text string) (*regexp.Regexp, error) {
	tooLarge := fmt.Errorf("is too large; with all its repetitions written out it may have %d characters", MaxSize)
	if utf8.RuneCountInString(text) > MaxSize {
		return nil, tooLarge
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("is no RE2 expression: %w", err)
	}
	n := size(parsed)
	if n > MaxSize {
		return nil, tooLarge
	}
	if b.spent += n; b.spent > MaxTotal {
		return nil, errors.New("is too large together with the other expressions; simplify them")
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("is no RE2 expression: %w", err)
	}
	return re, nil
}

// size counts what an expression becomes when its repetitions are written out, up to a little
// more than MaxSize.
func size(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	if re.Op == syntax.OpCharClass {
		n = 1
	}
	for _, sub := range re.Sub {
		n = min(n+size(sub), MaxSize+1)
	}
	if re.Op == syntax.OpRepeat {
		n = min(n*max(re.Min+1, re.Max), MaxSize+1)
	}
	return n
}
