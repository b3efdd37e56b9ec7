// Package frame is the wire between a sandbox and the process that started it: a kind, a
// length and a body. Each side says how long a body of each kind may be, and believes
// nothing else of the other.
package frame

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Kind says what the body of a frame is.
type Kind byte

// A sandbox says Ready, is sent Allow, says Jailed, is sent Context, each File and Input,
// says Log any number of times and ends with Output or Failure. Meanwhile it may say Fetch,
// and is sent Response for each; Abort asks for that Response at once.
const (
	Ready   Kind = 'R' // no body: all that needs no job is done
	Allow   Kind = 'A' // how much memory and CPU time: a jail.Limits as JSON
	Jailed  Kind = 'J' // no body: the jail is closed
	Context Kind = 'C'
	File    Kind = 'S' // its name, NUL, its text
	Input   Kind = 'I'
	Log     Kind = 'L'
	Output  Kind = 'O'
	Failure Kind = 'F'

	Fetch    Kind = 'Q' // a head as JSON, behind its length in 4 bytes, and a body
	Response Kind = 'P' // the same
	Abort    Kind = 'X' // the number of a Fetch in 4 bytes
)

const headerSize = 5

// ErrBroken is what every frame that breaks the rules ends as.
var ErrBroken = errors.New("broken frame")

// small is the longest body that is copied behind its header, so that a frame is one call of w.
const small = 64 << 10

// Write writes one frame. It is not safe for concurrent use.
func Write(w io.Writer, kind Kind, body []byte) error {
	header := make([]byte, headerSize, headerSize+min(len(body), small))
	header[0] = byte(kind)
	binary.BigEndian.PutUint32(header[1:], uint32(len(body)))
	if len(body) <= small {
		_, err := w.Write(append(header, body...))
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}

// Limits are the kinds that may come, each with the longest body it may have.
type Limits map[Kind]int

// Reader reads frames. It is not safe for concurrent use.
type Reader struct {
	in     *bufio.Reader
	limits Limits
}

// NewReader gives a Reader of in that lets through what limits allow.
func NewReader(in io.Reader, limits Limits) *Reader {
	return &Reader{in: bufio.NewReader(in), limits: limits}
}

// Next gives the next frame; the body is the caller's. It gives io.EOF at the end between
// two frames, and an error that wraps ErrBroken for a frame that is cut, unknown or too long.
func (r *Reader) Next() (Kind, []byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r.in, header[:]); err != nil {
		return 0, nil, cut(err)
	}
	kind, size := Kind(header[0]), binary.BigEndian.Uint32(header[1:])
	limit, known := r.limits[kind]
	if !known {
		return 0, nil, fmt.Errorf("%w: kind %q is not expected here", ErrBroken, byte(kind))
	}
	if int64(size) > int64(limit) {
		return 0, nil, fmt.Errorf("%w: kind %q has %d bytes, more than %d", ErrBroken, byte(kind), size, limit)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r.in, body); err != nil {
		return 0, nil, fmt.Errorf("%w: kind %q is cut: %w", ErrBroken, byte(kind), err)
	}
	return kind, body, nil
}

func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the header is cut", ErrBroken)
	}
	return err
}
