package code

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/guard"
	"turbocat.io/services/runner/internal/executor"
)

// newPython gives an executor that runs Python. A host without one can not run these tests, and says so.
func newPython(t testing.TB) *Executor {
	t.Helper()
	e := newExecutor(t)
	if err := e.PythonAvailable(); err != nil {
		if strings.HasPrefix(err.Error(), "there is no Python") {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	return e
}

func pythonTask(source string, change func(config map[string]any)) executor.Task {
	return task(source, func(c map[string]any) {
		c["runtime"] = "python"
		if change != nil {
			change(c)
		}
	})
}

func TestPython(t *testing.T) {
	e := newPython(t)
	keepWarm(t, e, 2)
	for name, tc := range map[string]struct{ source, want string }{
		"sum":           {"def handler(input, context):\n  return input['n'] + 22", `42`},
		"less":          {"def handler(input):\n  return input['list']", `[1,2,3]`},
		"nothing":       {"def handler():\n  pass", `null`},
		"lambda":        {"handler = lambda *a: len(a)", `2`},
		"callable":      {"class H:\n  def __call__(self, input, context): return input['n']\nhandler = H()", `20`},
		"async":         {"import asyncio\nasync def handler(input):\n  await asyncio.sleep(0.001)\n  return (await asyncio.gather(*[asyncio.to_thread(lambda i=i: i) for i in range(3)]))", `[0,1,2]`},
		"context":       {"def handler(_, c):\n  return [c.executionId, c.stepKey, c.attempt, c.idempotencyKey, c.secrets]", `["e1","sum",2,"e1:sum",{}]`},
		"numbers":       {"def handler(i):\n  return [i['big'] == float('inf'), 0.1+0.2, 2**70, -0.0, 1/3]", `[true,0.30000000000000004,1180591620717411303424,-0.0,0.3333333333333333]`},
		"unicode":       {"def handler():\n  return '\\0 \U0001F408 é'", `"\u0000 🐈 é"`},
		"the library":   {"import re, math, datetime, decimal, hashlib, collections, itertools, statistics, csv, io, uuid, random, base64, zlib, sqlite3\ndef handler():\n  db = sqlite3.connect(':memory:')\n  return [hashlib.sha256(b'a').hexdigest()[:4], str(decimal.Decimal('0.1') + 1), statistics.mean([1, 2, 3]), db.execute('select 1+1').fetchone()[0], zlib.crc32(b'x')]", `["ca97","1.1",2,2,2363233923]`},
		"time zones":    {"from zoneinfo import ZoneInfo\nfrom datetime import datetime\ndef handler():\n  return datetime(2026, 7, 1, tzinfo=ZoneInfo('UTC')).isoformat()", `"2026-07-01T00:00:00+00:00"`},
		"main":          {"def handler(): return __name__", `"__main__"`},
		"dataclass":     {"from dataclasses import dataclass, asdict\n@dataclass\nclass P:\n  x: int\ndef handler(): return asdict(P(3))", `{"x":3}`},
		"no environ":    {"import os, sys\ndef handler(): return [dict(os.environ), sys.argv[1:], sys.stdin.read()]", `[{},[],""]`},
		"a thread":      {"import threading\ndef handler():\n  got = []\n  t = threading.Thread(target=lambda: got.append(1)); t.start(); t.join()\n  return got", `[1]`},
		"stays running": {"import threading, time\ndef handler():\n  threading.Thread(target=lambda: time.sleep(100)).start()\n  return 1", `1`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := e.Run(t.Context(), pythonTask(tc.source, nil))
			if err != nil || string(got) != tc.want {
				t.Fatalf("got %s, %v; wanted %s", got, err, tc.want)
			}
		})
	}
}

func TestPythonOfSeveralFiles(t *testing.T) {
	e := newPython(t)
	job := task("", files("python", map[string]string{
		"main.py":       "from lib.sums import total\nimport lib\nimport util\ndef handler(input):\n  return [total(input['list']), util.NAME, lib.__name__]",
		"lib/sums.py":   "from .checks import check\ndef total(numbers):\n  check(numbers)\n  return sum(numbers)",
		"lib/checks.py": "def check(numbers):\n  if not numbers:\n    raise ValueError('nothing to add')",
		"util.py":       "NAME = 'util'",
		"unused/no.py":  "this is not read (((",
	}))
	if output, err := e.Run(t.Context(), job); err != nil || string(output) != `[6,"util","lib"]` {
		t.Errorf("got %s, %v", output, err)
	}
	job.Input = json.RawMessage(`{"list":[]}`)
	_, err := e.Run(t.Context(), job)
	want := "Traceback (most recent call last):\n  File \"main.py\", line 5, in handler\n    return [total(input['list']), util.NAME, lib.__name__]\n"
	if got := fault(t, err); got.Message != "nothing to add" || !strings.HasPrefix(got.Stack, want) || !strings.Contains(got.Stack, "File \"lib/checks.py\", line 3, in check\n    raise ValueError('nothing to add')\nValueError: nothing to add") {
		t.Errorf("got %+v\n%s", got, got.Stack)
	}
}

func TestPythonFaults(t *testing.T) {
	e := newPython(t)
	keepWarm(t, e, 2)
	for name, tc := range map[string]struct {
		source string
		change func(map[string]any)
		want   runner.StepError // Message and Stack: parts
	}{
		"thrown":           {"def handler():\n  raise TypeError('boom')", nil, runner.StepError{Code: runner.CodeError, Message: "boom", Type: "TypeError", Stack: "File \"handler.py\", line 2, in handler\n    raise TypeError('boom')", Retryable: true}},
		"for good":         {"class Broke(Exception):\n  retryable = False\ndef handler():\n  raise Broke('no')", nil, runner.StepError{Code: runner.CodeError, Message: "no", Type: "Broke"}},
		"with a cause":     {"def handler():\n  try:\n    1/0\n  except Exception as e:\n    raise ValueError('bad') from e", nil, runner.StepError{Code: runner.CodeError, Message: "bad", Type: "ValueError", Stack: "ZeroDivisionError: division by zero\n\nThe above exception was the direct cause", Retryable: true}},
		"while loading":    {"\nNone.x", nil, runner.StepError{Code: runner.CodeError, Message: "'NoneType' object has no attribute 'x'", Type: "AttributeError", Stack: "line 2, in <module>", Retryable: true}},
		"hostile error":    {"class E(Exception):\n  def __str__(self): raise self\n  @property\n  def retryable(self): raise self\ndef handler(): raise E()", nil, runner.StepError{Code: runner.CodeError, Message: "[E]", Type: "E", Retryable: true}},
		"syntax":           {"def handler():\n  return 1 +", nil, runner.StepError{Code: runner.CodeSyntax, Message: "in handler.py line 2 column 13: invalid syntax", Type: "SyntaxError"}},
		"indentation":      {"def handler():\nreturn 1", nil, runner.StepError{Code: runner.CodeSyntax, Message: "in handler.py line 2", Type: "IndentationError"}},
		"no entry":         {"def run(): pass", nil, runner.StepError{Code: runner.CodeInvalidConfig, Message: `"handler" is not a function of handler.py`}},
		"no module":        {"import requests", nil, runner.StepError{Code: runner.CodeError, Message: "No module named 'requests'", Type: "ModuleNotFoundError", Retryable: true}},
		"no JSON":          {"def handler(): return {1, 2}", nil, runner.StepError{Code: runner.CodeInvalidOutput, Message: "Object of type set is not JSON serializable", Type: "TypeError"}},
		"no number":        {"def handler(): return float('nan')", nil, runner.StepError{Code: runner.CodeInvalidOutput, Message: "the result is no JSON", Type: "ValueError"}},
		"half a surrogate": {"def handler(): return '\\ud800'", nil, runner.StepError{Code: runner.CodeInvalidOutput, Message: "surrogates not allowed", Type: "UnicodeEncodeError"}},
		"cycle":            {"def handler():\n  a = []; a.append(a); return a", nil, runner.StepError{Code: runner.CodeInvalidOutput, Message: "Circular", Type: "ValueError"}},
		"too large":        {"def handler(): return 'x' * (2**26 - 1)", large, runner.StepError{Code: runner.CodeOutputLimit, Message: "67108865 bytes"}},
		"exit":             {"import sys\ndef handler(): sys.exit(3)", nil, runner.StepError{Code: runner.CodeError, Message: "3", Type: "SystemExit", Retryable: true}},
		"recursion":        {"def handler(): return handler()", nil, runner.StepError{Code: runner.CodeError, Message: "recursion", Type: "RecursionError", Retryable: true}},
		"busy loop":        {"def handler():\n  while True: pass", timeoutMs(200), runner.StepError{Code: runner.CodeStepTimeout, Message: "handler ran longer than 200 ms", Retryable: true}},
		"sleep":            {"import time\ndef handler(): time.sleep(1000)", timeoutMs(200), runner.StepError{Code: runner.CodeStepTimeout, Message: "200 ms", Retryable: true}},
		"memory":           {"def handler():\n  a = []\n  while True: a.append('x' * 100_000)", memoryMb(32), runner.StepError{Code: runner.CodeMemoryLimit, Message: "out of memory"}},
		"memory in one":    {"def handler(): return len(bytearray(1 << 33))", nil, runner.StepError{Code: runner.CodeMemoryLimit, Message: "out of memory"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := e.Run(t.Context(), pythonTask(tc.source, tc.change))
			got := fault(t, err)
			if got.Code != tc.want.Code || got.Type != tc.want.Type || got.Retryable != tc.want.Retryable || !strings.Contains(got.Message, tc.want.Message) || !strings.Contains(got.Stack, tc.want.Stack) {
				t.Fatalf("got    %+v\nwanted %+v\n%s", *got, tc.want, got.Stack)
			}
		})
	}
}

// TestPythonEscapes is S11 for Python: each attempt to reach out of the jail, and what comes of it.
func TestPythonEscapes(t *testing.T) {
	e := newPython(t)
	keepWarm(t, e, 2)
	const tried = "def handler():\n  try:\n    %s\n    return 'done'\n  except BaseException as e:\n    return type(e).__name__ + ': ' + str(e)"
	for attempt, c := range map[string]struct{ code, want string }{
		"read /etc/passwd":          {"open('/etc/passwd').read()", "PermissionError: [Errno 13]"},
		"list /root":                {"import os; os.listdir('/root')", "PermissionError: [Errno 13]"},
		"list /":                    {"import os; os.listdir('/')", "PermissionError: [Errno 13]"},
		"read the parent's environ": {"import os; open('/proc/%d/environ' % os.getppid()).read()", "PermissionError: [Errno 13]"},
		"read its own environ":      {"open('/proc/self/environ').read()", "PermissionError: [Errno 13]"},
		"write a file":              {"open('/tmp/turbocat-escape', 'w').write('x')", "PermissionError: [Errno 13]"},
		"write to its library":      {"import json; open(json.__file__, 'w').write('x')", "PermissionError: [Errno 13]"},
		"make a folder":             {"import os; os.mkdir('/tmp/turbocat-escape')", "PermissionError: [Errno 1]"},
		"a socket":                  {"import socket; socket.socket()", "PermissionError: [Errno 1]"},
		"a socket of the host":      {"import socket; socket.socket(socket.AF_UNIX)", "PermissionError: [Errno 1]"},
		"a name":                    {"import socket; socket.getaddrinfo('example.com', 80)", "gaierror"},
		"fork":                      {"import os; os.fork()", "PermissionError: [Errno 1]"},
		"a process":                 {"import subprocess; subprocess.run(['/usr/bin/id'])", "PermissionError"},
		"become another program":    {"import os; os.execv('/usr/bin/id', ['id'])", "PermissionError: [Errno 13]"},
		"kill the parent":           {"import os; os.kill(os.getppid(), 9)", "PermissionError: [Errno 1]"},
		"kill everybody":            {"import os; os.kill(-1, 9)", "PermissionError: [Errno 1]"},
		"trace the parent":          {"import ctypes, os; c = ctypes.CDLL(None, use_errno=True); r = c.ptrace(16, os.getppid(), 0, 0); raise OSError(ctypes.get_errno(), 'ptrace')", "PermissionError: [Errno 1]"},
		"a library of its own":      {"import ctypes; ctypes.CDLL('/tmp/x.so')", "OSError"},
		"memory to be executed":     {"import mmap; mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)", "PermissionError: [Errno 1]"},
		"shared memory":             {"import mmap; mmap.mmap(-1, 4096)", "PermissionError: [Errno 1]"},
		"more memory":               {"import resource; resource.setrlimit(resource.RLIMIT_DATA, (1 << 40, 1 << 40))", "ValueError: not allowed to raise maximum limit"},
		"more processor time":       {"import resource; resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY,) * 2)", "ValueError: not allowed to raise maximum limit"},
		"limits of others":          {"import resource, os; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))", "PermissionError"},
		"a signal by a socket":      {"import fcntl, os, socket; fcntl.fcntl(socket.socketpair()[0], 8, os.getppid())", "PermissionError: [Errno 1]"},
		"a signal of its choice":    {"import fcntl, os; fcntl.fcntl(os.pipe()[0], 10, 9)", "PermissionError: [Errno 1]"},
		"a signal by an ioctl":      {"import fcntl, os, socket, struct; fcntl.ioctl(socket.socketpair()[0], 0x8902, struct.pack('i', os.getppid()))", "PermissionError: [Errno 1]"},
		"a larger pipe":             {"import fcntl, os; fcntl.fcntl(os.pipe()[0], 1031, 1 << 20)", "PermissionError: [Errno 1]"},
		"a deep stack":              {"import resource; resource.setrlimit(resource.RLIMIT_STACK, (1 << 40, 1 << 40))", "ValueError: not allowed to raise maximum limit"},
		"its user":                  {"import os; os.setuid(0)", "PermissionError: [Errno 1]"},
		"many files":                {"x = [open('/dev/null') for _ in range(100)]", "PermissionError: [Errno 13]"},
		"many pipes":                {"import os; x = [os.pipe() for _ in range(100)]", "OSError: [Errno 24]"},
		"what the parent has open":  {"import os\n    for fd in range(4, 64):\n      try: os.fstat(fd)\n      except OSError: continue\n      raise ValueError('descriptor %d' % fd)", "done"},
	} {
		t.Run(attempt, func(t *testing.T) {
			got, err := e.Run(t.Context(), pythonTask(fmt.Sprintf(strings.ReplaceAll(tried, "%s", "%[1]s"), c.code), nil))
			var text string
			if err != nil || json.Unmarshal(got, &text) != nil || !strings.HasPrefix(text, c.want) {
				t.Fatalf("%s gives %s, %v; wanted %s", attempt, got, err, c.want)
			}
			t.Logf("%s -> %s", attempt, text)
		})
	}
	t.Run("a bomb of small threads", func(t *testing.T) {
		output, err := e.Run(t.Context(), pythonTask("import threading, time\ndef handler():\n  threading.stack_size(65536)\n  n = 0\n  try:\n    while True:\n      threading.Thread(target=time.sleep, args=(1000,), daemon=True).start(); n += 1\n  except RuntimeError as e:\n    return [n, str(e)]", memoryMb(maxMemoryMb)))
		var got []any
		if err != nil || json.Unmarshal(output, &got) != nil || got[1] != "can't start new thread" || got[0].(float64) < 16 || got[0].(float64) > 8000 {
			t.Fatalf("got %s, %v", output, err)
		}
		t.Logf("a bomb of small threads -> %v after %v", got[1], got[0])
	})
	for attempt, c := range map[string]struct{ source, code, message string }{
		"a thread bomb":           {"import threading, time\ndef handler():\n  while True: threading.Thread(target=time.sleep, args=(1000,)).start()", "", ""},
		"ends its process":        {"import os\ndef handler(): os._exit(0)", runner.CodeError, "the code ended its process: exit status 0"},
		"crashes its interpreter": {"import ctypes\ndef handler(): ctypes.string_at(0)", runner.CodeError, "the code ended its process: signal: segmentation fault"},
		"kills itself":            {"import os\ndef handler(): os.kill(os.getpid(), 9)", runner.CodeError, "Operation not permitted"},
		"writes where answers go": {"import os\ndef handler():\n  os.write(3, b'Z' + bytes(4)); return 1", runner.CodeError, "the code wrote to a descriptor that is not its own"},
		"forges a longer answer":  {"import os\ndef handler():\n  os.write(3, b'O\\xff\\xff\\xff\\xff'); return 1", runner.CodeError, "the code wrote to a descriptor that is not its own"},
		"answers with no JSON":    {"import os\ndef handler():\n  os.write(3, b'O\\0\\0\\0\\x01{'); return 1", runner.CodeError, "the code wrote to a descriptor that is not its own"},
		"a fault of the engine":   {"import os\ndef handler():\n  b = b'{\"code\":\"INTERNAL\"}'\n  os.write(3, b'F' + len(b).to_bytes(4, 'big') + b); return 1", runner.CodeError, "the code wrote to a descriptor that is not its own"},
		"an endless line":         {"def handler():\n  while True: print('x' * 1000, end='')", runner.CodeStepTimeout, ""},
	} {
		t.Run(attempt, func(t *testing.T) {
			began := time.Now()
			_, err := e.Run(t.Context(), pythonTask(c.source, timeoutMs(2000)))
			got := fault(t, err)
			if c.code != "" && got.Code != c.code || !strings.Contains(got.Message, c.message) {
				t.Fatalf("%s gives %+v; wanted %s %s", attempt, got, c.code, c.message)
			}
			t.Logf("%s -> %s: %.100s, after %v", attempt, got.Code, got.Message, time.Since(began).Round(10*time.Millisecond))
		})
	}
}

func TestPythonLogLines(t *testing.T) {
	e := newPython(t)
	job := pythonTask(`import sys
def handler(input, context):
    print("one", 1, {"a": [True, None]})
    print("two\nlines")
    print("no end", end="")
    print("", file=sys.stderr)
    sys.stderr.write("to stderr\n")
    log = context.logger
    log.debug("d"); log.info("i", 2); log.warn("w"); log.warning("w2"); log.error("e")
    print(b"bytes", "x" * 70000)
`, nil)
	seen := &lines{}
	job.Log = seen.log
	if _, err := e.Run(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	last := seen.seen[len(seen.seen)-1]
	want := []string{
		`INFO console one 1 {'a': [True, None]}`, "INFO console two", "INFO console lines", "ERROR console ", "ERROR console to stderr",
		"DEBUG console d", "INFO console i 2", "WARN console w", "WARN console w2", "ERROR console e",
	}
	if !slices.Equal(seen.seen[:len(want)], want) || !strings.HasPrefix(last, "INFO console no endb'bytes' xxx") || !strings.HasSuffix(last, "... (cut)") || len(seen.seen) != len(want)+1 {
		t.Errorf("got %q", seen.seen)
	}
}

func TestPythonFetch(t *testing.T) {
	newPython(t)
	server := serving(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/missing":
			http.NotFound(w, r)
		case "/redirect":
			http.Redirect(w, r, "/echo", http.StatusTemporaryRedirect)
		default:
			w.Header().Add("X-Two", "a")
			w.Header().Add("X-Two", "b")
			fmt.Fprintf(w, `{"method":%q,"query":%q,"type":%q,"own":%q,"body":%q}`, r.Method, r.URL.RawQuery, r.Header.Get("Content-Type"), r.Header.Get("X-Own"), body)
		}
	})
	e := fetcher(t, guard.Config{Allow: loopback})
	run := func(source string, hosts ...string) (string, error) {
		source = fmt.Sprintf("import asyncio\nURL = %q\n", server.URL) + source
		output, err := e.Run(t.Context(), pythonTask(source, func(c map[string]any) { c["allowHosts"] = hosts }))
		return string(output), err
	}
	host := server.Listener.Addr().String()
	for name, tc := range map[string]struct{ source, want string }{
		"get":       {"def handler(_, c):\n  r = c.fetch(URL + '/echo?q=1')\n  return [r.status, r.ok, r.headers['x-two'], r.json()['query'], r.url == URL + '/echo?q=1', r.redirected]", `[200,true,"a, b","q=1",true,false]`},
		"post":      {"def handler(_, c):\n  b = c.fetch(URL + '/echo', method='post', headers={'X-Own': 'mine'}, json={'a': 'é'}).json()\n  return [b['method'], b['own'], b['type'], b['body']]", `["POST","mine","application/json","{\"a\": \"é\"}"]`},
		"bytes":     {"def handler(_, c):\n  return c.fetch(URL + '/echo', method='PUT', body=b'x').json()['body']", `"x"`},
		"not found": {"def handler(_, c):\n  r = c.fetch(URL + '/missing')\n  return [r.ok, r.status, r.text(), r.body[:3].decode()]", `[false,404,"404 page not found\n","404"]`},
		"redirect":  {"def handler(_, c):\n  return c.fetch(URL + '/redirect').redirected", `true`},
		"at once": {
			"async def handler(_, c):\n  all = await asyncio.gather(*[asyncio.to_thread(c.fetch, URL + '/echo?%d' % i) for i in range(50)])\n  return all[49].json()['query'] + str(len({r.json()['query'] for r in all}))", `"4950"`,
		},
		"another host": {"def handler(_, c):\n  try:\n    c.fetch('https://example.com/')\n  except ConnectionError as e:\n    return str(e)[:57]", `"fetch https://example.com/: "`},
		"no URL":       {"def handler(_, c):\n  try:\n    c.fetch('file:///etc/passwd')\n  except ConnectionError as e:\n    return 'refused'", `"refused"`},
		"both bodies":  {"def handler(_, c):\n  try:\n    c.fetch(URL, body='a', json=1)\n  except ValueError as e:\n    return str(e)", `"give body or json, not both"`},
		"too large":    {"def handler(_, c):\n  try:\n    c.fetch(URL, body=b'x' * (8 * 1024 * 1024 + 1))\n  except ValueError as e:\n    return str(e)", `"the body of a request may have 8388608 bytes, not 8388609"`},
	} {
		t.Run(name, func(t *testing.T) {
			if output, err := run(tc.source, host); err != nil || !strings.HasPrefix(output, strings.TrimSuffix(tc.want, `"`)) {
				t.Fatalf("got  %s, %v\nwant %s", output, err, tc.want)
			}
		})
	}
	if output, err := run("def handler(_, c):\n  c.fetch(URL)"); err == nil || !strings.Contains(fault(t, err).Message, "allowHosts") || fault(t, err).Type != "FetchError" {
		t.Errorf("without hosts it gives %s, %v", output, err)
	}
}

