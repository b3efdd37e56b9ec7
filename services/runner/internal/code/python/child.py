# The inside of a sandbox that runs Python: it is handed to the interpreter as a text, in a process that is jailed
# already, and speaks the frames of package frame. It sets its own limits before it reads anything of the job.
import asyncio
import importlib.abc
import importlib.util
import inspect
import io
import json
import linecache
import os
import resource
import sys
import threading
import traceback

MAX_LINE, MAX_LINES, MAX_OUTPUT, MAX_FETCHES, MAX_FETCHES_AT_ONCE, MAX_FETCH_BODY, BASE_MEMORY = (int(a) for a in sys.argv[1:8])
MAX_MESSAGE, MAX_TYPE, MAX_STACK = 8 << 10, 256, 16 << 10
CUT = "... (cut)"
OUT_OF_MEMORY = json.dumps({"code": "MEMORY_LIMIT", "message": "the code ran out of memory; use less, or raise config.memoryMb"}).encode()

jobs = open(0, "rb", buffering=1 << 16, closefd=False)
writing = threading.Lock()


def read():
    header = jobs.read(5)
    if len(header) < 5:
        os._exit(96)
    return header[:1], jobs.read(int.from_bytes(header[1:], "big"))


def write(kind, body=b""):
    whole = memoryview(kind + len(body).to_bytes(4, "big") + body)
    with writing:
        while whole:
            whole = whole[os.write(3, whole):]


def clip(text, most):
    raw = text.encode("utf-8", "replace")
    if len(raw) <= most:
        return raw.decode("utf-8")
    return raw[:most - len(CUT)].decode("utf-8", "ignore") + CUT


class Lines(io.TextIOBase):
    """A stream whose lines are log lines."""

    sent = 0

    def __init__(self, level):
        self.level, self.begun = level, ""

    def writable(self):
        return True

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        *lines, self.begun = (self.begun + text).split("\n")
        for line in lines:
            self.say(line)
        if len(self.begun) > 2 * MAX_LINE:
            self.say(self.begun)
            self.begun = ""
        return len(text)

    def end(self):
        if self.begun:
            self.say(self.begun)
            self.begun = ""

    def say(self, line):
        with writing:
            Lines.sent += 1
            if Lines.sent > MAX_LINES + 1:
                return
        write(b"L", self.level + clip(line, MAX_LINE).encode("utf-8"))


class Logger:
    """What context.logger is."""

    def debug(self, *values):
        self._say(b"D", values)

    def info(self, *values):
        self._say(b"I", values)

    def warn(self, *values):
        self._say(b"W", values)

    warning = warn

    def error(self, *values):
        self._say(b"E", values)

    @staticmethod
    def _say(level, values):
        Lines(level).say(" ".join(str(v) for v in values))


class FetchError(ConnectionError):
    """Why there is no response."""


class Response:
    """What came of a fetch, whatever its status."""

    def __init__(self, head, body):
        self.status, self.url, self.redirected, self.body = head.get("status", 0), head.get("url", ""), head.get("redirected", False), body
        self.headers = {}
        for name, value in head.get("headers") or []:
            self.headers[name] = self.headers[name] + ", " + value if name in self.headers else value

    @property
    def ok(self):
        return 200 <= self.status < 300

    def text(self):
        return self.body.decode("utf-8", "replace")

    def json(self):
        return json.loads(self.body)


class Network:
    """Has the runner fetch: this process can reach nobody. Threads may fetch side by side; what is beyond waits."""

    def __init__(self):
        self.starting, self.places = threading.Lock(), threading.BoundedSemaphore(MAX_FETCHES_AT_ONCE)
        self.number, self.waiting = 0, {}

    def fetch(self, url, method="GET", headers=None, body=None, json=None, redirect="follow"):
        sent = [[str(name), str(value)] for name, value in (headers or {}).items()]
        if json is not None:
            if body is not None:
                raise ValueError("give body or json, not both")
            body = _encode(json)
            if not any(name.lower() == "content-type" for name, _ in sent):
                sent.append(["Content-Type", "application/json"])
        if isinstance(body, str):
            body = body.encode("utf-8")
        body = bytes(body or b"")
        if len(body) > MAX_FETCH_BODY:
            raise ValueError(f"the body of a request may have {MAX_FETCH_BODY} bytes, not {len(body)}")
        with self.places:
            head, body = self.ask({"method": str(method).upper(), "url": str(url), "headers": sent, "redirect": redirect}, body)
        if head.get("error"):
            raise FetchError(head["error"])
        return Response(head, body)

    def ask(self, request, body):
        done = threading.Event()
        with self.starting:
            if self.number == MAX_FETCHES:
                raise FetchError(f"an attempt may fetch {MAX_FETCHES} times; fetch more at a time, or split the work into several steps")
            if self.number == 0:
                threading.Thread(target=self.listen, daemon=True).start()
            self.number += 1
            request["id"] = self.number
            self.waiting[self.number] = slot = [done]
        head = _encode(request)
        write(b"Q", len(head).to_bytes(4, "big") + head + body)
        done.wait()
        return slot[1:]

    def listen(self):
        while True:
            _, packed = read()
            size = 4 + int.from_bytes(packed[:4], "big")
            head = json.loads(packed[4:size])
            slot = self.waiting.pop(head["id"])
            slot += [head, packed[size:]]
            slot[0].set()


