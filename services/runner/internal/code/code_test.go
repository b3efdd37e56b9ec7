package code

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"turbocat.io/contracts/runner"
	"turbocat.io/services/runner/internal/executor"
	"turbocat.io/services/runner/internal/jail"
)

var _ executor.Interface = (*Executor)(nil)

func newExecutor(t testing.TB) *Executor {
	t.Helper()
	e, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Available(); err != nil {
		t.Fatalf("this host can not jail code: %v", err)
	}
	return e
}

// lines collects log lines as "LEVEL source message".
type lines struct {
	mu   sync.Mutex
	seen []string
	on   func(line string)
}

func (l *lines) log(level, source, message string) {
	line := level + " " + source + " " + message
	l.mu.Lock()
	l.seen = append(l.seen, line)
	l.mu.Unlock()
	if l.on != nil {
		l.on(line)
	}
}

func task(source string, change func(config map[string]any)) executor.Task {
	config := map[string]any{"runtime": "javascript", "source": source}
	if change != nil {
		change(config)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		panic(err)
	}
	return executor.Task{
		ExecutionID: "e1", StepKey: "sum", Attempt: 2, IdempotencyKey: "e1:sum",
		Config: raw, Input: json.RawMessage(`{"n":20,"list":[1,2,3],"big":1e400}`),
		Log: (&lines{}).log, Ours: func() bool { return true },
	}
}

func timeoutMs(n int) func(map[string]any) {
	return func(c map[string]any) { c["timeoutMs"] = n }
}

func memoryMb(n int) func(map[string]any) {
	return func(c map[string]any) { c["memoryMb"] = n }
}

func files(runtime string, files map[string]string) func(map[string]any) {
	return func(c map[string]any) {
		delete(c, "source")
		c["runtime"], c["files"] = runtime, files
	}
}

// large gives an agent what it needs for the largest inputs and outputs, on any machine.
func large(c map[string]any) { c["memoryMb"], c["timeoutMs"] = maxMemoryMb, 600_000 }

func fault(t *testing.T, err error) *runner.StepError {
	t.Helper()
	var fault *runner.StepError
	if !errors.As(err, &fault) {
		t.Fatalf("got error %v, wanted a StepError", err)
	}
	return fault
}

func TestOutput(t *testing.T) {
	e := newExecutor(t)
	keepWarm(t, e, 2)
	for name, tc := range map[string]struct{ source, want string }{
		"sum":            {`function handler(input) { return input.n + 22 }`, `42`},
		"const":          {`const handler = (input) => input.list`, `[1,2,3]`},
		"async":          {`async function handler(input) { return (await Promise.resolve(input.n)) * 2 }`, `40`},
		"timer":          {`async function handler() { await new Promise(r => setTimeout(r, 5)); return "late" }`, `"late"`},
		"thenable":       {`function handler() { return {then(r) { r(7) }} }`, `7`},
		"platform":       {`async function handler() { return [crypto.randomUUID().length, new URL("b", "http://a/").href, new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode("a"))).length] }`, `[36,"http://a/b",32]`},
		"undefined":      {`function handler() {}`, `null`},
		"context":        {`function handler(_, c) { return [c.executionId, c.stepKey, c.attempt, c.idempotencyKey] }`, `["e1","sum",2,"e1:sum"]`},
		"numbers":        {`function handler(i) { return [i.big === Infinity, 0.1+0.2, 1e21, -0, 2**53, 123456789012345680000] }`, `[true,0.30000000000000004,1e+21,0,9007199254740992,123456789012345680000]`},
		"unicode":        {`function handler() { return "\u0000 \u{1F408} é \ud800" }`, `"\u0000 🐈 é \ud800"`},
		"toJSON":         {`function handler() { return {a: new Date(0), f() {}, u: undefined} }`, `{"a":"1970-01-01T00:00:00.000Z"}`},
		"no __proto__":   {`function handler() { return JSON.parse('{"__proto__": 1, "b": 2}') }`, `{"__proto__":1,"b":2}`},
		"no timezone":    {`function handler() { return new Date(2020, 0, 1).getTimezoneOffset() }`, `0`},
		"nothing else":   {`function handler() { return [typeof require, typeof process, typeof WebAssembly, typeof Worker, typeof Deno] }`, `["undefined","undefined","undefined","undefined","undefined"]`},
		"deep recursion": {`function handler() { const f = n => n ? 1 + f(n - 1) : 0; return f(5000) }`, `5000`},
		"1 MiB minus 2":  {`function handler() { return "x".repeat(1048574).length }`, `1048574`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := e.Run(t.Context(), task(tc.source, nil))
			if err != nil || string(got) != tc.want {
				t.Fatalf("got %s, %v; wanted %s", got, err, tc.want)
			}
		})
	}
}

