package data

import (
	"encoding/json"
	"strings"
	"testing"

	"turbocat.io/contracts/runner"
)

func TestFormats(t *testing.T) {
	text := func(s string) string { return `{"data":` + quote(s) + `}` }
	const all = `"pipeline":[]`
	for name, c := range map[string]struct{ config, input, want string }{
		"CSV":                {`{"input":{"format":"csv"},` + all + `}`, text("a,b\n1,x\n\"2,3\",\"y \"\"z\"\"\nw\"\n"), `{"data":[{"a":"1","b":"x"},{"a":"2,3","b":"y \"z\"\nw"}],"count":2}`},
		"a mark and returns": {`{"input":{"format":"csv"},` + all + `}`, text("\ufeffa;b\r\n1;\r\n"), `{"data":[{"a;b":"1;"}],"count":1}`},
		"another delimiter":  {`{"input":{"format":"csv","delimiter":";"},` + all + `}`, text("a;b\n1;\n"), `{"data":[{"a":"1","b":""}],"count":1}`},
		"no header":          {`{"input":{"format":"csv","header":false,"columns":["x","y"]},` + all + `}`, text("1,2"), `{"data":[{"x":"1","y":"2"}],"count":1}`},
		"renamed":            {`{"input":{"format":"csv","columns":["x","y"]},` + all + `}`, text("a,a\n1,2"), `{"data":[{"x":"1","y":"2"}],"count":1}`},
		"no records":         {`{"input":{"format":"csv"},` + all + `}`, text("a,b\n"), `{"data":[],"count":0}`},
		"nothing":            {`{"input":{"format":"csv"},` + all + `}`, text(""), `{"data":[],"count":0}`},
		"lines":              {`{"input":{"format":"ndjson"},` + all + `}`, text("{\"a\":1.50}\r\n\n [2] \n\"x\""), `{"data":[{"a":1.50},[2],"x"],"count":3}`},
		"with an operation": {
			`{"input":{"format":"csv"},"operation":"filter","expr":"float(row.n) > input.least"}`, `{"least":1,"data":"n\n1\n2\n"}`,
			`{"data":[{"n":"2"}],"count":1}`,
		},
		"to CSV":         {`{"output":{"format":"csv"},` + all + `}`, `{"data":[{"a":1.50,"b":null,"c":"x,y"},{"d":true,"a":"\"q\""}]}`, `{"data":` + quote("a,b,c,d\n1.50,,\"x,y\",\n\"\"\"q\"\"\",,,true\n") + `,"count":2}`},
		"chosen columns": {`{"output":{"format":"csv","columns":["b","a"],"header":false,"delimiter":"|"},` + all + `}`, `{"data":[{"a":1,"b":"x|y","o":{}}]}`, `{"data":` + quote("\"x|y\"|1\n") + `,"count":1}`},
		"an empty field": {`{"output":{"format":"csv"},` + all + `}`, `{"data":[{"a":""},{"a":"1"}]}`, `{"data":` + quote("a\n\"\"\n1\n") + `,"count":2}`},
		"no rows":        {`{"output":{"format":"csv"},` + all + `}`, `{"data":[]}`, `{"data":"","count":0}`},
		"to lines":       {`{"output":{"format":"ndjson"},` + all + `}`, "{\"data\":[{\"a\":\n[1,\r\n2]},\"x\\ny\",3]}", `{"data":` + quote("{\"a\":[1,2]}\n\"x\\ny\"\n3\n") + `,"count":3}`},
		"one value":      {`{"output":{"format":"csv"},"operation":"aggregate","aggregations":{"n":{"function":"count"}}}`, `{"data":[1,2]}`, `{"data":"n\n2\n","count":1}`},
		"both":           {`{"input":{"format":"csv"},"output":{"format":"ndjson"},"operation":"transform","fields":{"n":{"field":"n","convert":["number"]}}}`, text("n\n1\n2\n"), `{"data":"{\"n\":1}\n{\"n\":2}\n","count":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := run(t, c.config, c.input); err != nil || got != c.want {
				t.Errorf("it gives %s, %v\nwant %s", got, err, c.want)
			}
		})
	}
}

func TestFormatErrors(t *testing.T) {
	text := func(s string) string { return `{"data":` + quote(s) + `}` }
	in := func(options string) string { return `{"input":{"format":` + options + `},"pipeline":[]}` }
	for name, c := range map[string]struct{ config, input, code, want string }{
		"too few fields":          {in(`"csv"`), text("a,b\n1,2\n\n3\n"), runner.CodeDataError, "input.data line 4: has 1 fields, and there are 2 columns"},
		"too many fields":         {in(`"csv"`), text("a\n1,2\n"), runner.CodeDataError, "input.data line 2: has 2 fields"},
		"a quote":                 {in(`"csv"`), text("a,b\n1,x\"y\n"), runner.CodeDataError, `input.data line 2, column 4: bare " in non-quoted-field`},
		"an open quote":           {in(`"csv"`), text("a\n\"x\n"), runner.CodeDataError, `input.data line 2, column 4: extraneous or missing " in quoted-field`},
		"a column without a name": {in(`"csv"`), text("a,,c\n"), runner.CodeDataError, "input.data line 1: column 2 has no name; name the columns in input.columns"},
		"a column twice":          {in(`"csv"`), text("a,a\n"), runner.CodeDataError, `two columns are called "a"`},
		"other columns":           {in(`"csv","columns":["x"]`), text("a,b\n"), runner.CodeDataError, "has 2 columns, and input.columns names 1"},
		"no text":                 {in(`"csv"`), `{"data":[]}`, runner.CodeDataError, "must be a text of CSV, not an array"},
		"no line of JSON":         {in(`"ndjson"`), text("1\n\n{a}\n"), runner.CodeDataError, `input.data line 3: is no JSON: "{a}"`},
		"an array in CSV":         {`{"output":{"format":"csv"},"pipeline":[]}`, `{"data":[{"a":1},{"a":[1]}]}`, runner.CodeDataError, `output: row 1 field "a": is an array, which is no field of CSV`},
		"a row of CSV":            {`{"output":{"format":"csv"},"pipeline":[]}`, `{"data":[{"a":1},2]}`, runner.CodeDataError, "output: row 1: the row is a number, not an object"},
		"no format":               {`{"input":{},"pipeline":[]}`, `{}`, runner.CodeInvalidConfig, "input.format: is missing"},
		"no known format":         {in(`"xml"`), `{}`, runner.CodeInvalidConfig, `input.format: is "xml"`},
		"no known delimiter":      {in(`"csv","delimiter":"x"`), `{}`, runner.CodeInvalidConfig, "input.delimiter"},
		"options of another":      {in(`"json","header":true`), `{}`, runner.CodeInvalidConfig, "input.header: is not a field"},
		"no columns":              {in(`"csv","header":false`), `{}`, runner.CodeInvalidConfig, "input.columns: is missing"},
		"empty columns":           {in(`"csv","columns":["a",""]`), `{}`, runner.CodeInvalidConfig, "input.columns[1]: must not be empty"},
		"columns twice":           {in(`"csv","columns":["a","a"]`), `{}`, runner.CodeInvalidConfig, "input.columns[1]"},
		"a format of a stage":     {`{"pipeline":[{"operation":"unique","input":{"format":"csv"}}]}`, `{}`, runner.CodeInvalidConfig, "pipeline[0].input"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := run(t, c.config, c.input)
			if err == nil || err.Code != c.code || !strings.Contains(err.Message, c.want) {
				t.Errorf("it gives %v, want %s with %q", err, c.code, c.want)
			}
		})
	}
}

