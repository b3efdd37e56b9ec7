package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/llmtest"
	"turbocat.io/services/runner/internal/llm"
)

// programs builds the MCP server of testdata, and has the runner know it in three ways.
func programs(t *testing.T) llm.Programs {
	t.Helper()
	folder := t.TempDir()
	server := filepath.Join(folder, "server")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", server, "./testdata/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	// A jailed program is somebody else when the runner is root.
	for _, place := range []string{folder, filepath.Dir(folder)} {
		if err := os.Chmod(place, 0o755); err != nil { //nolint:gosec // it is to be read by somebody else
			t.Fatal(err)
		}
	}
	dictionary := filepath.Join(folder, "dictionary")
	for name, text := range map[string]string{dictionary: "words", filepath.Join(folder, "diary"): "thoughts"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil { //nolint:gosec // it is to be read by somebody else
			t.Fatal(err)
		}
	}
	table := object{
		"words": object{"command": server, "read": []string{dictionary}, "memoryMb": 128},
		"fails": object{"command": server, "args": []string{"fail"}},
		"mute":  object{"command": "/bin/cat"},
	}
	found, err := llm.LoadPrograms(file(t, table))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func file(t *testing.T, content any) string {
	t.Helper()
	raw, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "programs.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func of(program string) object {
	return object{"tools": []object{{"mcp": object{"name": "w", "program": program}}}}
}

// TestMCPPrograms has a program give tools, each of which tries what a jail refuses.
func TestMCPPrograms(t *testing.T) {
	found := programs(t)
	folder := filepath.Dir(found["words"].Path)
	for _, c := range []struct{ tool, text, want string }{
		{"upper", "abc", `"ABC"`},
		{"read", folder + "/dictionary", `"words"`},
		{"read", folder + "/diary", "permission denied"},
		{"read", "/etc/passwd", "permission denied"},
		{"read", "/proc/self/environ", "permission denied"},
		{"write", folder + "/new", "permission denied"},
		{"write", "/tmp/new", "permission denied"},
		{"dial", "127.0.0.1:1", "operation not permitted"},
		{"run", "/bin/true", "operation not permitted"},
		{"environment", "", `"TZ=UTC"`},
		{"hoard", "", "HTTP_ERROR"},
		{"flood", "", "HTTP_ERROR"},
	} {
		t.Run(c.tool, func(t *testing.T) {
			var told string
			d := newDeskWith(t, llm.Config{Programs: found}, func(r llmtest.Request) llmtest.Reply {
				if r.N == 1 {
					arguments, err := json.Marshal(object{"text": c.text})
					if err != nil {
						t.Error(err)
					}
					return llmtest.Reply{Calls: []llmtest.Call{{ID: "a", Name: "w_" + c.tool, Arguments: string(arguments)}}}
				}
				told = r.Messages[len(r.Messages)-1].Results[0].Text
				return llmtest.Reply{Text: "done"}
			})
			d.text(of("words"), `{"prompt":"p"}`)
			t.Logf("%s %s: %.200s", c.tool, c.text, told)
			if !strings.Contains(told, c.want) {
				t.Errorf("the model is told %.300q, want %q", told, c.want)
			}
		})
	}
	quiet := func(llmtest.Request) llmtest.Reply { return llmtest.Reply{Text: "a"} }
	t.Run("one that ends", func(t *testing.T) {
		d := newDeskWith(t, llm.Config{Programs: found}, quiet)
		d.fails(of("fails"), runner.CodeHTTPError, "(exit status 3): there is no dictionary")
	})
	t.Run("unknown", func(t *testing.T) {
		d := newDeskWith(t, llm.Config{Programs: found}, quiet)
		if f := d.fault(of("none"), runner.CodeNoSandbox, `this runner has no program "none"`); !f.Retryable {
			t.Error("another runner may have it")
		}
	})
	t.Run("one that says nothing it is asked", func(t *testing.T) {
		d := newDeskWith(t, llm.Config{Programs: found}, quiet)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, failed := d.run(ctx, of("mute"), `{}`); failed == nil {
			t.Error("it answers")
		}
	})
	t.Run("one that hangs", func(t *testing.T) {
		d := newDeskWith(t, llm.Config{Programs: found}, func(llmtest.Request) llmtest.Reply {
			return llmtest.Reply{Calls: []llmtest.Call{{ID: "a", Name: "w_hang", Arguments: `{"text":""}`}}}
		})
		config := of("words")
		config["timeoutMs"] = 2000
		d.fails(config, runner.CodeStepTimeout, "no answer within timeoutMs (2000)")
	})
}

func TestLoadPrograms(t *testing.T) {
	t.Parallel()
	if none, err := llm.LoadPrograms(""); err != nil || len(none) > 0 {
		t.Errorf("of no file %v, %v", none, err)
	}
	if _, err := llm.LoadPrograms(t.TempDir() + "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := llm.LoadPrograms(file(t, object{
		"a b":    object{"command": "true"},
		"script": object{"command": script, "memoryMb": 63, "read": []string{"/nowhere", "bin"}},
	}))
	for _, want := range []string{
		"a b is no name", `a b.command is "true"; give the absolute path`, "script.memoryMb is 63; give 64 to 4096", `script.read[0] is "/nowhere"`, `script.read[1] is "bin"`,
		"script.command can not be run: ", "is an argument of its interpreter",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nhas no %s", err, want)
		}
	}
	if _, err := llm.LoadPrograms(file(t, object{"a": object{"path": "/bin/true"}})); err == nil || !strings.Contains(err.Error(), `unknown field "path"; write {"name": {"command"`) {
		t.Error(err)
	}
}