// TestTypeScriptOfSeveralFiles runs modules in the jail, which has no files: nothing of the compiler may want any.
func TestTypeScriptOfSeveralFiles(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	job := task("", files("typescript", map[string]string{
		"main.ts":      "import { sum } from './lib/sum';\nimport type { Input } from './types';\nexport async function handler(input: Input): Promise<number> {\n  return sum(input.list)\n}",
		"lib/sum.ts":   "export const sum = (numbers: number[]): number => {\n  if (!numbers.length) throw new Error('nothing to add');\n  return numbers.reduce((a, b) => a + b, 0);\n}",
		"types.ts":     "export interface Input { list: number[] }",
		"unused/no.ts": "this is not read {{{",
	}))
	if output, err := e.Run(t.Context(), job); err != nil || string(output) != `6` {
		t.Errorf("got %s, %v", output, err)
	}
	job.Input = json.RawMessage(`{"list":[]}`)
	_, err := e.Run(t.Context(), job)
	if got := fault(t, err); got.Message != "nothing to add" || !strings.Contains(got.Stack, "(lib/sum.ts:2:") || !strings.Contains(got.Stack, "(main.ts:4:") {
		t.Errorf("got %+v\n%s", got, got.Stack)
	}
	if output, err := e.Run(t.Context(), task("function handler(input: {n: number}): number { return input.n }", func(c map[string]any) { c["runtime"], c["memoryMb"] = "typescript", minMemoryMb })); err != nil || string(output) != `20` {
		t.Errorf("in little memory: %s, %v", output, err)
	}
}

