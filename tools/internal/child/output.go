//go:build unix

package child

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"
	"time"
)

const (
	// longestLine is how long a line of a child may be; a longer one comes in pieces.
	longestLine = 256 << 10
	// lastLines is how many lines are remembered for who asks what a child said last.
	lastLines = 12
	// outputGrace is how long the output of a dead child may stay open in the hands of its own children.
	outputGrace = time.Second
)

// output is what one child says, read line by line until its end.
type output struct {
	pipe  *os.File
	ready chan struct{} // closed by the first line that says so
	said  string        // that line, once ready is closed
	ended chan struct{}
	last  []string // once ended is closed
}

// listen reads a pipe; lines other than the first ready one are given to line.
func listen(pipe *os.File, ready func(string) bool, line func(string)) *output {
	o := &output{pipe: pipe, ready: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(o.ended)
		eachLine(pipe, func(text string) {
			if !o.saidReady() && ready(text) {
				o.said = text
				close(o.ready)
				return
			}
			if len(o.last) == lastLines {
				o.last = o.last[1:]
			}
			o.last = append(o.last, text)
			line(text)
		})
	}()
	return o
}

func (o *output) saidReady() bool {
	select {
	case <-o.ready:
		return true
	default:
		return false
	}
}

// drain reads what a dead child has left, closes the pipe and gives the last lines.
func (o *output) drain() []string {
	select {
	case <-o.ended:
	case <-time.After(outputGrace):
		_ = o.pipe.SetReadDeadline(time.Now())
		<-o.ended
	}
	_ = o.pipe.Close()
	return o.last
}

// eachLine gives what r holds without line ends and empty lines.
func eachLine(r io.Reader, give func(line string)) {
	in := bufio.NewReaderSize(r, longestLine)
	for {
		raw, err := in.ReadSlice('\n')
		if line := strings.TrimRight(string(raw), "\r\n"); line != "" {
			give(line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}
