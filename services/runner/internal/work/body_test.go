package work

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"turbocat.io/contracts/runner"
)

func TestReadBody(t *testing.T) {
	for _, raw := range []string{
		`{"config":{"operation":"pick"},"input":{"data":[1,"\"}",null]}}`,
		" {\n\t\"config\" : null , \"input\" : [ 1 , 2 ] , \"inputSchema\":{ } ,\"outputSchema\":true}\n",
		`{"input":"x","more":{"config":1},"config":-1.5e3}`,
		`{"config":{},"input":{"k":""},"secrets":[{"name":"K","at":6}],"grant":"a.b-c_d.e"}`,
	} {
		var want runner.StepBody
		if err := json.Unmarshal([]byte(raw), &want); err != nil {
			t.Fatal(err)
		}
		if got, ok := readBody([]byte(raw)); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", raw, got, want)
		}
	}
	for _, raw := range []string{``, `1`, `[]`, `{}`, `{"config":1}`, `{"input":1}`, `{"config":1,"input":}`, `{"config":1,"input":1}}`, `{"config":1,"input":1,"secrets":7}`} {
		if got, ok := readBody([]byte(raw)); ok {
			t.Errorf("%s: %+v", raw, got)
		}
	}
}

func TestValidIsBoundedInDepth(t *testing.T) {
	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	for _, n := range []int{maxNesting, maxNesting + 1, 4 << 20} {
		if raw := nested(n); valid(raw) != json.Valid(raw) {
			t.Errorf("%d levels: %v", n, valid(raw))
		}
	}
}

// FuzzValid compares with encoding/json.
func FuzzValid(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-0.5e+7,true,false,null,"\u00e9\"\\\/\b\f\n\r\t"]}`, `01`, `-`, `1.`, `.5`, `1e`, `+1`, `"\x"`, `"\u12g4"`, "\"\x01\"", "\"\xff\"", `tru`, `truee`,
		`[1,]`, `{"a":1,}`, `{"a"}`, `{1:2}`, `[1 2]`, `1 2`, ``, ` `, "\ufeff1", "\v1", `{"a":1}x`, "\x00", `"`, `"\`, `-01`, `1E-7`, "[\u00a0]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if got, want := valid(raw), json.Valid(raw); got != want {
			t.Errorf("%q: %v, encoding/json says %v", raw, got, want)
		}
	})
}
