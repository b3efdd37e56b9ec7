package workflow_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/services/catalog/internal/workflow"
)

// of writes a step of any type with more fields.
func of(stepType, key, config, more string) string {
	if more != "" {
		more = "," + more
	}
	return fmt.Sprintf(`{"stepKey":%q,"stepType":%q,"config":%s%s}`, key, stepType, config, more)
}

// loopStep writes a LOOP step with more fields.
func loopStep(config, more string) string {
	return of("LOOP", "l", config, strings.TrimSuffix(`"agentId":"`+agentA+`",`+more, ","))
}

// listOf repeats an element of an array.
func listOf(n int, element string) string {
	return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
}

// nested is a JSON array of arrays.
func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

// configCase is a workflow and the faults that it has, where $ stands for steps[0].config.
type configCase struct{ name, body, want string }

func checkCases(t *testing.T, cases []configCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := workflow.New([]byte(c.body)).Finish(known)
			if got := strings.ReplaceAll(faults(t, err), "steps[0].config", "$"); got != c.want {
				t.Errorf("faults\n got %q\nwant %q\n%+v", got, c.want, details(t, err))
			}
		})
	}
}

func TestCondition(t *testing.T) {
	condition := func(config string) string { return of("CONDITION", "c", config, "") }
	x, y := step("x", `"dependsOn":["c"]`), step("y", `"dependsOn":["c"]`)
	tooMany := []string{of("CONDITION", "one", `{"expression":"1 +"}`, "")}
	for i := range 20 {
		tooMany = append(tooMany, of("CONDITION", fmt.Sprintf("s%d", i), `{"cases":`+listOf(100, `{"when":"true"}`)+`}`, ""))
	}
	checkCases(t, []configCase{
		{"then and else", body(condition(`{"expression":"inputs.yes == true","then":["x"],"else":["y"]}`), x, y), ""},
		{"no branches", body(condition(`{"expression":"inputs.yes","then":[]}`)), ""},
		{"cases", body(condition(`{"cases":[{"when":"inputs.n > 1","then":["x"]},{"when":"metadata.triggerType == \"API\""}],"else":["y","x"]}`), x, y), ""},
		{"most cases", body(condition(`{"cases":` + listOf(100, `{"when":"true"}`) + `}`)), ""},
		{"ancestors", body(step("a", ""), of("CONDITION", "b", `{"expression":"a.output.n > 1 && a.error == nil && a.status == \"COMPLETED\""}`, `"dependsOn":["a"]`)), ""},
		{"local variables and elements", body(condition(`{"expression":"let n = 1; any(inputs.list, # > n && .x == 2)"}`)), ""},

		{"no config", body(`{"stepKey":"c","stepType":"CONDITION"}`), "$.expression required"},
		{"config no object", body(condition(`[]`)), "$ bad_type"},
		{"unknown and null fields", body(condition(`{"expresion":"true","then":null,"else":null,"expression":null}`)), "$.expresion unknown_field\n$.expression bad_type\n$.then bad_type\n$.else bad_type"},
		{"names twice", body(condition(`{"expression":"true","then":["x"],"then":[]}`), x), "$.then bad_value"},
		{"wrong types", body(condition(`{"expression":1,"then":"x","else":{}}`)), "$.expression bad_type\n$.then bad_type\n$.else bad_type"},
		{"wrong entries", body(condition(`{"expression":"true","then":[null,1,["x"],{"x":1},"","x","x"]}`), x), "$.then[0] bad_type\n$.then[1] bad_type\n$.then[2] bad_type\n$.then[3] bad_type\n$.then[6] duplicate_key\n$.then[4] unknown_step"},
		{"deep", body(condition(`{"expression":` + nested(100) + `,"then":` + nested(100) + `,"cases":` + nested(100) + `}`)), "$.expression not_applicable\n$.then not_applicable\n$.expression bad_type\n$.then[0] bad_type\n$.cases[0] bad_type"},
		{"both forms", body(condition(`{"expression":"true","then":["x"],"cases":[{"when":"true","then":["x"]}]}`), x), "$.expression not_applicable\n$.then not_applicable"},
		{"no cases", body(condition(`{"cases":[]}`)), "$.cases out_of_range"},
		{"too many cases", body(condition(`{"cases":` + listOf(101, `{"when":"true"}`) + `}`)), "$.cases out_of_range"},
		{"too many steps", body(condition(`{"expression":"true","then":` + listOf(1001, `"x"`) + `}`)), "$.then out_of_range"},
		{
			"faults of cases", body(condition(`{"cases":[null,{},{"when":"","then":"x","else":[]},{"when":null},{"when":"1 +"}],"else":["q"]}`)),
			"$.cases[0] bad_type\n$.cases[1].when required\n$.cases[2].else unknown_field\n$.cases[2].when out_of_range\n$.cases[2].then bad_type\n$.cases[3].when bad_type\n$.else[0] unknown_step\n$.cases[4].when bad_expression",
		},
		{"cases no array", body(condition(`{"cases":{"when":"true"}}`)), "$.cases bad_type"},

		{"does not compile", body(condition(`{"expression":"inputs.n >"}`)), "$.expression bad_expression"},
		{"too many in all steps", body(tooMany...), "$.expression bad_expression\nsteps out_of_range"},
		{"as many as may be", body(tooMany[1:]...), ""},
		{"null", body(condition(`{"expression":"inputs.n == null"}`)), "$.expression bad_expression"},
		{"a step of that name", body(step("null", ""), of("CONDITION", "c", `{"expression":"null.output"}`, `"dependsOn":["null"]`)), ""},
		{"only spaces", body(condition(`{"expression":"  "}`)), "$.expression bad_expression"},
		{"too long", body(condition(`{"expression":"` + strings.Repeat("1", 4097) + `"}`)), "$.expression out_of_range"},
		{
			"what it must not read", body(condition(`{"cases":[{"when":"secrets.K == \"x\""},{"when":"item > 1"},{"when":"index > 1"},{"when":"q.output"},{"when":"x.output"},{"when":"c.output"}]}`), x),
			"$.cases[0].when bad_expression\n$.cases[1].when bad_expression\n$.cases[2].when bad_expression\n$.cases[3].when unknown_step\n$.cases[4].when not_an_ancestor\n$.cases[5].when not_an_ancestor",
		},
		{
			"nothing of a step", body(step("a", ""), of("CONDITION", "b", `{"expression":"a == a.result && a[0] && a[inputs.x] != a.output"}`, `"dependsOn":["a"]`)),
			"steps[1].config.expression bad_expression\nsteps[1].config.expression bad_expression\nsteps[1].config.expression bad_expression",
		},

		{"branches that are not there", body(condition(`{"expression":"true","then":["q"],"else":["c"]}`)), "$.then[0] unknown_step\n$.else[0] self_dependency"},
		{"branch that does not depend", body(condition(`{"expression":"true","then":["x","y","z"]}`), x, step("y", ""), step("z", `"dependsOn":["x"]`)), "$.then[1] not_a_dependent\n$.then[2] not_a_dependent"},
		{"no cascade from its key", body(of("CONDITION", "1c", `{"expression":"true","then":["x"]}`, ""), step("x", `"dependsOn":["1c"]`)), "steps[0].stepKey bad_key"},
		{"no cascade from a key that stands twice", body(step("c", ""), condition(`{"expression":"true","then":["x"]}`), x), "steps[1].stepKey duplicate_key"},

		{"agent", body(of("CONDITION", "c", `{"expression":"true"}`, `"agentId":"`+agentA+`"`)), "steps[0].agentId not_applicable"},
		{"agent of any type", body(of("CONDITION", "c", `{"expression":"true"}`, `"agentId":7`)), "steps[0].agentId not_applicable"},
		{"no agent", body(of("CONDITION", "c", `{"expression":"true"}`, `"agentId":null,"inputs":{},"onError":"CONTINUE"`)), ""},
		{"inputs", body(of("CONDITION", "c", `{"expression":"true"}`, `"inputs":{"x":"{{q.output}}"}`)), "steps[0].inputs not_applicable"},
		{"retry", body(of("CONDITION", "c", `{"expression":"true"}`, `"onError":"RETRY"`)), "steps[0].onError not_applicable"},
	})
}