func TestFaults(t *testing.T) {
	e := newExecutor(t)
	keepWarm(t, e, 2)
	for name, tc := range map[string]struct {
		source string
		change func(map[string]any)
		want   runner.StepError // Message and Stack: parts
	}{
		"thrown": {
			source: "// line 1\nfunction inner() {\n  throw new TypeError('boom');\n}\nfunction handler() {\n  inner();\n}",
			want:   runner.StepError{Code: runner.CodeError, Message: "boom", Type: "TypeError", Stack: "TypeError: boom\n    at inner (handler.js:3:9)\n    at handler (handler.js:6:8)", Retryable: true},
		},
		"thrown async": {
			source: "async function handler() {\n  await null;\n  throw new RangeError('later');\n}",
			want:   runner.StepError{Code: runner.CodeError, Message: "later", Type: "RangeError", Stack: "handler.js:3:9", Retryable: true},
		},
		"own class": {
			source: "class Broke extends Error { constructor(m) { super(m); this.retryable = false } }\nfunction handler() { throw new Broke('for good') }",
			want:   runner.StepError{Code: runner.CodeError, Message: "for good", Type: "Broke", Stack: "handler.js:2:", Retryable: false},
		},
		"thrown text": {
			source: "function handler() {\n  throw 'plain' }",
			want:   runner.StepError{Code: runner.CodeError, Message: "plain", Type: "string", Stack: "handler.js:2:3", Retryable: true},
		},
		"thrown object": {
			source: "function handler() { throw {code: 7} }",
			want:   runner.StepError{Code: runner.CodeError, Message: `{"code":7}`, Type: "Object", Retryable: true},
		},
		"thrown while loading": {
			source: "\nnull.x; function handler() {}",
			want:   runner.StepError{Code: runner.CodeError, Message: "property 'x'", Type: "TypeError", Stack: "handler.js:2:", Retryable: true},
		},
		"thrown by a timer": {
			source: "async function handler() { await new Promise(() => setTimeout(() => { throw new Error('tick') }, 1)) }",
			want:   runner.StepError{Code: runner.CodeError, Message: "tick", Type: "Error", Retryable: true},
		},
		"hostile error": {
			source: "function handler() { throw {get message() { throw 1 }, get constructor() { throw 2 }, get stack() { throw 3 }, get retryable() { throw 4 }, toString() { throw 5 }, toJSON() { throw 6 }} }",
			want:   runner.StepError{Code: runner.CodeError, Message: "[object]", Type: "object", Retryable: true},
		},
		"never settles": {
			source: "function handler() { return new Promise(() => {}) }",
			want:   runner.StepError{Code: runner.CodeError, Message: "never settles", Type: "Error"},
		},
		"endless recursion": {
			source: "function handler() { return handler() }",
			want:   runner.StepError{Code: runner.CodeError, Message: "deep", Type: "RangeError", Retryable: true},
		},
		"syntax": {
			source: "function handler() {\n  return 1 +;\n}",
			want:   runner.StepError{Code: runner.CodeSyntax, Message: "in handler.js line 2 column 13", Type: "SyntaxError"},
		},
		"early error": {
			source: "function handler() {\n  let a; let a;\n}",
			want:   runner.StepError{Code: runner.CodeSyntax, Message: "line 2 column", Type: "SyntaxError"},
		},
		"module": {
			source: "export function handler() {}\nimport fs from 'node:fs'",
			want:   runner.StepError{Code: runner.CodeSyntax, Message: `handler.js imports "node:fs", and no file of the agent is that`, Type: "SyntaxError"},
		},
		"no entry": {
			source: "function run() {}",
			want:   runner.StepError{Code: runner.CodeInvalidConfig, Message: `"handler" is not a function`},
		},
		"entry is code": {
			source: "function run() {}",
			change: func(c map[string]any) { c["entry"] = "run,run" },
			want:   runner.StepError{Code: runner.CodeInvalidConfig, Message: `"run,run" is not a function`},
		},
		"cycle": {
			source: "function handler() { const a = {}; a.a = a; return a }",
			want:   runner.StepError{Code: runner.CodeInvalidOutput, Message: "the result is no JSON", Type: "TypeError"},
		},
		"bigint": {
			source: "function handler() { return {n: 1n} }",
			want:   runner.StepError{Code: runner.CodeInvalidOutput, Message: "BigInt", Type: "TypeError"},
		},
		"function": {
			source: "function handler() { return handler }",
			want:   runner.StepError{Code: runner.CodeInvalidOutput, Message: "a function"},
		},
		"too deep": {
			source: "function handler() { let a = []; for (let i = 0; i < 10001; i++) a = [a]; return a }",
			want:   runner.StepError{Code: runner.CodeInvalidOutput, Message: "deep"},
		},
		"too large": {
			source: "function handler() { return 'x'.repeat(2 ** 26 - 1) }", change: large,
			want: runner.StepError{Code: runner.CodeOutputLimit, Message: "67108865 bytes"},
		},
		"busy loop": {
			source: "function handler() { for (;;); }", change: timeoutMs(200),
			want: runner.StepError{Code: runner.CodeStepTimeout, Message: "handler ran longer than 200 ms", Retryable: true},
		},
		"busy microtasks": {
			source: "function handler() { const f = () => Promise.resolve().then(f); return f() }", change: timeoutMs(200),
			want: runner.StepError{Code: runner.CodeStepTimeout, Message: "200 ms", Retryable: true},
		},
		"busy while loading": {
			source: "for (;;);", change: timeoutMs(200),
			want: runner.StepError{Code: runner.CodeStepTimeout, Message: "200 ms", Retryable: true},
		},
		"busy getter of a result": {
			source: "function handler() { return {get a() { for (;;); }} }", change: timeoutMs(200),
			want: runner.StepError{Code: runner.CodeStepTimeout, Message: "200 ms", Retryable: true},
		},
		"long timer": {
			source: "function handler() { return new Promise(r => setTimeout(r, 1e12)) }", change: timeoutMs(200),
			want: runner.StepError{Code: runner.CodeStepTimeout, Message: "200 ms", Retryable: true},
		},
		"regular expression": {
			source: "function handler() { return /^(?=(a+)+$)(a|a)*\\1$/.test('a'.repeat(40) + 'b') }", change: timeoutMs(200),
			want: runner.StepError{Code: runner.CodeStepTimeout, Message: "200 ms", Retryable: true},
		},
		"memory in small parts": {
			source: "function handler() { const a = []; for (;;) a.push({a: a.length}) }", change: memoryMb(32),
			want: runner.StepError{Code: runner.CodeMemoryLimit, Message: "out of memory"},
		},
		"memory in one buffer": {
			source: "function handler() { return new ArrayBuffer(1 << 30).byteLength }", change: memoryMb(32),
			want: runner.StepError{Code: runner.CodeMemoryLimit, Message: "out of memory"},
		},
		"memory in text": {
			source: "function handler() { let s = 'x'; for (;;) s += s }", change: memoryMb(32),
			want: runner.StepError{Code: runner.CodeMemoryLimit},
		},
		"memory beyond all": {
			source: "function handler() { return 'ab'.repeat(2 ** 50) }", change: memoryMb(32),
			want: runner.StepError{Code: runner.CodeMemoryLimit},
		},
		"buffer beyond all": {
			source: "function handler() { return new Uint8Array(2 ** 52).length }",
			want:   runner.StepError{Code: runner.CodeError, Message: "too large", Type: "RangeError", Retryable: true},
		},
		"memory in a filled array": {
			source: "function handler() { return new Array(2 ** 32 - 1).fill(0).length }", change: memoryMb(32),
			want: runner.StepError{Code: runner.CodeMemoryLimit},
		},
		"memory in promises": {
			source: "async function handler() { const a = []; for (;;) a.push(new Promise(r => setTimeout(r, 1e6))) }", change: memoryMb(32),
			want: runner.StepError{Code: runner.CodeMemoryLimit},
		},
		"memory in an error": {
			source: "function handler() { throw new Error('x'.repeat(1 << 22)) }",
			want:   runner.StepError{Code: runner.CodeError, Message: "... (cut)", Type: "Error", Retryable: true},
		},
		"nested source": {
			source: "function handler() { return 1 }\n" + strings.Repeat("(", 500_000),
			change: large,
			want:   runner.StepError{Code: runner.CodeError, Message: "nested too deep", Type: "RangeError", Retryable: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			job := task(tc.source, tc.change)
			output, err := e.Run(t.Context(), job)
			if err == nil {
				t.Fatalf("got output %.100s, wanted %v", output, &tc.want)
			}
			got := fault(t, err)
			if got.Code != tc.want.Code || got.Type != tc.want.Type || got.Retryable != tc.want.Retryable ||
				!strings.Contains(got.Message, tc.want.Message) || !strings.Contains(got.Stack, tc.want.Stack) {
				t.Fatalf("got    %+v\nwanted %+v", *got, tc.want)
			}
			if len(got.Message) > 8<<10 || len(got.Stack) > 16<<10 {
				t.Fatalf("the message has %d bytes and the stack %d", len(got.Message), len(got.Stack))
			}
		})
	}
}

