//go:build unix

package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	contract "turbocat.io/contracts/orchestrator"
	contracts "turbocat.io/contracts/runner"
)

// payload is an output that an agent makes, and what must become of its step.
type payload struct {
	name   string
	agent  string
	makes  string // source of a CODE agent, the answer that an API agent gets, or a value that a DATA agent passes on
	output string // "" for none
	code   string // of the error
}

// text gives a JSON string of n bytes.
func text(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }

func nested(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }

// payloads are those of R29, each by the agents that can make it.
func payloads() []payload {
	var all []payload
	code := func(name, result, output, code string) {
		all = append(all, payload{"CODE, " + name, "CODE", `function handler() { ` + result + ` }`, output, code})
	}
	api := func(name, answer, output, code string) {
		all = append(all, payload{"API, " + name, "API", answer, output, code})
	}
	data := func(name, value, output, code string) {
		all = append(all, payload{"DATA, " + name, "DATA", value, output, code})
	}
	sizes := []int{contracts.MaxInline, contracts.MaxInline + 1, 1<<20 - 1, 1 << 20, 1<<20 + 1}
	if full {
		sizes = append(sizes, contracts.MaxOutput-1<<10) // with what is around it
	}
	for _, n := range sizes {
		name := fmt.Sprintf("%d bytes", n)
		code(name, fmt.Sprintf("return 'x'.repeat(%d)", n-2), text(n), "")
		api(name, text(n), text(n), "")
		data(name, text(n), text(n), "")
	}
	if full {
		code("64 MiB", "return 'x'.repeat(2 ** 26 - 2)", text(contracts.MaxOutput), "")
		code("64 MiB and a byte", "return 'x'.repeat(2 ** 26 - 1)", "", contracts.CodeOutputLimit)
		api("64 MiB and a byte", text(contracts.MaxOutput+1), "", contracts.CodeOutputLimit)
	}
	code("1,000 levels", "let a = []; for (let i = 1; i < 1000; i++) a = [a]; return a", nested(1000), "")
	code("10,000 levels", "let a = []; for (let i = 1; i < 10000; i++) a = [a]; return a", "", contracts.CodeInvalidOutput)
	api("999 levels", nested(999), nested(999), "")
	api("10,000 levels", nested(10_000), "", contracts.CodeInvalidOutput)
	api("100,000 levels", nested(100_000), "", contracts.CodeInvalidOutput)
	code("NUL", `return {'\u0000': 'a\u0000b'}`, `{"\u0000":"a\u0000b"}`, "")
	api("NUL", `{"\u0000":"a\u0000b"}`, `{"\u0000":"a\u0000b"}`, "")
	api("a byte that is NUL", "\"a\x00b\"", "", contracts.CodeInvalidOutput)
	data("NUL", `{"\u0000":"a\u0000b"}`, `{"\u0000":"a\u0000b"}`, "")
	code("half a character", `return '\ud800'`, `"\ud800"`, "")
	api("bad UTF-8", "\"\xff\"", "\"\ufffd\"", "") // as browsers read it
	data("half a character", `"\ud800"`, `"\ud800"`, "")
	for _, value := range []string{"null", `[1,[],{}]`, "-0.0e-5", "12345678901234567890123"} {
		api(value, value, value, "")
		data(value, value, value, "")
	}
	code("null", "return null", "null", "")
	code("nothing", "", "null", "")
	code("array", "return [1, [], {}]", `[1,[],{}]`, "")
	code("1e400", "return 1e400", "null", "") // as JavaScript has it
	api("1e400", "1e400", "1e400", "")
	data("1e400", "1e400", "1e400", "")
	return all
}

// TestR29Payloads has CODE, API and DATA agents make outputs that are large, deep, or hard to keep: what comes is as it was made, also for the
// step behind it, or the step fails with a reason.
func TestR29Payloads(t *testing.T) {
	c := newCheck(t, "R29", 1, 1)
	all := payloads()
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(strings.Trim(r.URL.Path, "/"))
		if err != nil || n >= len(all) {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, all[n].makes)
	}))
	defer answers.Close()
	maker := &maker{planner: c.newPlanner("maker@payloads.dev"), client: &http.Client{Timeout: 2 * time.Minute}}
	defer maker.client.CloseIdleConnections()
	maker.behind = maker.agent("CODE", `{"runtime":"javascript","memoryMb":1024,"source":"function handler(input) { return input.is === null ? 'null' : typeof input.is }"}`)

	begin := time.Now()
	ids := make([]string, len(all))
	for i, p := range all {
		ids[i] = maker.begin(p, answers.URL+"/"+strconv.Itoa(i))
	}
	for i, p := range all {
		c.eventually(endWithin, func() error {
			if left := rowsOf[int](c.laboratory, `SELECT count(*) FROM executions WHERE completed_at IS NULL AND id = '`+ids[i]+`'`)[0]; left > 0 {
				return fmt.Errorf("%s: the execution %s has not ended", p.name, ids[i])
			}
			return nil
		})
		if problem := maker.judge(p, ids[i]); problem != "" {
			c.problems = append(c.problems, p.name+": "+problem)
		}
	}
	c.number("%d outputs in %.1f s", len(all), time.Since(begin).Seconds())
	for _, p := range append(append(c.of(orchestrator), c.of(gateway)...), c.of(runner)...) {
		c.number("%s: at most %d MiB", p.name, p.peak()>>20)
	}
	maker.close()
}

