package webhook

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const guide = "../../../../docs/webhooks.md"

// around makes programs of the functions that docs/webhooks.md has, which read what they verify from their arguments and standard input.
var around = map[string]struct {
	command []string // before the file
	file    string
	program func(code string) string
}{
	"go": {[]string{"go", "run"}, "main.go", func(code string) string {
		return "package main\n\nimport (\n\"crypto/hmac\"\n\"crypto/sha256\"\n\"encoding/base64\"\n\"fmt\"\n\"io\"\n\"os\"\n\"strconv\"\n\"strings\"\n\"time\"\n)\n\n" + code +
			"\nfunc main() {\n\tbody, _ := io.ReadAll(os.Stdin)\n\tif !verify(os.Args[1], os.Args[2], os.Args[3], os.Args[4], body) {\n\t\tos.Exit(3)\n\t}\n}\n"
	}},
	"javascript": {[]string{"node"}, "main.cjs", func(code string) string {
		return code + "\nprocess.exit(verify(...process.argv.slice(2, 6), require('node:fs').readFileSync(0)) ? 0 : 3)\n"
	}},
	"python": {[]string{"python3"}, "main.py", func(code string) string {
		return code + "\nimport sys\nsys.exit(0 if verify(*sys.argv[1:5], sys.stdin.buffer.read()) else 3)\n"
	}},
	"sh": {[]string{"sh"}, "main.sh", func(code string) string { return code + "\nverify \"$@\" || exit 3\n" }},
}

// TestTheGuideVerifies runs the functions of the guide, in each language that is at hand, over what is signed and what is not.
func TestTheGuideVerifies(t *testing.T) {
	text, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```([a-z]+)\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != len(around) {
		t.Fatalf("the guide has %d programs, want %d", len(blocks), len(around))
	}
	const secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"id":"1","data":"ü \\ 'x' $HOME"}` + "\n")
	sign := func(at time.Time) string {
		signature, err := signer.Sign("msg_1", at, body)
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	now := time.Now()
	unix := func(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
	const other = "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="
	for _, block := range blocks {
		t.Run(block[1], func(t *testing.T) {
			t.Parallel()
			p := around[block[1]]
			tool, err := exec.LookPath(p.command[0])
			if err == nil && block[1] == "sh" {
				_, err = exec.LookPath("openssl")
			}
			if err != nil {
				t.Skipf("%s is not at hand", block[1])
			}
			file := filepath.Join(t.TempDir(), p.file)
			if err := os.WriteFile(file, []byte(p.program(block[2])), 0o600); err != nil {
				t.Fatal(err)
			}
			program := append([]string{tool}, append(p.command[1:len(p.command):len(p.command)], file)...)
			if block[1] == "go" { // built once
				built := filepath.Join(filepath.Dir(file), "verify")
				if out, err := exec.CommandContext(t.Context(), tool, "build", "-o", built, file).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				program = []string{built}
			}
			for _, c := range []struct {
				what, id, at, signatures string
				body                     []byte
				want                     bool
			}{
				{"signed", "msg_1", unix(now), sign(now), body, true},
				{"signed twice", "msg_1", unix(now), other + " " + sign(now), body, true},
				{"another signature", "msg_1", unix(now), other, body, false},
				{"a part of one", "msg_1", unix(now), sign(now)[:20], body, false},
				{"none", "msg_1", unix(now), "", body, false},
				{"another id", "msg_2", unix(now), sign(now), body, false},
				{"another body", "msg_1", unix(now), sign(now), append([]byte(" "), body...), false},
				{"another time", "msg_1", unix(now.Add(time.Second)), sign(now), body, false},
				{"old", "msg_1", unix(now.Add(-10 * time.Minute)), sign(now.Add(-10 * time.Minute)), body, false},
				{"early", "msg_1", unix(now.Add(10 * time.Minute)), sign(now.Add(10 * time.Minute)), body, false},
			} {
				cmd := exec.CommandContext(t.Context(), program[0], append(program[1:len(program):len(program)], secret, c.id, c.at, c.signatures)...)
				cmd.Stdin = bytes.NewReader(c.body)
				out, err := cmd.CombinedOutput()
				code := cmd.ProcessState.ExitCode()
				if ok := err == nil; ok != c.want || !ok && code != 3 {
					t.Errorf("%s: %d %s", c.what, code, strings.TrimSpace(string(out)))
				}
			}
		})
	}
}