func TestLogLinesArriveInOrderWhileTheCodeRuns(t *testing.T) {
	e := newExecutor(t)
	job := task(`async function handler(input, {logger}) {
		console.log("one", 1, {a: [true, null]}, undefined, "two\nlines");
		console.debug("d"); console.info("i"); console.warn("w"); console.error(new TypeError("bad"));
		logger.debug("ld"); logger.info("li"); logger.warn("lw"); logger.error("le");
		console.log(() => 1, Symbol("s"), 10n, "x".repeat(70000));
		Promise.reject(new Error("lost"));
		await new Promise(() => {});
	}`, nil)
	seen := &lines{}
	job.Log = seen.log
	_, err := e.Run(t.Context(), job)
	if got := fault(t, err); got.Code != runner.CodeError {
		t.Fatal(got)
	}
	want := []string{
		"INFO console one 1 {\"a\":[true,null]} undefined two\nlines",
		"DEBUG console d", "INFO console i", "WARN console w", "ERROR console TypeError: bad\n    at handler (handler.js:3:",
		"DEBUG console ld", "INFO console li", "WARN console lw", "ERROR console le",
		"INFO console [function] s 10 xxx",
		"WARN console a promise was rejected and nothing handled it: Error: lost",
	}
	if len(seen.seen) != len(want) {
		t.Fatalf("got %d lines, wanted %d: %.2000q", len(seen.seen), len(want), seen.seen)
	}
	for i, line := range seen.seen {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("line %d: got %.200q, wanted %q", i, line, want[i])
		}
		if len(line) > 64<<10+len("INFO console ") {
			t.Errorf("line %d has %d bytes", i, len(line))
		}
	}
}

