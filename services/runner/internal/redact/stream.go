package redact

import "strings"

// Stream takes secrets out of a text that comes in pieces, and holds back what may be the beginning of one until more of it, or
// the end, has come. It belongs to one goroutine at a time.
type Stream struct {
	redactor *Redactor
	held     string
}

// Stream makes a stream of a text of its own. The redactor must not be nil.
func (r *Redactor) Stream() *Stream { return &Stream{redactor: r} }

// Next takes a piece and gives what may be told by now.
func (s *Stream) Next(piece string) string {
	text := s.held + piece
	open := s.redactor.open(text)
	at := s.redactor.before(text, open)
	out := s.redactor.mask(text[:at], false)
	if len(text)-at > 2*len(s.redactor.forms[0])+len(piece) { // secrets that overlap without an end; none of them is told
		out, at = out+Mask, open
	}
	s.held = text[at:]
	return out
}

// Rest gives what is left at the text's end. The larger part of a secret goes too, for the text may have been cut.
func (s *Stream) Rest() string {
	rest := s.held
	s.held = ""
	return s.redactor.mask(rest, true)
}

// open gives where the longest end of s begins that a secret may go on from; len(s) for nowhere.
func (r *Redactor) open(s string) int {
	at := len(s)
	for _, form := range r.forms {
		for i := max(0, len(s)-len(form)+1); i < at; i++ {
			next := strings.IndexByte(s[i:at], form[0])
			if next < 0 {
				break
			}
			if i += next; strings.HasPrefix(form, s[i:]) {
				at = i
			}
		}
	}
	return at
}

// before gives the last place up to at that no secret stands across.
func (r *Redactor) before(s string, at int) int {
	for moved := true; moved; {
		moved = false
		for _, form := range r.forms {
			for _, found := range spansOf(s, form, false) {
				if found.from < at && at < found.to {
					at, moved = found.from, true
				}
			}
		}
	}
	return at
}