func TestLoop(t *testing.T) {
	loop := loopStep
	after := func(config, more string) string {
		return body(step("a", ""), of("LOOP", "l", config, `"agentId":"`+agentA+`","dependsOn":["a"]`+more))
	}
	checkCases(t, []configCase{
		{"array", body(loop(`{"forEach":[1,{"x":"{{inputs.n}}"},null]}`, `"inputs":{"i":"{{item.x}}","n":"{{index}}"},"onError":"RETRY"`)), ""},
		{"no items", body(loop(`{"forEach":[]}`, "")), ""},
		{"template", after(`{"forEach":"{{a.output.rows}}","concurrency":1000,"maxIterations":100000,"maxFailures":100000,"maxFailurePercent":12.5}`, ""), ""},
		{"expression", after(`{"forEach":"filter(a.output.rows, .ok)","concurrency":1,"maxIterations":1,"maxFailures":0,"maxFailurePercent":0}`, ""), ""},
		{"while", after(`{"while":"index < 3 && item != a.output.last && a.status != \"FAILED\"","concurrency":1,"maxFailures":1}`, ""), ""},
		{"exponents in a share", body(loop(`{"forEach":[],"maxFailurePercent":1e2}`, "")), ""},

		{"no config", body(loop(`{}`, "")), "$.forEach required"},
		{"no agent", body(of("LOOP", "l", `{"forEach":[]}`, "")), "steps[0].agentId required"},
		{"agent", body(of("LOOP", "l", `{"forEach":[]}`, `"agentId":"x"`), of("LOOP", "m", `{"forEach":[]}`, `"agentId":"`+unknown+`"`)), "steps[0].agentId bad_value\nsteps[1].agentId unknown_agent"},
		{"both", body(loop(`{"forEach":[],"while":"true","concurrency":2}`, "")), "$.while not_applicable"},
		{"unknown and null fields", body(loop(`{"foreach":[],"forEach":null,"concurrency":null,"maxFailurePercent":null}`, "")), "$.foreach unknown_field\n$.forEach bad_type\n$.concurrency bad_type\n$.maxFailurePercent bad_type"},
		{"wrong types", body(loop(`{"forEach":{},"concurrency":"2","maxIterations":[],"maxFailures":true,"maxFailurePercent":"5"}`, "")), "$.maxIterations bad_type\n$.forEach bad_type\n$.concurrency bad_type\n$.maxFailures bad_type\n$.maxFailurePercent bad_type"},
		{"a number of items", body(loop(`{"forEach":3}`, "")), "$.forEach bad_type"},
		{"while no string", body(loop(`{"while":true}`, "")), "$.while bad_type"},
		{"deep", body(loop(`{"forEach":`+nested(100)+`,"concurrency":`+nested(100)+`}`, "")), "$.concurrency bad_type"},
		{"too low", body(loop(`{"forEach":[],"concurrency":0,"maxIterations":0,"maxFailures":-1,"maxFailurePercent":-0.1}`, "")), "$.maxIterations out_of_range\n$.concurrency out_of_range\n$.maxFailures out_of_range\n$.maxFailurePercent out_of_range"},
		{"too high", body(loop(`{"forEach":[],"concurrency":1001,"maxIterations":100001,"maxFailures":100001,"maxFailurePercent":100.5}`, "")), "$.maxIterations out_of_range\n$.concurrency out_of_range\n$.maxFailures out_of_range\n$.maxFailurePercent out_of_range"},
		{"no whole numbers", body(loop(`{"forEach":[],"concurrency":1.5,"maxIterations":1e3,"maxFailures":0.0,"maxFailurePercent":1e999}`, "")), "$.maxIterations bad_value\n$.concurrency out_of_range\n$.maxFailures bad_value\n$.maxFailurePercent out_of_range"},
		{"more items than iterations", body(loop(`{"forEach":[1,2,3],"maxIterations":2}`, "")), "$.forEach out_of_range"},
		{"more items than the default", body(loop(`{"forEach":`+listOf(1001, "0")+`}`, "")), "$.forEach out_of_range"},
		{"while and concurrency", body(loop(`{"while":"true","concurrency":2,"maxFailurePercent":10}`, "")), "$.concurrency not_applicable\n$.maxFailurePercent not_applicable"},

		{"empty text", body(loop(`{"forEach":""}`, "")), "$.forEach out_of_range"},
		{"text around a template", body(loop(`{"forEach":"{{inputs.a}} "}`, ""), of("LOOP", "m", `{"forEach":"{{inputs.a}}{{inputs.b}}"}`, `"agentId":"`+agentA+`"`)), "$.forEach bad_value\nsteps[1].config.forEach bad_value"},
		{"malformed template", body(loop(`{"forEach":"{{inputs.a"}`, "")), "$.forEach bad_template"},
		{"does not compile", body(loop(`{"forEach":"filter(inputs.a"}`, ""), of("LOOP", "m", `{"while":"1 +"}`, `"agentId":"`+agentA+`"`)), "$.forEach bad_expression\nsteps[1].config.while bad_expression"},
		{
			"what forEach must not read", body(loop(`{"forEach":["{{item}}","{{index}}","{{secrets.K}}","{{q.output}}","{{l.output}}","{{x.output}}"]}`, ""), step("x", `"dependsOn":["l"]`)),
			"$.forEach[0] bad_template\n$.forEach[1] bad_template\n$.forEach[2] bad_template\n$.forEach[3] unknown_step\n$.forEach[4] not_an_ancestor\n$.forEach[5] not_an_ancestor",
		},
		{"an expression has no item", body(loop(`{"forEach":"[item, index, secrets.K]"}`, "")), "$.forEach bad_expression\n$.forEach bad_expression\n$.forEach bad_expression"},
		{"what while must not read", body(loop(`{"while":"secrets.K == l.output || index.x || q.error"}`, "")), "$.while bad_expression\n$.while not_an_ancestor\n$.while bad_expression\n$.while unknown_step"},
		{
			"inputs", body(loop(`{"forEach":[1]}`, `"inputs":{"a":"{{index.x}}","b":"{{q.output}}","c":"{{l.output}}","d":"{{secrets.K.x}}","e":"{{"}`)),
			"steps[0].inputs.e bad_template\nsteps[0].inputs.a bad_template\nsteps[0].inputs.b unknown_step\nsteps[0].inputs.c not_an_ancestor\nsteps[0].inputs.d bad_template",
		},
		{"item elsewhere", body(loop(`{"forEach":[1]}`, ""), step("a", `"inputs":{"i":"{{item}}"}`)), "steps[1].inputs.i bad_template"},
	})
}

