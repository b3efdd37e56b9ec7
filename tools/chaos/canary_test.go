//go:build unix

package chaos

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/nats-io/nats.go"

	"turbocat.io/pkg/postgres"
	"turbocat.io/tools/internal/rotation"
)

// canaries are secrets, a decoy that is none, and everything that was seen of an installation outside the table that keeps secrets.
type canaries struct {
	*laboratory
	secret, lined, decoy string
	token                string
	mu                   sync.Mutex
	seen                 map[string]*bytes.Buffer // by where
}

func (c *canaries) see(where string, what ...[]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[where] == nil {
		c.seen[where] = &bytes.Buffer{}
	}
	for _, part := range what {
		c.seen[where].Write(part)
		c.seen[where].WriteByte('\n')
	}
}

// call asks the API, and gives the data of the answer.
func (c *canaries) call(method, path string, body any) (status int, data map[string]any) {
	c.t.Helper()
	var sent []byte
	switch b := body.(type) {
	case nil:
	case string:
		sent = []byte(b)
	default:
		var err error
		if sent, err = json.Marshal(b); err != nil {
			c.t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.door+"/api/v1"+path, bytes.NewReader(sent))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	c.see("answers", []byte(fmt.Sprint(resp.Header)), got)
	var answer struct{ Data map[string]any }
	_ = json.Unmarshal(got, &answer) // a list has no data that is needed
	if answer.Data == nil && method == http.MethodPost && status < 300 && resp.StatusCode < 300 && len(got) > 0 {
		c.t.Fatalf("%s %s: %s", method, path, got)
	}
	return resp.StatusCode, answer.Data
}

// forms are the ways in which a text would be found.
func forms(s string) map[string]string {
	quoted, _ := json.Marshal(s) // a string always encodes
	inner := string(quoted[1 : len(quoted)-1])
	of := map[string]string{
		"raw": s, "JSON": inner, "query": url.QueryEscape(s), "path": url.PathEscape(s), "base64": base64.RawStdEncoding.EncodeToString([]byte(s[:len(s)/3*3])),
		"hexadecimal": hex.EncodeToString([]byte(s)), "JSON in bytea": hex.EncodeToString([]byte(inner)),
	}
	of["base64 in bytea"] = hex.EncodeToString([]byte(of["base64"]))
	return of
}

// finds gives the ways in which a text is in data.
func finds(data []byte, s string) (ways []string) {
	for _, way := range slices.Sorted(maps.Keys(forms(s))) {
		if bytes.Contains(data, []byte(forms(s)[way])) {
			ways = append(ways, way)
		}
	}
	return ways
}

// mirror is a server that gives back what it is told, as its path says.
func mirror(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told := fmt.Sprintf("%s %s %v %s", r.Method, r.URL, r.Header, body)
		w.Header().Set("X-Told", strings.ToValidUTF8(strings.ReplaceAll(r.Header.Get("X-Key"), "\n", ""), ""))
		switch kind := strings.Split(r.URL.Path, "/")[1]; kind {
		case "echo":
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"told": told, "body": json.RawMessage(orNull(body)), "headers": r.Header})
		case "hang":
			<-r.Context().Done()
		case "refuse":
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, told)
		case "long": // the excerpt of an error is cut within the secret
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, strings.Repeat("x", 480)+string(body))
		default:
			_, _ = io.WriteString(w, told)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// orNull gives a body that is JSON, else null.
func orNull(body []byte) []byte {
	if json.Valid(body) {
		return body
	}
	return []byte("null")
}

// way is one that a secret might take out of the runner.
type way struct {
	name   string
	kind   string // of the agent
	config map[string]any
	agent  map[string]any // more of it
	step   map[string]any // more of the step
	flow   map[string]any // more of the workflow
	ends   string         // status of the execution
	code   string         // of its error
}

const inJS = `
const abc = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
function base64(s) {
	const b = unescape(encodeURIComponent(s)); let out = '';
	for (let i = 0; i < b.length; i += 3) {
		const n = b.charCodeAt(i) << 16 | (b.charCodeAt(i + 1) || 0) << 8 | (b.charCodeAt(i + 2) || 0);
		out += abc[n >> 18] + abc[n >> 12 & 63] + (i + 1 < b.length ? abc[n >> 6 & 63] : '=') + (i + 2 < b.length ? abc[n & 63] : '=');
	}
	return out;
}
function handler(input, context) { const k = context.secrets.KEY; const all = [k, base64(k), base64('u:' + k), encodeURIComponent(k), JSON.stringify({k: k})];
`

