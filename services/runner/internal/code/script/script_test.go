package script

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"turbocat.io/contracts/runner"
)

func run(t testing.TB, source, input string) (string, *runner.StepError, []string) {
	t.Helper()
	var lines []string
	output, fault := Run(Job{Files: []File{{"handler.js", []byte(source)}}, Input: []byte(input), Main: "handler.js", Entry: "handler"},
		func(level, message string) { lines = append(lines, level+" "+message) }, Network{})
	return string(output), fault, lines
}

func TestInputArrivesAsJavaScriptHasIt(t *testing.T) {
	const look = `function handler(v) { return String(v) + " " + (Object.is(v, -0) ? "-0" : JSON.stringify(v)) }`
	for input, want := range map[string]string{
		`null`:                         `null null`,
		`true`:                         `true true`,
		`-0`:                           `0 -0`,
		`1.5e3`:                        `1500 1500`,
		`9007199254740993`:             `9007199254740992 9007199254740992`,
		`1e400`:                        `Infinity null`,
		`-1e400`:                       `-Infinity null`,
		`1e-400`:                       `0 0`,
		`[]`:                           ` []`,
		`[1,[2,"x"],{}]`:               `1,2,x,[object Object] [1,[2,"x"],{}]`,
		`{"b":1,"a":{"c":null},"b":2}`: `[object Object] {"b":2,"a":{"c":null}}`,
		`{"__proto__":{"x":1},"10":1}`: `[object Object] {"10":1,"__proto__":{"x":1}}`,
		`"é\ud83d\udc08\u0000"`:        "é🐈\x00 \"é🐈\\u0000\"",
		" {\n\"a\" : [ 1 , 2 ] }\t":    `[object Object] {"a":[1,2]}`,
		strings.Repeat("[", 9) + strings.Repeat("]", 9): ` [[[[[[[[[]]]]]]]]]`,
	} {
		output, fault, _ := run(t, look, input)
		var got string
		if fault != nil || json.Unmarshal([]byte(output), &got) != nil || got != want {
			t.Errorf("%s: got %s, %v, wanted %q", input, output, fault, want)
		}
	}
}

func TestTimersRunInOrder(t *testing.T) {
	output, fault, lines := run(t, `async function handler() {
		const later = (ms, ...words) => new Promise(done => setTimeout((...w) => { console.log(...w); done() }, ms, ...words));
		const cleared = setTimeout(() => console.log("cleared"), 1);
		clearTimeout(cleared); clearTimeout(cleared); clearTimeout(); clearTimeout("x");
		Promise.resolve().then(() => console.log("microtask"));
		await Promise.all([later(20, "third"), later(1, "first", 1), later(1, "second"), later(-5, "at once")]);
		setTimeout(() => console.log("never"), 0);
		return typeof cleared;
	}`, `null`)
	if output != `"number"` || fault != nil {
		t.Fatalf("got %s, %v", output, fault)
	}
	if got := strings.Join(lines, "|"); got != "INFO microtask|INFO at once|INFO first 1|INFO second|INFO third" {
		t.Fatalf("got %s", got)
	}
}

func TestHandledRejectionsAreSilent(t *testing.T) {
	output, fault, lines := run(t, `async function handler() {
		const late = Promise.reject(new Error("x"));
		await new Promise(r => setTimeout(r, 1));
		return late.catch(e => e.message);
	}`, `null`)
	if output != `"x"` || fault != nil || len(lines) != 0 {
		t.Fatalf("got %s, %v, %q", output, fault, lines)
	}
	_, fault, lines = run(t, `async function handler() { throw new Error("mine") }`, `null`)
	if fault == nil || fault.Message != "mine" || len(lines) != 0 {
		t.Fatalf("got %v, %q", fault, lines)
	}
}

func TestOurNamesStayOurs(t *testing.T) {
	output, fault, lines := run(t, `function handler(_, c) {
		try { setTimeout(7) } catch (e) { console.log(e) }
		try { [1].map(() => { null.x }) } catch (e) { console.log(e) }
		console.error(new Error("x", {toString() { throw 1 }}));
		return [console.log, console.log.name, setTimeout, c.logger.warn].map(String).join();
	}`, `null`)
	text := output + strings.Join(lines, "\n")
	if fault != nil || strings.Contains(text, "turbocat.io") || strings.Contains(text, "sobek") {
		t.Fatalf("got %s\n%v", text, fault)
	}
	if !strings.Contains(text, "handler.js:3:") {
		t.Fatalf("a stack lost its place: %s", text)
	}
}

func TestClip(t *testing.T) {
	for _, tc := range []struct {
		text  string
		limit int
		want  string
	}{
		{"", 4, ""},
		{"abcd", 4, "abcd"},
		{"abcde", 4, "ab.."},
		{"aéé", 4, "a.."},
		{"a\xffb", 9, "a\uFFFDb"},
	} {
		if got := clip(tc.text, tc.limit, ".."); got != tc.want || !utf8.ValidString(got) {
			t.Errorf("clip(%q, %d): got %q, wanted %q", tc.text, tc.limit, got, tc.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"a":[1,"x",null,true]}`, `[`, `{"__proto__":1}`, `-1e999`, `"\ud800"`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		h := newHost(func(string, string) {}, Network{})
		value, err := h.decode(text)
		if !json.Valid(text) {
			return // the parent does not send it
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if _, fault := h.encode(value); fault != nil {
			t.Fatalf("%q does not come back: %v", text, fault)
		}
	})
}