func TestParallel(t *testing.T) {
	parallel := func(config string) string { return of("PARALLEL", "p", config, "") }
	branch := func(key, more string) string {
		if more != "" {
			more = "," + more
		}
		return fmt.Sprintf(`{"key":%q,"agentId":%q%s}`, key, agentA, more)
	}
	branches := func(list ...string) string { return `"branches":[` + strings.Join(list, ",") + `]` }
	var hundred []string
	for i := range 101 {
		hundred = append(hundred, branch(fmt.Sprintf("b%d", i), ""))
	}
	checkCases(t, []configCase{
		{"one", body(parallel(`{` + branches(branch("a", "")) + `}`)), ""},
		{"all", body(of("PARALLEL", "p", `{`+branches(branch("a", `"inputs":{"x":"{{inputs.x}}"}`), branch("b", `"inputs":{}`))+`,"join":"all"}`, `"onError":"RETRY"`)), ""},
		{"any", body(parallel(`{` + branches(branch("a", ""), branch("item", "")) + `,"join":"any"}`)), ""},
		{"a number", body(parallel(`{` + branches(hundred[:100]...) + `,"join":100}`)), ""},
		{"after a step", body(step("a", ""), of("PARALLEL", "p", `{`+branches(branch("a", `"inputs":{"x":"{{a.output}}"}`))+`}`, `"dependsOn":["a"]`), step("z", `"dependsOn":["p"],"inputs":{"x":"{{p.output.a}}"}`)), ""},

		{"no config", body(parallel(`{}`)), "$.branches required"},
		{"no branches", body(parallel(`{"branches":[],"join":1}`)), "$.branches out_of_range"},
		{"too many", body(parallel(`{` + branches(hundred...) + `}`)), "$.branches out_of_range"},
		{"unknown and null fields", body(parallel(`{"branches":null,"joins":1,"join":null}`)), "$.joins unknown_field\n$.branches bad_type\n$.join bad_type"},
		{"wrong types", body(parallel(`{"branches":{},"join":[]}`)), "$.branches bad_type\n$.join bad_type"},
		{"deep", body(parallel(`{"branches":` + nested(100) + `,"join":` + nested(100) + `}`)), "$.branches[0] bad_type\n$.join bad_type"},
		{
			"faults of branches", body(parallel(`{"branches":[null,1,{},{"key":"a","agentId":"x","input":{}},{"key":1,"agentId":2,"inputs":[]},{"key":null,"agentId":null,"inputs":null},{"key":"1b","agentId":"` + strings.ToUpper(agentA) + `"},{"key":"","agentId":""}]}`)),
			"$.branches[0] bad_type\n$.branches[1] bad_type\n$.branches[2].key required\n$.branches[2].agentId required\n$.branches[3].input unknown_field\n$.branches[3].agentId bad_value\n" +
				"$.branches[4].key bad_type\n$.branches[4].agentId bad_type\n$.branches[4].inputs bad_type\n$.branches[5].key bad_type\n$.branches[5].agentId bad_type\n$.branches[5].inputs bad_type\n" +
				"$.branches[6].key bad_key\n$.branches[6].agentId bad_value\n$.branches[7].key out_of_range\n$.branches[7].agentId out_of_range",
		},
		{"keys twice", body(parallel(`{` + branches(branch("a", ""), branch("b", ""), branch("a", "")) + `}`)), "$.branches[2].key duplicate_key"},
		{"key too long", body(parallel(`{` + branches(branch(strings.Repeat("k", 65), "")) + `}`)), "$.branches[0].key out_of_range"},
		{"unknown agent", body(parallel(`{"branches":[` + branch("a", "") + `,{"key":"b","agentId":"` + unknown + `"},null]}`)), "$.branches[2] bad_type\n$.branches[1].agentId unknown_agent"},
		{"join too low", body(parallel(`{` + branches(branch("a", "")) + `,"join":0}`)), "$.join out_of_range"},
		{"join too high", body(parallel(`{` + branches(branch("a", ""), branch("b", "")) + `,"join":3}`)), "$.join out_of_range"},
		{"join no whole number", body(parallel(`{` + branches(branch("a", ""), branch("b", "")) + `,"join":2.0}`)), "$.join bad_value"},
		{"join of another text", body(parallel(`{` + branches(branch("a", "")) + `,"join":"1"}`)), "$.join bad_enum"},
		{"join of another type", body(parallel(`{` + branches(branch("a", "")) + `,"join":true}`)), "$.join bad_type"},
		{
			"what inputs must not read", body(parallel(`{`+branches(branch("a", `"inputs":{"a":["{{item}}","{{index}}"],"b":"{{p.output}}","c":"{{q.output}}","d":"{{secrets.K.x}}","e":"{{","f":"{{x.output}}"}`))+`}`), step("x", "")),
			"$.branches[0].inputs.e bad_template\n$.branches[0].inputs.a[0] bad_template\n$.branches[0].inputs.a[1] bad_template\n$.branches[0].inputs.b not_an_ancestor\n$.branches[0].inputs.c unknown_step\n$.branches[0].inputs.d bad_template\n$.branches[0].inputs.f not_an_ancestor",
		},
		{
			"agent and inputs of the step", body(of("PARALLEL", "p", `{`+branches(branch("a", ""))+`}`, `"agentId":"`+unknown+`","inputs":{"x":"{{"}`)),
			"steps[0].agentId not_applicable\nsteps[0].inputs not_applicable",
		},
	})
}

