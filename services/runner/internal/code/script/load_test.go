package script

import (
	"strings"
	"testing"

	"turbocat.io/contracts/runner"
)

// runFiles runs the handler of the first file.
func runFiles(t testing.TB, files ...File) (string, *runner.StepError, []string) {
	t.Helper()
	var lines []string
	output, fault := Run(Job{Files: files, Input: []byte(`{"n":2}`), Main: files[0].Name, Entry: "handler"},
		func(level, message string) { lines = append(lines, level+" "+message) }, Network{})
	return string(output), fault, lines
}

func file(name string, lines ...string) File { return File{name, []byte(strings.Join(lines, "\n"))} }

func TestTypeScript(t *testing.T) {
	output, fault, _ := runFiles(t, file("handler.ts",
		`interface Order { n: number }`,
		`enum Kind { Small = 1, Large }`,
		`type Answer = { kind: Kind; twice: number };`,
		`class Box<T> { #value: T; static made = 0; constructor(value: T) { this.#value = value; Box.made++ } get(): T { return this.#value } }`,
		`function handler(input: Order, context: unknown): Answer {`,
		`  const box = new Box<number>(input.n satisfies number);`,
		`  return { kind: Kind.Large, twice: box.get()! * 2 } as Answer;`,
		`}`))
	if fault != nil || output != `{"kind":2,"twice":4}` {
		t.Fatalf("got %s, %v", output, fault)
	}
}

// TestTypeScriptKeepsItsLines has an error after lines that JavaScript has none of: it is told where the author wrote it.
func TestTypeScriptKeepsItsLines(t *testing.T) {
	lines := []string{
		`interface A {`, `  a: string`, `}`, ``,
		`function fails(a: A): never {`,
		`  throw new TypeError("no " + a.a);`,
		`}`, ``,
		`async function handler() {`,
		`  type T = string;`,
		`  return fails({a: "luck" as T});`,
		`}`,
	}
	_, fault, _ := runFiles(t, file("handler.ts", lines...))
	if fault == nil || fault.Type != "TypeError" || fault.Message != "no luck" {
		t.Fatalf("got %+v", fault)
	}
	if want := "TypeError: no luck\n    at fails (handler.ts:6:8)\n    at handler (handler.ts:11:15)"; fault.Stack != want {
		t.Errorf("the stack is\n%s\nwant\n%s", fault.Stack, want)
	}
}