// maker is a user who has outputs made.
type maker struct {
	*planner
	client *http.Client
	behind string // an agent that tells what it is given
}

func (m *maker) agent(kind, config string) string {
	m.t.Helper()
	return asked[thing](m.planner, http.MethodPost, "/agents", `{"name":"a","type":"`+kind+`","status":"ACTIVE","config":`+config+`}`).ID
}

// begin executes a workflow of a step that makes a payload, and one behind it.
func (m *maker) begin(p payload, url string) (id string) {
	m.t.Helper()
	config, step, inputs := "", "{}", "{}"
	switch p.agent {
	case "CODE":
		source, err := json.Marshal(p.makes)
		if err != nil {
			m.t.Fatal(err)
		}
		config = `{"runtime":"javascript","memoryMb":1024,"source":` + string(source) + `}`
	case "API":
		config = `{"method":"GET","url":"` + url + `","responseType":"json"}`
	case "DATA":
		config, step = `{"operation":"pick","fields":["v"]}`, `{"data":"{{inputs.rows}}"}`
		inputs = `{"rows":[{"v":` + p.makes + `}]}`
	}
	workflow := asked[thing](m.planner, http.MethodPost, "/workflows", fmt.Sprintf(`{"name":"w","status":"ACTIVE","outputs":{"what":"{{behind.output}}"},"steps":[
		{"stepKey":"makes","stepType":"AGENT","agentId":%q,"inputs":%s},
		{"stepKey":"behind","stepType":"AGENT","agentId":%q,"dependsOn":["makes"],"inputs":{"is":"{{makes.output}}"}}]}`, m.agent(p.agent, config), step, m.behind)).ID
	var answer struct{ Data thing }
	if status, err := m.do(http.MethodPost, "/workflows/"+workflow+"/execute", `{"inputs":`+inputs+`}`, &answer); err != nil || status != http.StatusCreated {
		m.t.Fatalf("%s: the execute answers %d, %v", p.name, status, err)
	}
	return answer.Data.ID
}

// do makes a request of any size.
func (m *maker) do(method, path, body string, answer any) (status int, err error) {
	req, err := http.NewRequestWithContext(m.t.Context(), method, m.door+"/api/v1"+path, bytes.NewBufferString(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+m.token)
	resp, err := m.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode, json.NewDecoder(resp.Body).Decode(answer)
}

// judge tells what is wrong with an execution that has ended; "" for nothing.
func (m *maker) judge(p payload, id string) string {
	var answer struct{ Data contract.Execution }
	if status, err := m.do(http.MethodGet, "/executions/"+id, "", &answer); err != nil || status != http.StatusOK {
		return fmt.Sprintf("it is shown as %d, %v", status, err)
	}
	x := answer.Data
	if p.code != "" {
		if x.Status != contract.ExecutionFailed || x.Error == nil || x.Error.Code != p.code || x.Error.StepKey != "makes" {
			return fmt.Sprintf("it is %s with %v, want %s", x.Status, x.Error, p.code)
		}
		return ""
	}
	whole := len(p.output) == contracts.MaxOutput // with anything around it, it is too much for the step behind it
	if whole && (x.Status != contract.ExecutionFailed || x.Error.Code != contracts.CodeInputLimit || x.Error.StepKey != "behind") || !whole && x.Status != contract.ExecutionCompleted {
		return fmt.Sprintf("it is %s with %v", x.Status, x.Error)
	}
	got, err := p.found(x.Steps[0].Output)
	if err != nil || string(got) != p.output {
		return fmt.Sprintf("the output of %d bytes is %.100s, want %d, %.100s; %v", len(got), got, len(p.output), p.output, err)
	}
	if want := p.typeOf(x.Steps[0].Output); !whole && string(x.Outputs) != `{"what":"`+want+`"}` {
		return fmt.Sprintf("the step behind it is given a %s, want %s", x.Outputs, want)
	}
	return ""
}

// found gives what was made as it stands in an agent's output.
func (p payload) found(output json.RawMessage) (json.RawMessage, error) {
	var of struct {
		Body json.RawMessage
		Data []struct{ V json.RawMessage }
	}
	if p.agent == "CODE" {
		return output, nil
	}
	if err := json.Unmarshal(output, &of); err != nil || p.agent == "DATA" && len(of.Data) != 1 {
		return output, fmt.Errorf("%.100s is no output of %s: %w", output, p.agent, err)
	}
	if p.agent == "DATA" {
		return of.Data[0].V, nil
	}
	return of.Body, nil
}

// typeOf is what JavaScript calls a value.
func (payload) typeOf(output json.RawMessage) string {
	switch output[0] {
	case '"':
		return "string"
	case 'n':
		return "null"
	default:
		return "object"
	}
}