func TestWait(t *testing.T) {
	wait := func(config string) string { return of("WAIT", "w", config, "") }
	checkCases(t, []configCase{
		{"duration", body(wait(`{"durationMs":0}`)), ""},
		{"longest", body(wait(`{"durationMs":3153600000000}`)), ""},
		{"duration of a template", body(wait(`{"durationMs":"{{inputs.ms}}"}`)), ""},
		{"until", body(wait(`{"until":"2027-01-31T09:00:00.5+02:00"}`)), ""},
		{"until of templates", body(step("a", ""), of("WAIT", "w", `{"until":"{{a.output.day}}T{{inputs.time}}Z"}`, `"dependsOn":["a"]`)), ""},
		{"signal", body(wait(`{"signal":"order.paid-2_x"}`)), ""},
		{"signal with default", body(of("WAIT", "w", `{"signal":"go","timeoutMs":86400000,"default":{"a":1}}`, `"onError":"CONTINUE","timeoutMs":86400000`)), ""},
		{"null is a default", body(wait(`{"signal":"go","timeoutMs":1,"default":null}`)), ""},
		{"approval", body(wait(`{"approval":true}`)), ""},
		{"approval by name", body(wait(`{"approval":true,"signal":"ok","timeoutMs":5,"default":{"approved":false}}`)), ""},
		{"no approval", body(wait(`{"approval":false,"durationMs":1}`)), ""},

		{"no config", body(wait(`{}`)), "$ required"},
		{"nothing", body(wait(`{"approval":false,"timeoutMs":5}`)), "$ required"},
		{"unknown and null fields", body(wait(`{"duration":5,"durationMs":null}`), of("WAIT", "v", `{"signal":null,"approval":null,"timeoutMs":null}`, "")), "$.duration unknown_field\n$.durationMs bad_type\nsteps[1].config.signal bad_type\nsteps[1].config.approval bad_type\nsteps[1].config.timeoutMs bad_type"},
		{"several", body(wait(`{"durationMs":5,"until":"2027-01-31T09:00:00Z","signal":"go","approval":true}`)), "$.until not_applicable\n$.signal not_applicable\n$.approval not_applicable"},
		{"wrong types", body(wait(`{"durationMs":true}`), of("WAIT", "a", `{"until":5}`, ""), of("WAIT", "b", `{"signal":{},"timeoutMs":"5"}`, ""), of("WAIT", "c", `{"approval":"yes"}`, "")), "$.durationMs bad_type\nsteps[1].config.until bad_type\nsteps[2].config.signal bad_type\nsteps[2].config.timeoutMs bad_type\nsteps[3].config.approval bad_type"},
		{"deep", body(wait(`{"durationMs":`+nested(100)+`}`), of("WAIT", "a", `{"until":`+nested(100)+`}`, "")), "$.durationMs bad_type\nsteps[1].config.until bad_type"},
		{"deep default", body(wait(`{"signal":"go","timeoutMs":5,"default":` + nested(100) + `}`)), ""},
		{"negative", body(wait(`{"durationMs":-1}`)), "$.durationMs out_of_range"},
		{"too long", body(wait(`{"durationMs":3153600000001}`)), "$.durationMs out_of_range"},
		{"part of a millisecond", body(wait(`{"durationMs":0.5}`)), "$.durationMs out_of_range"},
		{"duration of a text", body(wait(`{"durationMs":"5"}`), of("WAIT", "v", `{"durationMs":"{{inputs.s}}000"}`, "")), "$.durationMs bad_type\nsteps[1].config.durationMs bad_type"},
		{"malformed templates", body(wait(`{"durationMs":"{{inputs"}`), of("WAIT", "v", `{"until":"{{inputs"}`, "")), "$.durationMs bad_template\nsteps[1].config.until bad_template"},
		{"no time", body(wait(`{"until":"tomorrow"}`), of("WAIT", "a", `{"until":""}`, ""), of("WAIT", "b", `{"until":"2027-01-31T09:00:00"}`, ""), of("WAIT", "c", `{"until":"2027-02-29T09:00:00Z"}`, "")), "$.until bad_value\nsteps[1].config.until out_of_range\nsteps[2].config.until bad_value\nsteps[3].config.until bad_value"},
		{"names of signals", body(wait(`{"signal":"a b"}`), of("WAIT", "a", `{"signal":""}`, ""), of("WAIT", "b", `{"signal":".x"}`, ""), of("WAIT", "c", `{"signal":"`+strings.Repeat("s", 101)+`"}`, ""), of("WAIT", "d", `{"signal":"`+strings.Repeat("s", 100)+`"}`, ""), of("WAIT", "e", `{"signal":"{{inputs.s}}"}`, "")), "$.signal bad_value\nsteps[1].config.signal out_of_range\nsteps[2].config.signal bad_value\nsteps[3].config.signal out_of_range\nsteps[5].config.signal bad_value"},
		{"default without a signal", body(wait(`{"durationMs":5,"timeoutMs":5,"default":null}`)), "$.timeoutMs not_applicable\n$.default not_applicable"},
		{"default that is never taken", body(wait(`{"approval":true,"default":1}`)), "$.timeoutMs required"},
		{"bounds of timeoutMs", body(wait(`{"signal":"go","timeoutMs":0}`), of("WAIT", "a", `{"signal":"go","timeoutMs":86400001}`, ""), of("WAIT", "b", `{"signal":"go","timeoutMs":5.0}`, "")), "$.timeoutMs out_of_range\nsteps[1].config.timeoutMs out_of_range\nsteps[2].config.timeoutMs bad_value"},
		{
			"what it must not read", body(wait(`{"durationMs":"{{secrets.K}}"}`), of("WAIT", "a", `{"until":"{{item}}{{x.output}}{{q.output}}{{index}}{{a.error}}"}`, ""), step("x", "")),
			"$.durationMs bad_template\nsteps[1].config.until bad_template\nsteps[1].config.until not_an_ancestor\nsteps[1].config.until unknown_step\nsteps[1].config.until bad_template\nsteps[1].config.until not_an_ancestor",
		},
		{
			"agent, inputs and retry", body(of("WAIT", "w", `{"durationMs":5}`, `"agentId":"x","inputs":{"a":1},"onError":"RETRY"`)),
			"steps[0].agentId not_applicable\nsteps[0].inputs not_applicable\nsteps[0].onError not_applicable",
		},
	})
}