func TestExpressions(t *testing.T) {
	for name, c := range map[string]struct{ config, input, want string }{
		"filter":         {`{"operation":"filter","expr":"row.a > 1 && 'x' in (row.tags ?? [])"}`, `{"data":[{"a":2,"tags":["x"]},{"a":2},{"a":1,"tags":["x"]}]}`, `{"data":[{"a":2,"tags":["x"]}],"count":1}`},
		"among others":   {`{"operation":"filter","all":[{"expr":"row.a > 1"},{"not":{"expr":"row.a > 2"}}]}`, `{"data":[{"a":1},{"a":2},{"a":3}]}`, `{"data":[{"a":2}],"count":1}`},
		"the row itself": {`{"operation":"filter","expr":"row % 2 == 0"}`, `{"data":[1,2,3,4]}`, `{"data":[2,4],"count":2}`},
		"map":            {`{"operation":"map","keep":true,"fields":{"total":{"expr":"row.price * row.n * (1 + input.tax)"}}}`, `{"tax":0.5,"data":[{"price":2,"n":3}]}`, `{"data":[{"price":2,"n":3,"total":9}],"count":1}`},
		"transform":      {`{"operation":"transform","fields":{"a":{"expr":"upper(row.a)","convert":["lower"]},"b":{"coalesce":[{"expr":"row.none"},{"value":7}]}}}`, `{"data":[{"a":"x"}]}`, `{"data":[{"a":"x","b":7}],"count":1}`},
		"cases":          {`{"operation":"transform","fields":{"a":{"cases":[{"when":{"expr":"row.n >= 2"},"then":{"value":"many"}}],"else":{"value":"few"}}}}`, `{"data":[{"n":1},{"n":2}]}`, `{"data":[{"a":"few"},{"a":"many"}],"count":2}`},
		"what is absent": {`{"operation":"map","fields":{"a":{"expr":"row.none"},"b":{"expr":"row.none ?? 'x'"},"c":{"expr":"input.none"}}}`, `{"data":[{}]}`, `{"data":[{"a":null,"b":"x","c":null}],"count":1}`},
		"input anew":     {`{"operation":"filter","expr":"row.id in input.ids"}`, `{"ids":[1],"data":[{"id":1},{"id":2}]}`, `{"data":[{"id":1}],"count":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := run(t, c.config, c.input); err != nil || got != c.want {
				t.Errorf("it gives %s, %v\nwant %s", got, err, c.want)
			}
		})
	}
	for name, c := range map[string]struct{ config, input, code, want string }{
		"null in a sum":       {`{"operation":"map","fields":{"t":{"expr":"row.a + 1"}}}`, `{"data":[{"a":1},{"a":null}]}`, runner.CodeDataError, `map: row 1 field "t": expr: `},
		"no condition":        {`{"operation":"filter","expr":"row.a"}`, `{"data":[{"a":1}]}`, runner.CodeDataError, "filter: row 0: expr: the value is a number, not true or false"},
		"too much work":       {`{"operation":"filter","expr":"len(map(1..1000, map(1..1000, #))) > 0"}`, `{"data":[1]}`, runner.CodeDataError, "expr: "},
		"a syntax error":      {`{"operation":"filter","expr":"row.a >"}`, `{}`, runner.CodeInvalidConfig, "expr: "},
		"another name":        {`{"operation":"filter","expr":"price > 1"}`, `{}`, runner.CodeInvalidConfig, "expr: there is no price; write row.price"},
		"beside a test":       {`{"operation":"filter","expr":"true","field":"a"}`, `{}`, runner.CodeInvalidConfig, "field: stands beside expr"},
		"beside a value":      {`{"operation":"map","fields":{"a":{"expr":"1","value":2}}}`, `{}`, runner.CodeInvalidConfig, "fields.a.value: stands beside expr"},
		"no text":             {`{"operation":"filter","expr":7}`, `{}`, runner.CodeInvalidConfig, "expr: must be a string"},
		"beside another form": {`{"operation":"transform","fields":{"a":{"expr":"1","field":"b"}}}`, `{}`, runner.CodeInvalidConfig, "stands beside"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := run(t, c.config, c.input)
			if err == nil || err.Code != c.code || !strings.Contains(err.Message, c.want) {
				t.Errorf("it gives %v, want %s with %q", err, c.code, c.want)
			}
		})
	}
}

// FuzzCSV has what is read from a text written and read again.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"a,b\n1,2\n", "a\n\"\"\n", "\ufeffa;b\r\n\"x\ny\";2", "a\n\n\n1", "a,a\n1,2", "\"", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		input, err := json.Marshal(map[string]string{"data": text})
		if err != nil {
			t.Skip()
		}
		rows, failed := run(t, `{"input":{"format":"csv"},"pipeline":[]}`, string(input))
		if failed != nil {
			if failed.Code != runner.CodeDataError {
				t.Fatalf("%q gives %v", text, failed)
			}
			return
		}
		written, failed := run(t, `{"output":{"format":"csv"},"pipeline":[]}`, rows)
		if failed != nil {
			t.Fatalf("%s can not be written: %v", rows, failed)
		}
		again, failed := run(t, `{"input":{"format":"csv"},"pipeline":[]}`, written)
		if failed != nil || again != rows {
			t.Errorf("%q has the rows %s, and written and read again %s, %v", text, rows, again, failed)
		}
	})
}

// FuzzNDJSON has what is read from a text written and read again.
func FuzzNDJSON(f *testing.F) {
	for _, s := range []string{"{\"a\":1}\n[2]\n", "1\r\n\r\n2", "{", "\u2028\n1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		input, err := json.Marshal(map[string]string{"data": text})
		if err != nil {
			t.Skip()
		}
		rows, failed := run(t, `{"input":{"format":"ndjson"},"pipeline":[]}`, string(input))
		if failed != nil {
			return
		}
		written, failed := run(t, `{"output":{"format":"ndjson"},"pipeline":[]}`, rows)
		if failed != nil {
			t.Fatalf("%s can not be written: %v", rows, failed)
		}
		if again, failed := run(t, `{"input":{"format":"ndjson"},"pipeline":[]}`, written); failed != nil || again != rows {
			t.Errorf("%q has the rows %s, and written and read again %s, %v", text, rows, again, failed)
		}
	})
}