func TestCancelKillsTheCodeWithinASecond(t *testing.T) {
	e := newExecutor(t)
	ctx, cancel := context.WithCancel(t.Context())
	var cancelled time.Time
	job := task(`function handler() { console.log("running"); for (;;); }`, nil)
	// The line arrives while the code still runs.
	job.Log = (&lines{on: func(string) { cancelled = time.Now(); cancel() }}).log
	_, err := e.Run(ctx, job)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, wanted context.Canceled", err)
	}
	if took := time.Since(cancelled); took > 10*time.Second {
		t.Fatalf("it took %v from the cancel to the end", took)
	}
	if left := sandboxes(t); len(left) > 0 {
		t.Fatalf("sandboxes are left: %v", left)
	}
}

// sandboxes gives the process ids of the children of this process.
func sandboxes(t *testing.T) []int {
	t.Helper()
	return childrenOf(t, "self")
}

func childrenOf(t *testing.T, process string) []int {
	t.Helper()
	paths, err := filepath.Glob("/proc/" + process + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread ended meanwhile
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestConsoleFloodIsCut(t *testing.T) {
	e := newExecutor(t)
	job := task(`function handler() { for (let i = 0; i < 200000; i++) console.log(i); return "done" }`, nil)
	seen := &lines{}
	job.Log = seen.log
	output, err := e.Run(t.Context(), job)
	if err != nil || string(output) != `"done"` {
		t.Fatalf("got %s, %v", output, err)
	}
	if len(seen.seen) != maxLines+1 {
		t.Fatalf("got %d lines, wanted %d", len(seen.seen), maxLines+1)
	}
	if got := seen.seen[maxLines-1]; got != "INFO console 9999" {
		t.Errorf("the last line kept is %q", got)
	}
	if got := seen.seen[maxLines]; got != "WARN engine the code wrote more than 10000 lines; the rest of this attempt is dropped" {
		t.Errorf("the last line is %q", got)
	}
}

func TestEscapesFindNothing(t *testing.T) {
	e := newExecutor(t)
	keepWarm(t, e, 2)
	for name, source := range map[string]string{
		"constructor chain":   `function handler() { return this.constructor.constructor("return typeof process + typeof require + typeof Go")() }`,
		"logger chain":        `function handler(_, c) { return c.logger.info.constructor("return typeof process")() }`,
		"import":              `async function handler() { return await import("node:fs") }`,
		"import in eval":      `async function handler() { return await eval("import('/etc/passwd')") }`,
		"process.binding":     `function handler() { return process.binding("fs") }`,
		"require":             `function handler() { return require("child_process").execSync("id") }`,
		"source map":          `function handler() { return eval("1\n//# sourceMappingURL=/etc/passwd") }`,
		"prepareStackTrace":   `function handler() { let got; Error.prepareStackTrace = (_, s) => { got = s }; new Error().stack; return got ?? null }`,
		"forged result frame": `function handler() { console.log("O\u0000\u0000\u0000\u00011"); return "mine" }`,
		"changed builtins":    `JSON.stringify = () => "1"; Promise = null; Object.prototype.retryable = false; function handler() { return "mine" }`,
	} {
		t.Run(name, func(t *testing.T) {
			output, err := e.Run(t.Context(), task(source, nil))
			switch string(output) {
			case `"undefinedundefinedundefined"`, `"undefined"`, `"mine"`, "null", "1":
			default:
				if got := fault(t, err); got.Code != runner.CodeError && got.Code != runner.CodeSyntax {
					t.Fatal(got)
				}
			}
		})
	}
	if output, err := e.Run(t.Context(), task(`function handler() { return "clean" }`, nil)); string(output) != `"clean"` {
		t.Fatalf("the next run gave %s, %v", output, err)
	}
}

func TestRunsInParallelDoNotMix(t *testing.T) {
	e := newExecutor(t)
	var group sync.WaitGroup
	for i := range 24 {
		group.Go(func() {
			job := task(`globalThis.mine = (globalThis.mine ?? 0) + 1; function handler(i) { console.log(i.n); return [mine, i.n] }`, nil)
			job.Input = json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))
			seen := &lines{}
			job.Log = seen.log
			output, err := e.Run(t.Context(), job)
			if want := fmt.Sprintf("[1,%d]", i); err != nil || string(output) != want {
				t.Errorf("got %s, %v, wanted %s", output, err, want)
			}
			if len(seen.seen) != 1 || seen.seen[0] != fmt.Sprintf("INFO console %d", i) {
				t.Errorf("run %d logged %q", i, seen.seen)
			}
		})
	}
	group.Wait()
	if left := sandboxes(t); len(left) > 0 {
		t.Fatalf("sandboxes are left: %v", left)
	}
}

