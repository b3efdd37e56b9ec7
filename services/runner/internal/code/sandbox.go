package code

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/runner/internal/code/frame"
	"turbocat.io/services/runner/internal/code/script"
	"turbocat.io/services/runner/internal/jail"
)

// sandboxWord makes a program a sandbox as the first argument.
const sandboxWord = "__turbocat_sandbox"

// levels are the levels of log lines as the first byte of a log frame.
var levels = map[byte]string{'D': "DEBUG", 'I': "INFO", 'W': "WARN", 'E': "ERROR"}

// Main makes this process a sandbox and never returns, if it was started as one; else it
// returns at once. It must be the first thing main does: what runs before it runs outside
// the jail and delays each attempt.
func Main() {
	jail.Main() // of Python
	if len(os.Args) < 2 || os.Args[1] != sandboxWord {
		return
	}
	os.Clearenv()
	if err := serve(os.Stdin, os.NewFile(3, "result")); err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		os.Exit(97) //nolint:forbidigo // this is the main of the sandbox process
	}
	os.Exit(0) //nolint:forbidigo // this is the main of the sandbox process
}

func serve(in io.Reader, out io.Writer) error {
	// A stack that outgrows this ends the process in a way that tells why.
	debug.SetMaxStack(64 << 20)
	// With garbage of at most half of the data, data of the size the config allows fit into
	// twice that; the rest is the collector's own. A limit that the collector knew of would
	// make it run all the time near it: code out of memory would end as out of time.
	debug.SetGCPercent(50)
	// What the start has left is given back, for this may wait for long, and is not collected while there is a job.
	debug.FreeOSMemory()
	cell, err := jail.Enter()
	if err != nil {
		return err
	}
	if err := frame.Write(out, frame.Ready, nil); err != nil {
		return err
	}
	frames := frame.NewReader(in, questions)
	limits, err := awaitLimits(frames)
	if err != nil {
		return fmt.Errorf("read the limits: %w", err)
	}
	if err := cell.Close(limits); err != nil {
		return err
	}
	if err := frame.Write(out, frame.Jailed, nil); err != nil {
		return err
	}
	job, err := readJob(frames)
	if err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	lines := 0
	output, fault := script.Run(job, func(level, message string) {
		// One more than is kept, so that the parent knows that some were not.
		if lines++; lines <= maxLines+1 {
			_ = frame.Write(out, frame.Log, append([]byte(level[:1]), message...))
		}
	}, network(frames, out))
	if fault == nil {
		return frame.Write(out, frame.Output, output)
	}
	body, err := json.Marshal(fault)
	return errors.Join(err, frame.Write(out, frame.Failure, body))
}

// limits are what the code of c may use.
func limits(c config) jail.Limits {
	memory := 2 * c.memoryMb << 20 // half of it is garbage that is not collected yet
	if c.runtime == catalog.RuntimePython {
		memory = c.memoryMb << 20
	}
	return jail.Limits{
		Memory:     memory,
		CPUSeconds: uint64(c.timeout.Seconds()) + 5, // the deadline is the parent's; this holds when the parent is stopped
	}
}

// maxContext is what the context of a job may take: most of it are a hundred secrets, escaped.
const maxContext = 64 << 20

// questions are the frames a sandbox is sent.
var questions = frame.Limits{
	frame.Allow: 100, frame.Context: maxContext, frame.File: maxFileName + 1 + catalog.MaxCodeSource, frame.Input: runner.MaxInput,
	frame.Response: headSize + maxResponseHead + script.MaxFetchBody,
}

func writeLimits(out io.Writer, limits jail.Limits) error {
	body, err := json.Marshal(limits)
	if err != nil {
		return err
	}
	return frame.Write(out, frame.Allow, body)
}

func awaitLimits(frames *frame.Reader) (limits jail.Limits, err error) {
	body, err := await(frames, frame.Allow)
	if err == nil {
		err = json.Unmarshal(body, &limits)
	}
	return limits, err
}

func writeJob(out io.Writer, job script.Job) error {
	head, err := json.Marshal(job)
	if err != nil {
		return err
	}
	if err := frame.Write(out, frame.Context, head); err != nil {
		return err
	}
	for _, f := range job.Files {
		if err := frame.Write(out, frame.File, slices.Concat([]byte(f.Name), []byte{0}, f.Text)); err != nil {
			return err
		}
	}
	return frame.Write(out, frame.Input, job.Input)
}

// readJob reads the frames of a job; Input is the last.
func readJob(frames *frame.Reader) (script.Job, error) {
	var job script.Job
	for {
		kind, body, err := frames.Next()
		if err != nil {
			return job, err
		}
		switch kind {
		case frame.Context:
			if err := json.Unmarshal(body, &job); err != nil {
				return job, err
			}
		case frame.File:
			name, text, _ := bytes.Cut(body, []byte{0})
			job.Files = append(job.Files, script.File{Name: string(name), Text: text})
		case frame.Input:
			job.Input = body
			return job, nil
		}
	}
}

// network is how code in this process fetches: the parent does.
func network(in *frame.Reader, out io.Writer) script.Network {
	return script.Network{
		Send: func(r script.Request) error {
			body, err := pack(r, r.Body)
			if err != nil {
				return err
			}
			return frame.Write(out, frame.Fetch, body)
		},
		Abort: func(id uint32) error { return frame.Write(out, frame.Abort, binary.BigEndian.AppendUint32(nil, id)) },
		Responses: func() <-chan script.Response {
			responses := make(chan script.Response)
			go func() {
				defer close(responses)
				for {
					body, err := await(in, frame.Response)
					if err != nil {
						return
					}
					var r script.Response
					if r.Body, err = unpack(body, &r); err != nil {
						return
					}
					responses <- r
				}
			}()
			return responses
		},
	}
}