func TestPythonSecrets(t *testing.T) {
	e := newPython(t)
	job := pythonTask("def handler(input, context): return context.secrets", func(c map[string]any) { c["secrets"] = []string{"KEY"} })
	job.Secrets = map[string]string{"KEY": "v", "OTHER": "w"}
	if output, err := e.Run(t.Context(), job); err != nil || string(output) != `{"KEY":"v"}` {
		t.Errorf("got %s, %v", output, err)
	}
}

func TestPythonThatIsMissing(t *testing.T) {
	e, err := New(Config{Python: "/does/not/exist"})
	if err != nil {
		t.Fatal(err)
	}
	if e.PythonAvailable() == nil || e.Available() != nil {
		t.Fatalf("code: %v, Python: %v", e.Available(), e.PythonAvailable())
	}
	_, err = e.Run(t.Context(), pythonTask("def handler(): return 1", nil))
	if got := fault(t, err); got.Code != runner.CodeNoSandbox || !got.Retryable || !strings.HasPrefix(got.Message, "this runner can not jail Python, so it runs none: ") {
		t.Errorf("got %+v", got)
	}
	if output, err := e.Run(t.Context(), task("function handler() { return 1 }", nil)); err != nil || string(output) != "1" {
		t.Errorf("JavaScript gives %s, %v", output, err)
	}
}

// BenchmarkPython runs a trivial function with a process that waits for it, and with one that is started for it.
func BenchmarkPython(b *testing.B) {
	job := pythonTask("def handler(input): return input['n'] + 1", nil)
	for name, ready := range map[string]int{"warm": 2, "started": 0} {
		b.Run(name, func(b *testing.B) {
			e := newPython(b)
			keepWarm(b, e, ready)
			e.python.want()
			var took []time.Duration
			for range b.N {
				b.StopTimer()
				if ready > 0 {
					eventually(b, "a sandbox is ready", func() bool { return len(e.python.idle) == ready })
				}
				b.StartTimer()
				began := time.Now()
				if output, err := e.Run(b.Context(), job); err != nil || string(output) != "21" {
					b.Fatalf("got %s, %v", output, err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
		})
	}
}
