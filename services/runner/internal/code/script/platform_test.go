package script

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestPlatform runs testdata/platform.js, whose functions give values; testdata/platform.json has what Node.js makes of them.
func TestPlatform(t *testing.T) {
	source, err := os.ReadFile("testdata/platform.js")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("testdata/platform.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]json.RawMessage
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	output, fault, lines := run(t, string(source), `null`)
	if fault != nil || len(lines) > 0 {
		t.Fatalf("%v %s %q", fault, fault.Stack, lines)
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal([]byte(output), &got); err != nil {
		t.Fatal(err)
	}
	for name, value := range want {
		if string(got[name]) != string(value) {
			t.Errorf("%s\n gives %s\nnot    %s", name, got[name], value)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("testdata/platform.json lacks %s", name)
	}
}

// TestNamesOfThePlatformAreTheCodesToTake has code that declares them itself.
func TestNamesOfThePlatformAreTheCodesToTake(t *testing.T) {
	for source, want := range map[string]string{
		`const URL = 1; function handler() { return [URL, typeof TextEncoder] }`:                                `[1,"function"]`,
		`var crypto = 1; function handler() { return [crypto, typeof URL] }`:                                    `[1,"function"]`,
		`function atob() { return 1 } function handler() { return [atob(), btoa("a")] }`:                        `[1,"YQ=="]`,
		`class URLSearchParams {} function handler() { return new URL("http://a/?b=1").searchParams.get("b") }`: `"1"`,
		`function handler() { globalThis.btoa = 1; return [btoa, atob("YQ==")] }`:                               `[1,"a"]`,
		`function handler() { const before = structuredClone; return before === structuredClone }`:              `true`,
		`function handler() { return Object.keys(globalThis) }`:                                                 `["setTimeout","clearTimeout","setInterval","clearInterval","console","handler"]`,
		`function handler() { delete globalThis.crypto; return typeof crypto }`:                                 `"undefined"`,
		`Error = 1; function handler() { try { URL } catch (e) { return e instanceof TypeError } }`:             `true`,
	} {
		output, fault, _ := run(t, source, `null`)
		if fault != nil || output != want {
			t.Errorf("%s\ngives %s, %v, not %s", source, output, fault, want)
		}
	}
}

func TestRandom(t *testing.T) {
	output, fault, _ := run(t, `function handler() {
		const uuids = new Set(Array.from({length: 100}, () => crypto.randomUUID()));
		const words = crypto.getRandomValues(new Uint32Array(100));
		const wrong = [new Float32Array(1), new Uint8Array(65537), {}].map(a => { try { crypto.getRandomValues(a); return "" } catch (e) { return e.name } });
		return [uuids.size, [...uuids].every(u => /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(u)), new Set(words).size > 90, wrong];
	}`, `null`)
	if want := `[100,true,true,["TypeMismatchError","QuotaExceededError","TypeMismatchError"]]`; fault != nil || output != want {
		t.Fatalf("%s, %v, not %s", output, fault, want)
	}
}

func TestIntervals(t *testing.T) {
	output, fault, lines := run(t, `async function handler() {
		let count = 0, other = 0;
		const forEver = setInterval(() => other++, 0);
		await new Promise(done => { const i = setInterval(word => { console.log(word, ++count); if (count === 3) { clearInterval(i); clearInterval(i); setTimeout(done, 5) } }, 1, "tick") });
		clearTimeout(forEver);
		return [count, other >= 3];
	}`, `null`)
	if output != `[3,true]` || fault != nil || strings.Join(lines, "|") != "INFO tick 1|INFO tick 2|INFO tick 3" {
		t.Fatalf("got %s, %v, %q", output, fault, lines)
	}
	if _, fault, _ := run(t, `function handler() { setInterval(7) }`, `null`); fault == nil || !strings.Contains(fault.Message, "setInterval needs a function") {
		t.Errorf("got %v", fault)
	}
}
