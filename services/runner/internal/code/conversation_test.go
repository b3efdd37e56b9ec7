package code

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"turbocat.io/contracts/runner"
	"turbocat.io/services/runner/internal/code/frame"
	"turbocat.io/services/runner/internal/code/script"
	"turbocat.io/services/runner/internal/jail"
)

func frames(t testing.TB, parts ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, part := range parts {
		if err := frame.Write(&out, frame.Kind(part[0]), []byte(part[1:])); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// noCalls are those of code that may reach nobody.
func noCalls(t testing.TB) *calls {
	c := newCalls(t.Context(), nil, nil, func() bool { return true }, func() {}, io.Discard)
	t.Cleanup(c.wait)
	return c
}

func TestConverseBelievesNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		sent []byte
		want error
	}{
		"nothing":           {nil, io.EOF},
		"only logs":         {frames(t, "LIa", "LWb"), io.EOF},
		"no JSON":           {frames(t, "O{"), frame.ErrBroken},
		"large output":      {frames(t, "O"+strings.Repeat("1", runner.MaxOutput+1)), frame.ErrBroken},
		"long line":         {frames(t, "LI"+strings.Repeat("x", script.MaxLine+1)), frame.ErrBroken},
		"no level":          {frames(t, "L"), frame.ErrBroken},
		"unknown level":     {frames(t, "LXx"), frame.ErrBroken},
		"ready twice":       {frames(t, "R"), frame.ErrBroken},
		"frame of a job":    {frames(t, "Sx"), frame.ErrBroken},
		"code of an engine": {frames(t, `F{"code":"CANCELLED","message":"x"}`), frame.ErrBroken},
		"failure no JSON":   {frames(t, "F["), frame.ErrBroken},
		"cut header":        {frames(t, "O1")[:3], frame.ErrBroken},
		"cut body":          {frames(t, "O123")[:6], frame.ErrBroken},
		"endless lines":     {bytes.Repeat(frames(t, "LIa"), maxLines+2), frame.ErrBroken},
	} {
		t.Run(name, func(t *testing.T) {
			seen := &lines{}
			output, err := converse(frame.NewReader(bytes.NewReader(tc.sent), answers), seen.log, noCalls(t))
			if output != nil || !errors.Is(err, tc.want) {
				t.Fatalf("got %s, %v, wanted %v", output, err, tc.want)
			}
		})
	}
}

func TestConverseHandsOn(t *testing.T) {
	seen := &lines{}
	sent := frames(t, "LDone", "LE\xfftwo", `O{"a":1}`, "Onever read")
	output, err := converse(frame.NewReader(bytes.NewReader(sent), answers), seen.log, noCalls(t))
	if err != nil || string(output) != `{"a":1}` {
		t.Fatalf("got %s, %v", output, err)
	}
	if got := strings.Join(seen.seen, "|"); got != "DEBUG console one|ERROR console \uFFFDtwo" {
		t.Fatalf("got lines %q", got)
	}
	_, err = converse(frame.NewReader(bytes.NewReader(frames(t, `F{"code":"CODE_ERROR","message":"m","stepKey":"forged","retryable":true}`)), answers), seen.log, noCalls(t))
	if got := fault(t, err); *got != (runner.StepError{Code: runner.CodeError, Message: "m", Retryable: true}) {
		t.Fatalf("got %+v", got)
	}
}

func FuzzConverse(f *testing.F) {
	f.Add(frames(f, "LIhello", "O1"))
	f.Add(frames(f, `F{"code":"CODE_ERROR","message":"m"}`))
	f.Add(frames(f, "R", "LX", "C")[:9])
	f.Fuzz(func(t *testing.T, sent []byte) {
		seen := &lines{}
		output, err := converse(frame.NewReader(bytes.NewReader(sent), answers), seen.log, noCalls(t))
		if (err == nil) != (output != nil) {
			t.Fatalf("got output %q with error %v", output, err)
		}
		if err == nil && !json.Valid(output) {
			t.Fatalf("output %q is no JSON", output)
		}
		if len(seen.seen) > maxLines+1 {
			t.Fatalf("%d lines", len(seen.seen))
		}
	})
}

func TestCrash(t *testing.T) {
	for stderr, want := range map[string]string{
		"fatal error: runtime: out of memory":                           runner.CodeMemoryLimit,
		"fatal error: runtime: cannot allocate memory":                  runner.CodeMemoryLimit,
		"runtime: goroutine stack exceeds\nfatal error: stack overflow": runner.CodeError,
		"": "",
		"SIGSEGV: segmentation violation\nPC=0x4390bd m=3 sigcode=1 addr=0x0": runner.CodeMemoryLimit,
		"panic: runtime error: invalid memory address or nil pointer":         "",
	} {
		err := crash(io.EOF, jail.Exit{Reason: "exit status 2", Stderr: stderr})
		var fault *runner.StepError
		if errors.As(err, &fault) != (want != "") || fault != nil && fault.Code != want {
			t.Errorf("%q: got %v, wanted code %q", stderr, err, want)
		}
	}
}
