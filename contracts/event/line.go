package event

import (
	"bytes"
	"iter"
	"strings"
)

// An event in binary mode has its headers in the body, in a line before the data: name=value each, ce-type first, a space between two and a
// line feed at the end. NATS servers and clients look a message's own headers through at every hop; this line they pass on as they do the data. Messages
// of earlier versions have headers of their own. What reads takes both.

// AppendHeader appends a header to the line that a body begins with.
func AppendHeader(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, '=')
	plain := 0
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c >= 0x7f || c == '%' {
			b = append(b, value[plain:i]...)
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
			plain = i + 1
		}
	}
	b = append(b, value[plain:]...)
	return append(b, ' ')
}

// EndHeaders ends a line that has a header at least; the data follows.
func EndHeaders(b []byte) []byte {
	b[len(b)-1] = '\n'
	return b
}

const hexDigits = "0123456789abcdef"

// Headers gives the headers of an event in binary mode and its data, which is part of body. own are those of its message.
// What is none has no headers, and is data as a whole. A header that is there twice is given twice.
func Headers(own map[string][]string, body []byte) (headers iter.Seq2[string, string], data []byte) {
	if len(own[HeaderType]) > 0 {
		return func(yield func(string, string) bool) {
			for name, values := range own {
				if len(values) > 0 && !yield(name, values[0]) {
					return
				}
			}
		}, body
	}
	line, data, found := bytes.Cut(body, []byte{'\n'})
	if !found || !bytes.HasPrefix(line, []byte(HeaderType+"=")) {
		return func(func(string, string) bool) {}, body
	}
	return lined(string(line)), data
}

// HeaderMap is Headers in a map, with what else the message has of its own.
func HeaderMap(own map[string][]string, body []byte) (headers map[string][]string, data []byte) {
	all, data := Headers(own, body)
	headers = map[string][]string{}
	for name, values := range own {
		headers[name] = values
	}
	for name, value := range all {
		headers[name] = []string{value}
	}
	return headers, data
}

func lined(line string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for rest, more := line, true; more; {
			var header string
			header, rest, more = strings.Cut(rest, " ")
			name, value, _ := strings.Cut(header, "=")
			if !yield(name, unescaped(value)) {
				return
			}
		}
	}
}

func unescaped(value string) string {
	if strings.IndexByte(value, '%') < 0 {
		return value
	}
	b := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		if value[i] == '%' && i+2 < len(value) {
			high, low := strings.IndexByte(hexDigits, value[i+1]), strings.IndexByte(hexDigits, value[i+2])
			if high >= 0 && low >= 0 {
				b = append(b, byte(high<<4|low))
				i += 2
				continue
			}
		}
		b = append(b, value[i])
	}
	return string(b)
}