func ways(echo string) []way {
	type o = map[string]any
	js := func(body string, more ...any) o {
		config := o{"runtime": "javascript", "secrets": []string{"KEY"}, "source": inJS + body + "}"}
		for i := 0; i < len(more); i += 2 {
			config[more[i].(string)] = more[i+1]
		}
		return config
	}
	key := "{{secrets.KEY}}"
	given := o{"inputs": o{"k": key, "t": "so " + key + "!", "list": []any{o{"n": key}, o{"n": 1}}}}
	return []way{
		{name: "API: url, query, headers and body come back", kind: "API", ends: "COMPLETED", config: o{"method": "POST", "url": echo + "/echo/" + key + "?q=" + key, "headers": o{"X-Key": "k " + key}, "query": o{"r": key}, "body": o{"k": key}}},
		{name: "API: bearer, refused with what was sent", kind: "API", ends: "FAILED", code: "HTTP_STATUS", config: o{"url": echo + "/refuse/" + key, "auth": o{"type": "bearer", "token": key}}},
		{name: "API: basic comes back", kind: "API", ends: "COMPLETED", config: o{"url": echo + "/echo", "auth": o{"type": "basic", "username": "user", "password": key}}},
		{name: "API: an excerpt that is cut", kind: "API", ends: "FAILED", code: "HTTP_STATUS", config: o{"method": "POST", "url": echo + "/long", "body": key}},
		{name: "API: a binary answer", kind: "API", ends: "COMPLETED", config: o{"method": "POST", "url": echo + "/plain", "body": "xx" + key, "responseType": "binary"}},
		{name: "API: an answer that is no JSON", kind: "API", ends: "FAILED", code: "INVALID_OUTPUT", config: o{"url": echo + "/plain/" + key, "responseType": "json"}},
		{name: "API: nobody listens", kind: "API", ends: "FAILED", code: "HTTP_ERROR", config: o{"url": "http://127.0.0.1:1/" + key, "retry": o{"count": 1, "delayMs": 1}}},
		{name: "API: no answer in time", kind: "API", ends: "FAILED", code: "STEP_TIMEOUT", config: o{"url": echo + "/hang/" + key, "timeoutMs": 300}},
		{name: "API: a host that is none", kind: "API", ends: "FAILED", config: o{"url": "http://" + key + ".invalid/"}},
		{name: "API: a url that is none", kind: "API", ends: "FAILED", config: o{"url": key}},
		{name: "API: a header that can not be", kind: "API", ends: "FAILED", code: "INVALID_CONFIG", config: o{"url": echo + "/echo", "headers": o{"X-Key": "{{secrets.LINED}}"}}},
		{name: "API: the key of a query from the input", kind: "API", ends: "COMPLETED", config: o{"url": echo + "/echo?x={{t}}"}, step: given},
		{name: "CODE: returns it in every form", kind: "CODE", ends: "COMPLETED", config: js(`const out = {all: all, input: input, context: context.secrets}; out[k] = 1; return out`), step: given},
		{name: "CODE: throws it", kind: "CODE", ends: "FAILED", code: "CODE_ERROR", config: js(`const e = new TypeError(all.join(' ')); e.name = k; throw e`)},
		{name: "CODE: throws an object of it", kind: "CODE", ends: "FAILED", code: "CODE_ERROR", config: js(`throw {message: k, name: k, all: all}`), step: o{"onError": "RETRY", "retryCount": 1, "retryDelayMs": 1}},
		{name: "CODE: prints it, in every form and in pieces", kind: "CODE", ends: "COMPLETED", config: js(`console.log(...all, k, {k: k}); console.error(new Error(k)); context.logger.warn(k);
			for (const form of all) for (const n of [2, 3, 5]) { const l = Math.ceil(form.length / n); for (let i = 0; i < form.length; i += l) console.log(form.slice(i, i + l)) } return 1`)},
		{name: "CODE: prints it where the line is cut", kind: "CODE", ends: "COMPLETED", config: js(`console.log('x'.repeat(65536 - 30) + k + k); return 1`)},
		{name: "CODE: prints it and never ends", kind: "CODE", ends: "FAILED", code: "STEP_TIMEOUT", config: js(`console.log(k); for (;;) {}`, "timeoutMs", 500)},
		{name: "CODE: returns what is no JSON", kind: "CODE", ends: "FAILED", config: js(`return {toJSON() { throw new Error(k) }}`)},
		{
			name: "CODE: its inputSchema", kind: "CODE", ends: "FAILED", code: "INVALID_INPUT", config: js(`return 1`), step: given,
			agent: o{"inputSchema": o{"type": "object", "properties": o{"k": o{"enum": []string{"x"}, "maxLength": 3, "pattern": "^z"}, "t": o{"const": "y", "format": "uuid"}, "list": o{"items": o{"type": "integer"}}}}},
		},
		{
			name: "CODE: its outputSchema", kind: "CODE", ends: "FAILED", code: "INVALID_OUTPUT", config: js(`const out = {k: k}; out[k] = k; return out`),
			agent: o{"outputSchema": o{"type": "object", "additionalProperties": false, "properties": o{"k": o{"enum": []string{"x"}, "type": "integer"}}}},
		},
		{name: "DATA: rows of the wrong type", kind: "DATA", ends: "FAILED", code: "DATA_ERROR", config: o{"operation": "sort", "sort": []any{o{"field": "n"}}}, step: o{"inputs": o{"data": []any{o{"n": key}, o{"n": []any{key}}}}}},
		{name: "DATA: no rows", kind: "DATA", ends: "FAILED", code: "DATA_ERROR", config: o{"operation": "sort", "sort": []any{o{"field": "n"}}}, step: o{"inputs": o{"data": key}}},
		{name: "DATA: rows go through", kind: "DATA", ends: "COMPLETED", config: o{"operation": "pick", "fields": []string{"n"}}, step: o{"inputs": o{"data": []any{o{"n": "a " + key}}}}},
		{name: "a secret that does not exist", kind: "CODE", ends: "FAILED", code: "SECRET_NOT_FOUND", config: js(`return 1`, "secrets", []string{"KEY", "NONE"}), step: given},
		{name: "a strict template that does not resolve", kind: "CODE", ends: "FAILED", code: "TEMPLATE_ERROR", config: js(`return 1`), step: o{"inputs": o{"k": key + "{{inputs.none}}"}}, flow: o{"strictTemplates": true}},
		{name: "a LOOP", kind: "CODE", ends: "FAILED", config: js(`if (context.attempt && input.n == 2) throw new Error(input.k); return all`), step: o{"stepType": "LOOP", "config": o{"forEach": []int{1, 2, 3}}, "inputs": o{"k": key, "n": "{{item}}"}}},
	}
}

