package code

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
	bodies "turbocat.io/pkg/form"
	"turbocat.io/pkg/schema"
	"turbocat.io/services/runner/internal/code/script"
)

func TestParse(t *testing.T) {
	const largest = catalog.MaxCodeSource
	for name, tc := range map[string]struct{ config, want string }{ // want: the faults, one a line
		"defaults":       {`{"runtime":"javascript","source":"x"}`, ""},
		"all":            {`{"runtime":"typescript","source":"x","files":{},"entry":"run","timeoutMs":3600000,"memoryMb":1024,"allowHosts":[]}`, ""},
		"nulls":          {`{"runtime":"javascript","source":"x","files":null,"entry":null,"timeoutMs":null,"memoryMb":null,"allowHosts":null}`, ""},
		"number forms":   {`{"runtime":"javascript","source":"x","timeoutMs":3e4,"memoryMb":128.0}`, ""},
		"one file":       {`{"runtime":"javascript","files":{"any.js":"x"}}`, ""},
		"two files":      {`{"runtime":"typescript","files":{"lib/a.ts":"","main.ts":"x"}}`, ""},
		"a main file":    {`{"runtime":"javascript","files":{"a.js":"x","b.js":""},"main":"a.js"}`, ""},
		"no main file":   {`{"runtime":"javascript","files":{"a.js":"x","main.ts":"x"}}`, "main: is missing; name the file that has the function, or call it main.js"},
		"a wrong main":   {`{"runtime":"javascript","files":{"a.js":"x"},"main":"b.js"}`, "main: names none of the files; name one of them"},
		"main, no files": {`{"runtime":"javascript","source":"x","main":"a.js"}`, "main: names a file, and there are no files; remove it"},
		"an empty main":  {`{"runtime":"javascript","files":{"main.js":" ","b.js":"x"}}`, "files.main.js: is empty; write function handler(input, context)"},
		"no file name":   {`{"runtime":"javascript","files":{"../main.js":"x"}}`, `files.../main.js: is no name of a file; give up to 200 letters, digits, _, - and ., with / between folders`},
		"both":           {`{"runtime":"javascript","source":"x","files":{"a.js":"x"}}`, "files: stands beside source; give one of them"},
		"nothing":        {`{"runtime":"javascript"}`, "source: is empty; write function handler(input, context)"},
		"empty file":     {`{"runtime":"javascript","files":{"a.js":""}}`, "files.a.js: is empty; write function handler(input, context)"},
		"no entry":       {`{"runtime":"javascript","source":"x","entry":""}`, "entry: is empty; name the function to call, or leave it out for handler"},
		"no python":      {`{"runtime":"python","source":" "}`, "source: is empty; write def handler(input, context)"},
		"no runtime":     {`{"source":"x"}`, "runtime: is missing; use javascript, typescript or python"},
		"other runtime":  {`{"runtime":"ruby","source":"x"}`, `runtime: is "ruby", which is not known; use javascript, typescript or python`},
		"no JSON":        {`{`, ": the config is not valid JSON; correct its syntax"},
		"no object":      {`[]`, ": the config must be an object, not an array"},
		"unknown field":  {`{"runtime":"javascript","source":"x","Entry":"f"}`, "Entry: is not a field of this config; remove it or correct its name"},
		"field twice":    {`{"runtime":"javascript","source":"x","source":"y"}`, "source: stands twice; remove one"},
		"little memory":  {`{"runtime":"javascript","source":"x","memoryMb":15}`, "memoryMb: must be a whole number from 16 to 1024"},
		"negative times": {`{"runtime":"javascript","source":"x","timeoutMs":-1}`, "timeoutMs: must be a whole number from 1 to 3600000"},
		"wrong types": {
			`{"runtime":1,"source":7,"files":[],"entry":{},"timeoutMs":"1","memoryMb":1.5,"allowHosts":"a"}`,
			"entry: must be a string, not an object\nruntime: must be a string, not a number\nsource: must be a string, not a number\nfiles: must be an object, not an array\n" +
				"timeoutMs: must be a whole number from 1 to 3600000\nmemoryMb: must be a whole number from 16 to 1024\nallowHosts: must be an array, not a string",
		},
		"wrong types within": {
			`{"runtime":"javascript","files":{"a.js":null},"allowHosts":[1]}`,
			"files.a.js: must be a string, not null\nallowHosts[0]: must be a string, not a number",
		},
		"hosts":             {`{"runtime":"javascript","source":"x","allowHosts":["a.example","*.A.example:8443","127.0.0.1:80","localhost:1"]}`, ""},
		"no host":           {`{"runtime":"javascript","source":"x","allowHosts":["https://a.example"]}`, "allowHosts[0]: is no host; write it like api.example.com, *.example.com or api.example.com:8443"},
		"largest source":    {`{"runtime":"javascript","source":"` + strings.Repeat("x", largest) + `"}`, ""},
		"source too large":  {`{"runtime":"javascript","source":"` + strings.Repeat("é", largest/2) + `x"}`, "source: has 1048577 bytes, more than 1048576; shorten it"},
		"file too large":    {`{"runtime":"javascript","files":{"a.js":"` + strings.Repeat("x", largest+1) + `"}}`, "files.a.js: has 1048577 bytes, more than 1048576; shorten it"},
		"file of two large": {`{"runtime":"javascript","main":"b.js","files":{"a.js":"` + strings.Repeat("x", largest+1) + `","b.js":""}}`, "files.a.js: has 1048577 bytes, more than 1048576; shorten it"},
	} {
		t.Run(name, func(t *testing.T) {
			_, faults := parse(json.RawMessage(tc.config))
			var got []string
			for _, fault := range faults.All() {
				got = append(got, fault.Path+": "+fault.Message)
			}
			if strings.Join(got, "\n") != tc.want {
				t.Fatalf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

// TestRefused runs configs that can not be run; no sandbox is needed for that.
func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct{ config, code, message string }{
		"one problem":   {`{"runtime":"javascript"}`, runner.CodeInvalidConfig, "1 problem in the config of the CODE agent: source: is empty; write function handler(input, context)"},
		"two problems":  {`{"runtime":"javascript","source":" ","timeoutMs":0}`, runner.CodeInvalidConfig, "2 problems in the config of the CODE agent: source: is empty; write function handler(input, context); timeoutMs: must be a whole number from 1 to 3600000"},
		"and a problem": {`{"runtime":"python","source":"x","memoryMb":1}`, runner.CodeInvalidConfig, "1 problem in the config of the CODE agent: memoryMb: must be a whole number from 16 to 1024"},
	} {
		t.Run(name, func(t *testing.T) {
			job := task("", nil)
			job.Config = json.RawMessage(tc.config)
			_, err := (&Executor{missing: errors.New("nothing is run here")}).Run(t.Context(), job)
			if got := fault(t, err); got.Code != tc.code || got.Message != tc.message || got.Retryable {
				t.Fatalf("got %+v", got)
			}
		})
	}
}

func TestParseFillsIn(t *testing.T) {
	got, faults := parse(json.RawMessage(`{"runtime":"javascript","files":{"main.js":"x"}}`))
	want := config{runtime: "javascript", files: []script.File{{Name: "main.js", Text: []byte("x")}}, main: "main.js", entry: "handler", timeout: 30 * time.Second, memoryMb: 128}
	if len(faults.All()) > 0 || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v, wanted %+v", got, faults.All(), want)
	}
}

// TestSavedConfigsAreRead asks both who saves configs and who runs them: what is saved has no
// fault here but that its code is blank, and what runs can be saved unless its entry is no name.
// The catalog checks sizes, names that stand twice, and which file is the main one, beside the schema.
func TestSavedConfigsAreRead(t *testing.T) {
	raw, err := catalog.ConfigSchema("CODE")
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.Compile(raw)
	if err != nil {
		t.Fatal(err)
	}
	const absent = ""
	values := []struct {
		field  string
		values []string
	}{
		{"runtime", []string{absent, `null`, `1`, `""`, `"javascript"`, `"typescript"`, `"python"`, `"ruby"`}},
		{"source", []string{absent, `null`, `1`, `""`, `" "`, `"x"`, `"\u0000\ud83d\ude00"`}},
		{"files", []string{absent, `null`, `[]`, `{}`, `{"":"x"}`, `{"a.js":1}`, `{"a.js":""}`, `{"a.js":"x"}`, `{"a.js":"x","b.js":""}`, `{"a.js":"x","main.js":"x"}`, `{"../a.js":"x"}`}},
		{"main", []string{absent, `null`, `1`, `""`, `"a.js"`, `"b.js"`}},
		{"entry", []string{absent, `null`, `1`, `""`, `"run"`, `"$_1"`, `"run,run"`}},
		{"timeoutMs", []string{absent, `null`, `"1"`, `0`, `1`, `1.0`, `1.5`, `3e4`, `3600000`, `3600001`, `-1`, `1e300`}},
		{"memoryMb", []string{absent, `null`, `true`, `15`, `16`, `16.5`, `1024`, `1025`}},
		{"allowHosts", []string{absent, `null`, `{}`, `[]`, `[1]`, `["a.example"]`, `["*.A-b.example:8443","127.0.0.1:80"]`, `[""]`, `["https://a"]`, `["a.example:0"]`, `["*"]`}},
		{"extra", []string{absent, `null`, `1`}},
	}
	saves := 0
	check := func(fields map[string]string) {
		set := map[string]json.RawMessage{}
		for name, value := range fields {
			if value != absent {
				set[name] = json.RawMessage(value)
			}
		}
		config, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		var refused bodies.Faults
		if err := s.Validate(t.Context(), "", config, &refused); err != nil {
			t.Fatal(err)
		}
		saved := refused.Err("config")
		if saved == nil {
			saves++
		}
		_, faults := parse(config)
		blank := len(faults.All()) == 1 && (strings.HasPrefix(faults.All()[0].Message, "is empty; write ") || faults.All()[0].Path == "main")
		switch read := len(faults.All()) == 0; {
		case saved == nil && !read && !blank:
			t.Errorf("%s is saved, and can not be read: %v", config, faults.All())
		case saved != nil && read && fields["entry"] != `"run,run"` && !strings.Contains(string(config), "null"):
			t.Errorf("%s could be run, and is not saved: %v", config, saved)
		}
	}
	for _, code := range []map[string]string{{"source": `"x"`}, {"files": `{"main.js":"x"}`}, {}} {
		for i, one := range values {
			for _, v := range one.values {
				for _, other := range values[:i+1] {
					for _, w := range other.values {
						fields := map[string]string{"runtime": `"javascript"`, "source": code["source"], "files": code["files"]}
						fields[one.field] = v
						fields[other.field] = w
						check(fields)
					}
				}
			}
		}
	}
	if saves < 100 {
		t.Errorf("only %d of the configs are saved", saves)
	}
}