def _encode(value):
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")


class Context:
    """What the function learns of the attempt it runs in."""

    def __init__(self, job):
        self.executionId, self.stepKey = job["executionId"], job["stepKey"]
        self.attempt, self.idempotencyKey = job["attempt"], job["idempotencyKey"]
        self.secrets = job["secrets"] or {}
        self.logger = Logger()
        self.fetch = Network().fetch


class Files(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports the files of the agent: util.py as util, lib/a.py as lib.a, lib/__init__.py as lib."""

    def __init__(self, files):
        self.files, self.modules, self.folders = files, {}, set()
        for name in files:
            if not name.endswith(".py"):
                continue
            parts = name[:-3].split("/")
            for n in range(1, len(parts)):
                self.folders.add(".".join(parts[:n]))
            if parts[-1] == "__init__":
                parts.pop()
            if parts:
                self.modules[".".join(parts)] = name

    def find_spec(self, name, path=None, target=None):
        if name not in self.modules and name not in self.folders:
            return None
        spec = importlib.util.spec_from_loader(name, self, origin=self.modules.get(name), is_package=name in self.folders)
        spec.has_location = name in self.modules
        return spec

    def is_package(self, name):
        return name in self.folders

    def get_source(self, name):
        return self.files.get(self.modules.get(name), "")

    def get_code(self, name):
        return compile(self.get_source(name), self.modules.get(name, name), "exec", dont_inherit=True)


def failure(code, message, kind="", stack="", retryable=False):
    fault = {"code": code, "message": clip(message, MAX_MESSAGE), "retryable": retryable}
    if kind:
        fault["type"] = clip(kind, MAX_TYPE)
    if stack:
        fault["stack"] = clip(stack.strip(), MAX_STACK)
    return b"F", json.dumps(fault).encode("utf-8", "replace")


def thrown(error, files):
    kind = type(error).__name__
    if isinstance(error, MemoryError):
        return b"F", OUT_OF_MEMORY
    if isinstance(error, SyntaxError) and error.filename in files:
        return failure("SYNTAX_ERROR", f"in {error.filename} line {error.lineno} column {error.offset}: {error.msg}", kind)
    try:
        told = traceback.TracebackException.from_exception(error, limit=-200)
        each = told
        while each is not None:  # of the frames those of the author
            each.stack = traceback.StackSummary.from_list([f for f in each.stack if f.filename in files])
            each = each.__cause__ or each.__context__
        stack = "".join(told.format())
    except Exception:  # a hostile __str__
        stack = ""
    try:
        message = str(error)
    except Exception:
        message = f"[{kind}]"
    retryable = True
    try:
        retryable = getattr(error, "retryable", True) is not False
    except Exception:
        pass
    return failure("CODE_ERROR", message, kind, stack, retryable)


def load(job, files):
    finder = Files(files)
    sys.meta_path.insert(0, finder)
    for name, text in files.items():
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    main = job["main"]
    module = type(sys)("__main__")
    module.__file__ = main
    sys.modules["__main__"] = module
    exec(compile(files[main], main, "exec", dont_inherit=True), module.__dict__)
    return module.__dict__.get(job["entry"])


def arguments(handler, both):
    """A function that takes less is given less."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return both
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return both
    return both[:sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)]


async def awaited(value):
    return await value


def run(job, files, given):
    handler = load(job, files)
    if not callable(handler):
        return failure("INVALID_CONFIG", f'"{job["entry"]}" is not a function of {job["main"]}; define it, or name another in config.entry')
    result = handler(*arguments(handler, (json.loads(given), Context(job))))
    if inspect.isawaitable(result):
        result = asyncio.run(awaited(result))
    try:
        output = json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except MemoryError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        return failure("INVALID_OUTPUT", f"the result is no JSON: {error}", type(error).__name__)
    if len(output) > MAX_OUTPUT:
        return failure("OUTPUT_LIMIT", f"the output has {len(output)} bytes of JSON, more than {MAX_OUTPUT}; return less")
    return b"O", output


def serve():
    sys.argv[1:] = []
    os.environ.clear()
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), Lines(b"I"), Lines(b"E")
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    write(b"R")
    kind, body = read()
    limits = json.loads(body)
    memory, seconds = BASE_MEMORY + limits["Memory"], limits["CPUSeconds"]
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    write(b"J")
    job, files, given = {}, {}, b""
    while kind != b"I":
        kind, body = read()
        if kind == b"C":
            job = json.loads(body)
        elif kind == b"S":
            name, _, text = body.partition(b"\0")
            files[name.decode("utf-8")] = text.decode("utf-8", "replace")
        elif kind == b"I":
            given = body
    try:
        answer = run(job, files, given)
    except BaseException as error:  # also SystemExit, of which the process shall not end without an answer
        answer = thrown(error, files)
    sys.stdout.end()
    sys.stderr.end()
    write(*answer)
    os._exit(0)


serve()