func TestRemedies(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"a branch that does not depend", body(of("CONDITION", "c", `{"expression":"true","then":["x"]}`, ""), step("x", "")), `add "c" to the dependsOn of "x"`},
		{"the fault of an expression", body(of("CONDITION", "c", `{"expression":"inputs.n >"}`, "")), "column 10"},
		{"what a step has", body(step("a", ""), of("CONDITION", "c", `{"expression":"a.result"}`, `"dependsOn":["a"]`)), "write a.output or a.error or a.status"},
		{"what a step has in a template", body(step("a", ""), of("WAIT", "w", `{"until":"{{a.result}}"}`, `"dependsOn":["a"]`)), "write {{a.output}} or {{a.error}}"},
		{"digits", body(loopStep(`{"forEach":[],"maxIterations":1e3}`, "")), "write 1000"},
		{"small letters", body(of("PARALLEL", "p", `{"branches":[{"key":"a","agentId":"`+strings.ToUpper(agentA)+`"}]}`, "")), "write " + agentA},
		{"the agents of branches", body(of("PARALLEL", "p", `{"branches":[{"key":"a","agentId":"`+agentA+`"}]}`, `"agentId":"`+agentA+`"`)), "config.branches"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := workflow.New([]byte(c.body)).Finish(known)
			d := details(t, err)
			if len(d) != 1 || !strings.Contains(d[0].Message, c.want) {
				t.Errorf("got %+v, want %q", d, c.want)
			}
		})
	}
}