func TestModules(t *testing.T) {
	const shared = `export const factor: number = 3; export default function (n: number) { return n * factor }`
	for name, c := range map[string]struct {
		files []File
		want  string
	}{
		"an export":            {[]File{file("main.js", `export function handler(input) { return input.n }`)}, `2`},
		"the default export":   {[]File{file("main.ts", `export default async (input: {n: number}) => input.n`)}, `2`},
		"another file":         {[]File{file("main.ts", `import times, { factor } from "./lib/times";`, `export const handler = (input: {n: number}) => [times(input.n), factor]`), file("lib/times.ts", shared)}, `[6,3]`},
		"a file by .js":        {[]File{file("main.ts", `import times from "./lib/times.js"; export { times }; export const handler = ({n}: {n: number}) => times(n)`), file("lib/times.ts", shared)}, `6`},
		"from where it stands": {[]File{file("main.js", `export * from "./a/b.mjs"`), file("a/b.mjs", `import { two } from "../two.js"; export function handler() { return two }`), file("two.js", `export const two = 2`)}, `2`},
		"each other":           {[]File{file("main.js", `import { other } from "./other.js"; export const one = () => 1; export const handler = () => other()`), file("other.js", `import { one } from "./main.js"; export const other = () => one() + 1`)}, `2`},
		"when it is needed":    {[]File{file("main.js", `export async function handler() { return (await import("./two.js")).two }`), file("two.js", `export const two = 2`)}, `2`},
		"from a script":        {[]File{file("main.js", `async function handler() { return (await import("./two.js")).two }`), file("two.js", `export const two = 2`)}, `2`},
		"after a wait":         {[]File{file("main.js", `const n = await new Promise(done => setTimeout(done, 1, 7)); export const handler = () => n`)}, `7`},
		"types alone":          {[]File{file("main.ts", `import type { T } from "./types"; export const handler = (t: T) => t`), file("types.ts", `export type T = {n: number}`)}, `{"n":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			if output, fault, _ := runFiles(t, c.files...); fault != nil || output != c.want {
				t.Errorf("got %s, %v, want %s", output, fault, c.want)
			}
		})
	}
}

// TestWhatTheEngineLacks has code that is put in other words for it, and errors of it where its author wrote them.
func TestWhatTheEngineLacks(t *testing.T) {
	const generate = `async function* count() { yield 1; yield 2 }`
	for name, c := range map[string]string{
		"a.js":  "async function handler() {\n" + generate + "\nlet sum = 0; for await (const n of count()) sum += n; return sum }",
		"b.mjs": generate + "\nexport async function handler() { let sum = 0; for await (const n of count()) sum += n; return sum }",
		"c.ts":  generate + "\nexport async function handler(): Promise<number> { let sum: number = 0; for await (const n of count()) sum += n; return sum }",
	} {
		if output, fault, _ := runFiles(t, file(name, c)); fault != nil || output != `3` {
			t.Errorf("%s gives %s, %v", name, output, fault)
		}
	}
	_, fault, _ := runFiles(t, file("a.js", generate, `async function handler() {`, `  for await (const n of count()) {`, `    null.x;`, `  }`, `}`))
	if fault == nil || !strings.Contains(fault.Stack, "(a.js:4:") {
		t.Errorf("%v %s", fault, fault.Stack)
	}
}

func TestModulesThatDoNotLoad(t *testing.T) {
	for name, c := range map[string]struct {
		files []File
		want  string
	}{
		"a package":          {[]File{file("main.js", `import x from "lodash"; export const handler = x`)}, `main.js imports "lodash", and no file of the agent is that; import one of config.files, as "./name.js"`},
		"a file of the host": {[]File{file("main.js", `import x from "/etc/passwd"; export const handler = x`)}, `main.js imports "/etc/passwd", and no file of the agent is that; import one of config.files, as "./name.js"`},
		"beyond the files":   {[]File{file("main.js", `import x from "../../../etc/passwd"; export const handler = x`)}, `main.js imports "../../../etc/passwd", and no file of the agent is that; import one of config.files, as "./name.js"`},
		"a module of Node":   {[]File{file("main.js", `import fs from "node:fs"; export const handler = fs`)}, `main.js imports "node:fs", and no file of the agent is that; import one of config.files, as "./name.js"`},
		"a script":           {[]File{file("main.js", `import x from "./x.js"; export const handler = x`), file("x.js", `var x`)}, `main.js imports x.js, which exports nothing; write export before what it is to give`},
		"what is not there":  {[]File{file("main.js", `import { y } from "./x.js"; export const handler = y`), file("x.js", `export const x = 1`)}, `main.js`},
		"what throws":        {[]File{file("main.js", `throw new RangeError("at once"); export const handler = 1`)}, `at once`},
		"a broken file":      {[]File{file("main.js", `import { x } from "./x.js"; export const handler = x`), file("x.js", `export const x = 1;`, `let = ;`)}, `in x.js line 2 column 7`},
		"a broken module":    {[]File{file("main.js", `export const handler = () => 1;`, `let = ;`)}, `in main.js line 2 column 7`},
		"broken TypeScript":  {[]File{file("main.ts", `const n: number = 1;`, `function handler(: string) {}`)}, `Expected identifier but found ":", in main.ts line 2 column 18`},
		"no export":          {[]File{file("main.js", `export const other = 1`)}, `config.entry: "handler" is not a function that main.js exports; write export function handler(input, context), or name one that is exported`},
	} {
		t.Run(name, func(t *testing.T) {
			_, fault, _ := runFiles(t, c.files...)
			if fault == nil || !strings.Contains(fault.Message, c.want) || (fault.Retryable && name != "what throws") {
				t.Fatalf("got %+v, want %s", fault, c.want)
			}
		})
	}
	_, fault, _ := runFiles(t, file("main.js", `export async function handler() { try { await import("fs") } catch (e) { return e.message } }`))
	if fault != nil {
		t.Errorf("an import that is caught: %+v", fault)
	}
}

// TestSourceMapsOfTheCodeAreNotRead has code that names a file of the host as its source map. What TypeScript says in itself of its lines counts: it comes
// from whoever made the file.
func TestSourceMapsOfTheCodeAreNotRead(t *testing.T) {
	for _, name := range []string{"handler.js", "handler.ts"} {
		for _, url := range []string{"/etc/passwd", "file:///etc/passwd"} {
			_, fault, _ := runFiles(t, file(name, `function handler() { null.x }`, `//# sourceMappingURL=`+url))
			if fault == nil || fault.Code != runner.CodeError || !strings.Contains(fault.Stack, name+":1:") {
				t.Errorf("%s with %s: %+v %s", name, url, fault, fault.Stack)
			}
		}
	}
}