func TestLargestInput(t *testing.T) {
	e := newExecutor(t)
	job := task(`function handler(i) { return i.length }`, large)
	job.Input = json.RawMessage(`"` + strings.Repeat("x", runner.MaxInput-2) + `"`)
	output, err := e.Run(t.Context(), job)
	if want := strconv.Itoa(runner.MaxInput - 2); err != nil || string(output) != want {
		t.Fatalf("got %s, %v, wanted %s", output, err, want)
	}
	job.Input = append(job.Input, ' ')
	_, err = e.Run(t.Context(), job)
	if got := fault(t, err); got.Code != runner.CodeInputLimit {
		t.Fatal(got)
	}
}

func TestSmallestMemoryIsEnoughForSmallCode(t *testing.T) {
	e := newExecutor(t)
	output, err := e.Run(t.Context(), task(`function handler(i) { return Array.from({length: 1000}, (_, k) => ({k})).length }`, memoryMb(minMemoryMb)))
	if err != nil || string(output) != "1000" {
		t.Fatalf("got %s, %v", output, err)
	}
}

// asParent makes the test binary a runner with a sandbox that computes for ever, and one that waits.
const asParent = "__parent_of_a_sandbox"

func runForever() error {
	e, err := New(Config{})
	if err != nil {
		return err
	}
	job := task(`function handler() { console.log("running"); for (;;); }`, nil)
	job.Log = func(string, string, string) { fmt.Println("running") }
	go e.Warm(context.Background(), 2)
	for len(e.scripts.idle) < 2 {
		<-time.After(time.Millisecond)
	}
	_, err = e.Run(context.Background(), job)
	return err
}