func TestConfigsStayAsWritten(t *testing.T) {
	w, err := workflow.New([]byte(body(of("WAIT", "w", "{ \"signal\" : \"go\",\n\t\"default\": { \"b\": 1.50, \"a\": null }, \"timeoutMs\": 5 }", "")))).Finish(known)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"signal":"go","default":{"b":1.50,"a":null},"timeoutMs":5}`; string(w.Steps[0].Config) != want {
		t.Errorf("got  %s\nwant %s", w.Steps[0].Config, want)
	}
}

func TestTimeoutOfWait(t *testing.T) {
	base, err := workflow.New([]byte(body(of("WAIT", "w", `{"durationMs":5}`, ""), of("WAIT", "v", `{"durationMs":5}`, `"timeoutMs":7`), step("a", "")))).Finish(known)
	if err != nil {
		t.Fatal(err)
	}
	timeouts := func(w catalog.Workflow) string {
		var all []string
		for _, s := range w.Steps {
			all = append(all, fmt.Sprint(s.TimeoutMs))
		}
		return strings.Join(all, " ")
	}
	if got := timeouts(base); got != "86400000 7 300000" {
		t.Errorf("got %s", got)
	}
	next, err := workflow.Patch(base, []byte(`{"steps":[{"stepKey":"v","timeoutMs":null},{"stepKey":"a","timeoutMs":null},{"stepKey":"w","onError":"CONTINUE"}]}`)).Finish(known)
	if err != nil || timeouts(next) != "86400000 86400000 300000" {
		t.Errorf("got %s, %v", timeouts(next), err)
	}
}

func TestAgentsOfSteps(t *testing.T) {
	const agentB, agentC = "0193b7f0-0000-7000-8000-00000000000b", "0193b7f0-0000-7000-8000-00000000000c"
	d := workflow.New([]byte(`{"name":"w","status":"ACTIVE","steps":[` + strings.Join([]string{
		step("a", ""), of("LOOP", "l", `{"forEach":[1]}`, `"agentId":"`+agentB+`"`),
		of("PARALLEL", "p", `{"branches":[{"key":"a","agentId":"`+agentA+`"},{"key":"b","agentId":"`+agentC+`"},{"key":"c","agentId":"`+agentC+`"}]}`, ""),
		of("WAIT", "w", `{"durationMs":5}`, ""),
	}, ",") + `]}`))
	if got := d.AgentIDs(); !slices.Equal(got, []string{agentA, agentB, agentC}) {
		t.Errorf("got %v", got)
	}
	w, err := d.Finish(func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	agents := map[string]catalog.Agent{}
	for _, id := range []string{agentA, agentB, agentC} {
		agents[id] = catalog.Agent{ID: id, Name: "n", Type: "CODE", Status: "ACTIVE", Config: json.RawMessage(`{}`)}
	}
	definition, err := workflow.Define(w, agents)
	if err != nil || len(definition.Agents) != 3 {
		t.Fatalf("agents %+v, %v", definition.Agents, err)
	}

	draft := agents[agentC]
	draft.Status = "DRAFT"
	agents[agentC] = draft
	delete(agents, agentB)
	_, err = workflow.Define(w, agents)
	if got := obstacles(t, err); got != "steps[1].agentId unknown_agent\nsteps[2].config.branches[1].agentId not_active" {
		t.Errorf("got %q", got)
	}
}

func TestPatchConfigs(t *testing.T) {
	base, err := workflow.New([]byte(body(of("CONDITION", "c", `{"expression":"inputs.n > 1","then":["x"]}`, ""), step("x", `"dependsOn":["c"]`), of("WAIT", "w", `{"durationMs":5}`, "")))).Finish(known)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, body, want string // faults
		version          int
	}{
		{"same config", `{"steps":[{"stepKey":"w","config":{ "durationMs":5}}]}`, "", 1},
		{"another config", `{"steps":[{"stepKey":"w","config":{"durationMs":6}}]}`, "", 2},
		{"configs are replaced whole", `{"steps":[{"stepKey":"w","config":{"signal":"go"}}]}`, "", 2},
		{"null clears a config", `{"steps":[{"stepKey":"w","config":null}]}`, "steps[0].config required", 0},
		{"delete a branch's step", `{"steps":[{"stepKey":"x","_delete":true}]}`, `steps["c"].config.then[0] unknown_step`, 0},
		{"a branch's step lets go", `{"steps":[{"stepKey":"x","dependsOn":[]}]}`, `steps["c"].config.then[0] not_a_dependent`, 0},
		{"another type keeps the rest", `{"steps":[{"stepKey":"x","stepType":"WAIT","config":{"durationMs":1}}]}`, "steps[0].agentId not_applicable", 0},
		{"another type", `{"steps":[{"stepKey":"x","stepType":"WAIT","config":{"durationMs":1},"agentId":null}]}`, "", 2},
		{"another type needs its config", `{"steps":[{"stepKey":"w","stepType":"LOOP"}]}`, "steps[0].agentId required\nsteps[0].config.durationMs unknown_field\nsteps[0].config.forEach required", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, err := workflow.Patch(base, []byte(c.body)).Finish(known)
			if got := faults(t, err); got != c.want {
				t.Fatalf("faults %q, want %q", got, c.want)
			}
			if c.want == "" && next.Version != c.version {
				t.Errorf("version %d, want %d", next.Version, c.version)
			}
		})
	}
}