// TestS09Canary sends a secret down every way that we know out of a runner, and looks for it everywhere afterwards: I9.
func TestS09Canary(t *testing.T) {
	if !full {
		t.Parallel()
	}
	random := make([]byte, 12)
	_, _ = rand.Read(random)
	c := &canaries{
		laboratory: newLaboratory(t, 1, 1, false), seen: map[string]*bytes.Buffer{},
		secret: `cnry"` + hex.EncodeToString(random) + `/+& ä%<x>` + hex.EncodeToString(random[:4]), lined: "cnry-lined-" + hex.EncodeToString(random) + "\nX: 1", decoy: "decoy" + hex.EncodeToString(random),
	}
	c.listen()
	_, account := c.call("POST", "/auth/register", map[string]any{"email": "canary@example.com", "password": "Correct-horse-9", "fullName": "C"})
	c.token, _ = account["accessToken"].(string)
	quoted, _ := json.Marshal(c.secret) // a string always encodes
	for _, body := range []string{`{"value":` + string(quoted), `{"value":[` + string(quoted) + `]}`, `{"value":` + string(quoted) + `,"more":` + string(quoted) + `}`, string(quoted)} {
		if status, _ := c.call("PUT", "/secrets/KEY", body); status != http.StatusBadRequest {
			t.Errorf("%.20s is answered with %d", body, status)
		}
	}
	for name, value := range map[string]string{"KEY": c.secret, "LINED": c.lined} {
		if status, _ := c.call("PUT", "/secrets/"+name, map[string]any{"value": value}); status != http.StatusCreated {
			t.Fatalf("PUT %s: %d", name, status)
		}
	}
	c.call("GET", "/secrets", nil)
	all := ways(mirror(t))
	for _, w := range all {
		workflow := c.prepare(w)
		_, execution := c.call("POST", "/workflows/"+workflow+"/execute?wait=60s", map[string]any{"inputs": map[string]any{"d": c.decoy}})
		failure, _ := execution["error"].(map[string]any)
		t.Logf("%-50s %-10v %v", w.name, execution["status"], failure["code"])
		if execution["status"] != w.ends || w.code != "" && failure["code"] != w.code {
			t.Errorf("%s: %v", w.name, execution)
		}
		c.look(execution)
	}
	c.throughFaults()
	c.rotate()
	c.search(len(all))
}

