package code

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/runner"
)

func TestParseConfig(t *testing.T) {
	for name, tc := range map[string]struct{ config, code, message string }{
		"defaults":       {`{"runtime":"javascript","source":"x"}`, "", ""},
		"all":            {`{"runtime":"javascript","source":"x","files":{},"entry":"run","timeoutMs":3600000,"memoryMb":1024,"allowHosts":[]}`, "", ""},
		"one file":       {`{"runtime":"javascript","files":{"main.js":"x"}}`, "", ""},
		"two files":      {`{"runtime":"javascript","files":{"a.js":"x","b.js":"y"}}`, runner.CodeInvalidConfig, "has 2 files"},
		"both":           {`{"runtime":"javascript","source":"x","files":{"a.js":"x"}}`, runner.CodeInvalidConfig, "give one of them"},
		"nothing":        {`{"runtime":"javascript"}`, runner.CodeInvalidConfig, "config.source: is empty"},
		"no entry":       {`{"runtime":"javascript","source":"x","entry":""}`, runner.CodeInvalidConfig, "config.entry: is empty"},
		"no runtime":     {`{"source":"x"}`, runner.CodeInvalidConfig, "config.runtime"},
		"other runtime":  {`{"runtime":"ruby","source":"x"}`, runner.CodeInvalidConfig, `"ruby" is not known`},
		"typescript":     {`{"runtime":"typescript","source":"x"}`, runner.CodeUnsupported, "typescript can not be run"},
		"python":         {`{"runtime":"python","source":"x"}`, runner.CodeUnsupported, "python can not be run"},
		"hosts":          {`{"runtime":"javascript","source":"x","allowHosts":["a.example"]}`, runner.CodeUnsupported, "config.allowHosts"},
		"no JSON":        {`{`, runner.CodeInvalidConfig, "config: "},
		"wrong type":     {`{"runtime":"javascript","source":7}`, runner.CodeInvalidConfig, "source"},
		"little memory":  {`{"runtime":"javascript","source":"x","memoryMb":15}`, runner.CodeInvalidConfig, "use 16 to 1024"},
		"all problems":   {`{"runtime":"javascript","source":" ","timeoutMs":0,"memoryMb":1025}`, runner.CodeInvalidConfig, "config.source: is empty; write function handler(input, context); config.timeoutMs: 0 is out of bounds; use 1 to 3600000; config.memoryMb: 1025"},
		"large source":   {`{"runtime":"javascript","source":"` + strings.Repeat("x", maxSource+1) + `"}`, runner.CodeInvalidConfig, "shorten it"},
		"negative times": {`{"runtime":"javascript","source":"x","timeoutMs":-1}`, runner.CodeInvalidConfig, "config.timeoutMs: -1"},
	} {
		t.Run(name, func(t *testing.T) {
			c, fault := parseConfig(json.RawMessage(tc.config))
			if tc.code == "" {
				if fault != nil || c.source != "x" {
					t.Fatalf("got %+v, %v", c, fault)
				}
				return
			}
			if fault == nil || fault.Code != tc.code || fault.Retryable || !strings.Contains(fault.Message, tc.message) {
				t.Fatalf("got %v, wanted %s %s", fault, tc.code, tc.message)
			}
		})
	}
}

func TestParseConfigFillsIn(t *testing.T) {
	got, fault := parseConfig(json.RawMessage(`{"runtime":"javascript","files":{"main.js":"x"}}`))
	want := config{source: "x", file: "main.js", entry: "handler", timeout: 30 * time.Second, memoryMb: 128}
	if fault != nil || got != want {
		t.Fatalf("got %+v, %v, wanted %+v", got, fault, want)
	}
}
