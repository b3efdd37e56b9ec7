//go:build unix

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
)

// TestDataStaysData has texts that mean something elsewhere go through an agent, a step's inputs and the outputs of the execution.
func TestDataStaysData(t *testing.T) {
	t.Parallel()
	c := user(t)
	workflow := c.workflow(t, []object{
		{"stepKey": "a", "stepType": "AGENT", "agentId": c.code(t, `function handler({v}) { return {v} }`), "inputs": object{"v": "{{inputs.v}}"}},
		{"stepKey": "b", "stepType": "AGENT", "agentId": c.agent(t, catalog.AgentData, object{"operation": "unique"}), "dependsOn": []string{"a"}, "inputs": object{"data": []any{"{{a.output.v}}"}}},
	}, object{"outputs": object{"v": "{{b.output.data[0]}}", "text": "({{a.output.v.s}})"}})
	for _, s := range []string{
		"{{inputs.v}}", "{{a.output.v}}", "{{secrets.API_TOKEN}}", "{{metadata.executionId}}", "}}{{", "${7*7}", "<%= 7*7 %>", "__proto__", "constructor", "'; DROP TABLE executions; --", "\u2028\u202e\ufeff", "\\u0041", "%7B%7Binputs.v%7D%7D",
	} {
		v := object{"s": s, s: s, "__proto__": object{"polluted": s}, "list": []any{s, object{"constructor": object{"prototype": s}}}}
		want, _ := json.Marshal(v) // made of what encodes
		var got struct{ V, Text json.RawMessage }
		e := c.run(t, workflow, object{"v": v})
		if err := json.Unmarshal(e.Outputs, &got); err != nil {
			t.Fatalf("%v in %+v", err, e)
		}
		var text string
		if err := json.Unmarshal(got.Text, &text); err != nil || text != "("+s+")" {
			t.Errorf("%q is %q in a text, %v", s, text, err)
		}
		var is, was any
		if json.Unmarshal(got.V, &is) != nil || json.Unmarshal(want, &was) != nil || fmt.Sprint(is) != fmt.Sprint(was) {
			t.Errorf("it is %s, and was %s", got.V, want)
		}
	}
}

// TestBombs saves, or runs, what is small and takes for ever. Each ends in an error by name and in time, and others run on meanwhile.
func TestBombs(t *testing.T) {
	t.Parallel()
	c, other := user(t), user(t)
	condition := func(expression string) []object {
		return []object{{"stepKey": "a", "stepType": "CONDITION", "config": object{"expression": expression, "then": []string{}, "else": []string{}}}}
	}
	for name, steps := range map[string][]object{
		"1 MiB of expression":             condition("inputs.a == '" + strings.Repeat("x", 1<<20-2000) + "'"),
		"a chain of operators":            condition("1" + strings.Repeat("+1", 2000)),
		"a regular expression that grows": condition(`inputs.s matches "((((a{1,100}){1,100}){1,100}){1,100})"`),
		"a path without end":              {{"stepKey": "a", "stepType": "WAIT", "inputs": object{"v": "{{inputs" + strings.Repeat(".a", 100_000) + "}}"}, "config": object{"durationMs": 1}}},
	} {
		began := time.Now()
		got := c.do(t, "POST", "/workflows", object{"name": "bomb", "status": "ACTIVE", "steps": steps})
		fault(t, got, errs.Validation)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: refused after %s", name, took)
		}
	}
	quick := other.workflow(t, condition("inputs.n > 1"))
	many := make([]int, 3000)
	for name, expression := range map[string]string{
		"loops in loops":    `count(inputs.list, any(inputs.list, {# == 1})) > 0`,
		"a text that grows": `len(join(map(inputs.list, {join(map(inputs.list, {"xxxxxxxxxxxxxxxxxxxx"}))}))) > 0`,
	} {
		workflow := data[catalog.Workflow](t, c.do(t, "POST", "/workflows", object{"name": "bomb", "status": "ACTIVE", "steps": condition(expression)}), 201).ID
		began := time.Now()
		e := data[object](t, c.do(t, "POST", "/workflows/"+workflow+"/execute?wait=60s", object{"inputs": object{"list": many}}), 200)
		if failure, _ := e["error"].(object); e["status"] != "FAILED" || failure["code"] != "EXPRESSION_ERROR" {
			t.Errorf("%s: %v", name, e)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s took %s", name, took)
		}
		other.run(t, quick, object{"n": 2})
	}
}

// TestLogLinesAreOneObjectEach puts what breaks lines, colours terminals and closes strings wherever a client's text may end up in a log.
func TestLogLinesAreOneObjectEach(t *testing.T) {
	t.Parallel()
	c := user(t)
	evil := "evil\r\n{\"level\":\"forged\"}\x1b[31m\u2028\"'\\"
	agent := c.code(t, `function handler(i, {logger}) { logger.info(i.v); console.log(i.v); throw new Error(i.v) }`)
	for _, name := range []string{evil, "\x1b]0;title\x07"} {
		c.do(t, "POST", "/agents", object{"name": name, "type": "CODE", "config": object{"runtime": "javascript", "source": name}})
		c.do(t, "GET", "/agents?search="+url.QueryEscape(name), nil)
		c.do(t, "POST", "/auth/login", object{"email": name + "@example.com", "password": name})
		c.do(t, "GET", "/executions/"+url.PathEscape(name), nil, "X-Request-ID", "a b", "traceparent", `"}`)
		rawHeaders(t, c, "User-Agent: x\x1b[31m"+strings.Repeat("y", 1000)+"\r\nX-Request-ID: a\x1b[0m\r\n")
		e := c.run(t, c.workflow(t, []object{step("a", agent, inputs(object{"v": "{{inputs.v}}"}))}), object{"v": name})
		if e.Status != "FAILED" || e.Error == nil || e.Error.Message != name {
			t.Errorf("the error is told as %+v", e.Error)
		}
	}
	i := home(t)
	if i.output == "" {
		t.Skip("SKIPPED: the log of an installation that was not started here is not known")
	}
	log, err := os.ReadFile(filepath.Join(i.data, "turbocat.log"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(string(log), "\n"), "\n")
	for n, line := range lines[:len(lines)-1] { // the last may still be written
		var o struct{ Level string }
		if err := json.Unmarshal([]byte(line), &o); err != nil || o.Level == "forged" || strings.ContainsAny(line, "\x1b\r\x07") {
			t.Fatalf("line %d is %q, %v", n+1, line, err)
		}
	}
	t.Logf("%d lines", len(lines))
}

// rawHeaders sends headers that no client of Go's sends, and wants some answer.
func rawHeaders(t *testing.T, c *client, headers string) {
	t.Helper()
	host := strings.TrimPrefix(c.url, "http://")
	conn, err := net.DialTimeout("tcp", host, endWithin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(endWithin)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET /api/v1/users/me HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n", host, headers); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 4")) || bytes.Contains(got, []byte("\x1b")) {
		t.Errorf("%q, %v", got, err)
	}
}