// listen sees all that goes over NATS, but for the request that brings a value to identity.
func (c *canaries) listen() {
	c.t.Helper()
	conn, err := nats.Connect(c.natsURL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(conn.Close)
	if _, err := conn.Subscribe(">", func(m *nats.Msg) {
		if m.Subject != "rpc.identity.v1.put_secret" {
			c.see("NATS", []byte(m.Subject), []byte(fmt.Sprint(m.Header)), m.Data)
		}
	}); err != nil {
		c.t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		c.t.Fatal(err)
	}
}

// prepare makes the agent and the workflow of a way.
func (c *canaries) prepare(w way) string {
	c.t.Helper()
	body := map[string]any{"name": w.name, "type": w.kind, "status": "ACTIVE", "config": w.config}
	maps.Copy(body, w.agent)
	_, agent := c.call("POST", "/agents", body)
	step := map[string]any{"stepKey": "s", "stepType": "AGENT", "agentId": agent["id"], "timeoutMs": 30_000}
	maps.Copy(step, w.step)
	flow := map[string]any{"name": w.name, "status": "ACTIVE", "steps": []any{step}}
	maps.Copy(flow, w.flow)
	_, made := c.call("POST", "/workflows", flow)
	id, _ := made["id"].(string)
	if id == "" {
		c.t.Fatalf("%s is not saved: %v %v", w.name, agent, made)
	}
	return id
}

// look reads all that the API tells of an execution.
func (c *canaries) look(execution map[string]any) {
	id := fmt.Sprint(execution["id"])
	for _, part := range []string{"", "/logs?pageSize=100", "/explain"} {
		c.call("GET", "/executions/"+id+part, nil)
	}
}

// throughFaults has attempts with secrets under way while the runner, NATS and PostgreSQL go.
func (c *canaries) throughFaults() {
	c.t.Helper()
	slow := way{name: "prints it while everything breaks", kind: "CODE", config: map[string]any{
		"runtime": "javascript", "secrets": []string{"KEY"}, "timeoutMs": 60_000,
		"source": inJS + `const until = Date.now() + 4000; for (let n = 0; Date.now() < until; n++) { if (n % 200000 == 0) console.log(...all) } return all }`,
	}}
	workflow := c.prepare(slow)
	for what, fault := range map[string]func(){
		"kill -9 of the runner": func() {
			p := c.of(runner)[0]
			p.kill()
			p.start()
		},
		"kill -9 of NATS": func() {
			c.nats.kill()
			c.nats.start()
			c.awaitNATS()
		},
		"PostgreSQL stops at once": func() {
			c.crashPostgres()
			if status, _ := c.call("PUT", "/secrets/KEY2", map[string]any{"value": c.secret}); status < 500 && status > 299 {
				c.t.Errorf("PUT without PostgreSQL: %d", status)
			}
			c.revivePostgres()
		},
		"kill -9 of identity": func() {
			p := c.of(identity)[0]
			p.kill()
			p.start()
		},
	} {
		_, begun := c.call("POST", "/workflows/"+workflow+"/execute", map[string]any{})
		id := fmt.Sprint(begun["id"])
		c.eventually(30*time.Second, func() error {
			if _, now := c.call("GET", "/executions/"+id, nil); now["status"] != "RUNNING" && now["completedAt"] == nil {
				return fmt.Errorf("it is %v", now["status"])
			}
			return nil
		})
		fault()
		c.awaitReady(readyWithin)
		var execution map[string]any
		c.eventually(90*time.Second, func() error {
			if _, execution = c.call("GET", "/executions/"+id, nil); execution["completedAt"] == nil {
				return fmt.Errorf("it is %v", execution["status"])
			}
			return nil
		})
		c.t.Logf("%-50s %-10v", what, execution["status"])
		if execution["status"] != "COMPLETED" {
			c.t.Errorf("%s: %v", what, execution)
		}
		c.look(execution)
	}
}

// rotate gives identity another key, while everything runs, and sees that secrets are read.
func (c *canaries) rotate() {
	c.t.Helper()
	p := c.of(identity)[0]
	for i, pair := range p.environ {
		if old, found := strings.CutPrefix(pair, "ENCRYPTION_KEY="); found {
			p.environ[i] = "ENCRYPTION_KEY=another encryption key for the chaos checks"
			p.environ = append(p.environ, "TURBOCAT_OLD_ENCRYPTION_KEYS="+old)
		}
	}
	p.kill()
	p.start()
	c.awaitReady(readyWithin)
	cmd := exec.CommandContext(c.t.Context(), c.program, "secrets", "rotate", "--json")
	cmd.Env = []string{"NATS_URL=" + c.natsURL}
	var progress bytes.Buffer
	cmd.Stderr = &progress
	out, err := cmd.Output()
	var report rotation.Report
	if err != nil || json.Unmarshal(out, &report) != nil || report.Resealed < 2 || report.Left != 0 || len(report.Refused) > 0 {
		c.t.Errorf("rotate: %v %s %s", err, out, progress.Bytes())
	}
	c.see("rotate", out, progress.Bytes())
	db := c.database()
	var others int
	if err := db.Get(&others, `SELECT count(*) FROM identity.secrets WHERE key_id <> $1`, report.KeyID); err != nil || others > 0 {
		c.t.Errorf("%d secrets are under another key, %v", others, err)
	}
}

// search looks for the secrets in all that was seen, in all tables but one, in what every process printed and measures, and in the
// files of all servers. The decoy shows that it finds.
func (c *canaries) search(executions int) {
	c.t.Helper()
	for _, p := range c.services {
		if p.ops != "" {
			_, text, err := get(c.t.Context(), p.ops+"/metrics")
			if err != nil {
				c.t.Error(err)
			}
			c.see("metrics", []byte(text))
		}
	}
	c.tables()
	if err := filepath.WalkDir(c.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // servers make and remove files meanwhile
		}
		raw, err := os.ReadFile(path)
		if err == nil {
			where := "files of the servers"
			if filepath.Dir(path) == c.dir {
				where = "logs"
			}
			for name, secret := range map[string]string{"KEY": c.secret, "LINED": c.lined} {
				if found := finds(raw, secret); len(found) > 0 {
					c.t.Errorf("%s is in %s: %v", name, path, found)
				}
			}
			if len(finds(raw, c.decoy)) > 0 {
				c.see(where, []byte(c.decoy))
			} else {
				c.see(where, nil)
			}
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, where := range slices.Sorted(maps.Keys(c.seen)) {
		data, found := c.seen[where].Bytes(), 0
		for name, secret := range map[string]string{"KEY": c.secret, "LINED": c.lined} {
			if ways := finds(data, secret); len(ways) > 0 {
				found++
				at := bytes.Index(data, []byte(forms(secret)[ways[0]]))
				c.t.Errorf("%s is in %s (%v): ...%.300q", name, where, ways, data[max(0, at-200):at])
			}
		}
		c.t.Logf("%-50s %10d bytes, %d secrets, decoy %v", where, len(data), found, finds(data, c.decoy))
	}
	for _, where := range []string{"answers", "NATS", "tables", "files of the servers"} {
		if c.seen[where] == nil || len(finds(c.seen[where].Bytes(), c.decoy)) == 0 {
			c.t.Errorf("the decoy of %d executions is not in %s: what is looked at is not what there is", executions, where)
		}
	}
}

// tables sees every row of every table, but for those of secrets.
func (c *canaries) tables() {
	c.t.Helper()
	db := c.database()
	var names []string
	if err := db.Select(&names, `SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
		WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema') AND table_name <> 'secrets'`); err != nil || len(names) < 15 {
		c.t.Fatal(names, err)
	}
	for _, name := range names {
		var rows []string
		if err := db.Select(&rows, `SELECT t::text FROM `+name+` t`); err != nil {
			c.t.Fatal(name, err)
		}
		for _, row := range rows {
			c.see("tables", []byte(name), []byte(row))
		}
	}
}

// database opens the installation's.
func (c *canaries) database() *sqlx.DB {
	c.t.Helper()
	db, err := postgres.Open(c.pg.URL(), "identity")
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = db.Close() })
	return db
}