func TestSandboxesDieWithTheirParent(t *testing.T) {
	parent := exec.Command("/proc/self/exe", asParent)
	parent.Stderr = os.Stderr
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = parent.Process.Kill(); _ = parent.Wait() }()
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("the parent did not get its sandbox to run: %v", err)
	}
	children := childrenOf(t, strconv.Itoa(parent.Process.Pid))
	if len(children) != 2 {
		t.Fatalf("got children %v, wanted two", children)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(5 * time.Second)
	for _, child := range children {
		for running(child) {
			select {
			case <-deadline:
				_ = syscall.Kill(child, syscall.SIGKILL)
				t.Fatal("a sandbox outlives its parent")
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
}

// running tells whether pid is a process that is neither gone nor a zombie.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func TestDataOfTheAllowedSizeFit(t *testing.T) {
	e := newExecutor(t)
	output, err := e.Run(t.Context(), task(`function handler() {
		const keep = [];
		for (let i = 0; i < 28; i++) { keep.push(new Uint8Array(1 << 20)); new Uint8Array(1 << 20) }
		return keep.length;
	}`, memoryMb(32)))
	if err != nil || string(output) != "28" {
		t.Fatalf("got %s, %v", output, err)
	}
}

func TestHostWithoutJailRunsNothing(t *testing.T) {
	for _, program := range []string{"/bin/false", "/nowhere"} {
		e, err := New(Config{Program: program})
		if err != nil {
			t.Fatal(err)
		}
		if e.Available() == nil {
			t.Fatalf("%s: Available gives nil", program)
		}
		_, err = e.Run(t.Context(), task(`function handler() { return 1 }`, nil))
		if got := fault(t, err); got.Code != runner.CodeNoSandbox {
			t.Fatal(got)
		}
	}
	if _, err := New(Config{Program: "false"}); err == nil {
		t.Fatal("a relative program is taken")
	}
}

// BenchmarkTrivial measures attempts of code that does next to nothing: with a sandbox that waits for them, with one that is
// started for each, and as many one after the other as there can be.
func BenchmarkTrivial(b *testing.B) {
	job := task(`function handler(input) { return input.n + 1 }`, nil)
	attempts := func(b *testing.B, e *Executor, before func()) {
		var took []time.Duration
		for b.Loop() {
			before()
			began := time.Now()
			if _, err := e.Run(b.Context(), job); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
		b.ReportMetric(took[len(took)*95/100].Seconds()*1e3, "p95-ms")
	}
	b.Run("warm", func(b *testing.B) {
		e := newExecutor(b)
		keepWarm(b, e, 2)
		attempts(b, e, func() {
			b.StopTimer()
			eventually(b, "two sandboxes are ready", func() bool { return len(e.scripts.idle) == 2 })
			b.StartTimer()
		})
	})
	b.Run("started", func(b *testing.B) { attempts(b, newExecutor(b), func() {}) })
	b.Run("without-a-pause", func(b *testing.B) {
		e := newExecutor(b)
		keepWarm(b, e, 4)
		attempts(b, e, func() {})
	})
}

func TestMemoryOfARunner(t *testing.T) {
	e, err := New(Config{MaxMemoryMb: 64, Host: jail.Host{Nice: 10}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Run(t.Context(), task("function handler() { return 1 }", memoryMb(65)))
	if got := fault(t, err); got.Code != runner.CodeInvalidConfig || !strings.Contains(got.Message, "memoryMb is 65, and this runner gives code at most 64") {
		t.Errorf("got %+v", got)
	}
	if output, err := e.Run(t.Context(), task("function handler() { return 1 }", memoryMb(64))); err != nil || string(output) != "1" {
		t.Errorf("got %s, %v", output, err)
	}
}
