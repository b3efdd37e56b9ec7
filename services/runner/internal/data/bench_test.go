package data

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// BenchmarkOperations runs every operation over 100,000 rows.
func BenchmarkOperations(b *testing.B) {
	const n = 100_000
	var data strings.Builder
	for i := range n {
		fmt.Fprintf(&data, `%s{"id":%d,"n":%d.5,"s":"k%d","o":{"x":[1,2]}}`, "[,"[min(i, 1):min(i, 1)+1], i, (i*7919)%100_003, i%1000)
	}
	data.WriteByte(']')
	input := json.RawMessage(`{"data":` + data.String() + `,"other":` + data.String() + `}`)
	for _, bench := range []struct{ name, config string }{
		{"filter", `{"operation":"filter","field":"n","operator":"gt","value":50000}`},
		{"filter combined", `{"operation":"filter","any":[{"field":"n","operator":"lt","value":10},{"not":{"field":"s","operator":"regex","value":"^k[0-4]"}}]}`},
		{"map", `{"operation":"map","keep":true,"fields":{"x":"n"}}`},
		{"reduce sum", `{"operation":"reduce","reducer":"sum","field":"n"}`},
		{"reduce join", `{"operation":"reduce","reducer":"join","field":"s"}`},
		{"reduce merge", `{"operation":"reduce","reducer":"merge","deep":true}`},
		{"sort", `{"operation":"sort","sort":[{"field":"n","direction":"desc"}]}`},
		{"sort by two", `{"operation":"sort","sort":[{"field":"s"},{"field":"n"}]}`},
		{"group", `{"operation":"group","groupBy":"s","aggregations":{"t":{"function":"sum","field":"n"}}}`},
		{"flatten arrays", `{"operation":"flatten","field":"o.x"}`},
		{"flatten objects", `{"operation":"flatten","mode":"objects"}`},
		{"unique by field", `{"operation":"unique","fields":["s"]}`},
		{"unique rows", `{"operation":"unique"}`},
		{"pick", `{"operation":"pick","fields":["id","o.x"]}`},
		{"omit", `{"operation":"omit","fields":["n","o.x"]}`},
		{"merge by place", `{"operation":"merge","with":"other","type":"left"}`},
		{"merge by key", `{"operation":"merge","with":"other","key":"id","deep":true}`},
		{"merge fields", `{"operation":"merge","fields":[".","o"]}`},
		{"join", `{"operation":"join","with":"other","leftKey":"id","rightKey":"id"}`},
		{"aggregate", `{"operation":"aggregate","aggregations":{"t":{"function":"sum","field":"n"},"m":{"function":"max","field":"n"}}}`},
		{"transform", `{"operation":"transform","fields":{"id":{"field":"id","convert":["string"]},"n":{"field":"n","convert":["round"]},"t":{"concat":["s","id"],"separator":"-"}}}`},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := run(b, bench.config, string(input)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPipelines runs five operations one after the other over 100,000 rows, with and without expressions, and from and to CSV.
func BenchmarkPipelines(b *testing.B) {
	const n = 100_000
	var rows, records strings.Builder
	records.WriteString("id,price,count,country\n")
	for i := range n {
		country := [...]string{"de", "fr", "it", "us"}[i%4]
		fmt.Fprintf(&rows, `%s{"id":%d,"price":%d.5,"count":%d,"country":"%s"}`, "[,"[min(i, 1):min(i, 1)+1], i, (i*7919)%1000, i%7, country)
		fmt.Fprintf(&records, "%d,%d.5,%d,%s\n", i, (i*7919)%1000, i%7, country)
	}
	rows.WriteByte(']')
	const stages = `{"operation":"transform","fields":{"id":"id","country":{"field":"country","convert":["upper"]},"total":{"field":"price","convert":["number",{"round":1}]}}},
		{"operation":"unique","fields":["id"]},{"operation":"sort","sort":[{"field":"total","direction":"desc"}]},
		{"operation":"group","groupBy":"country","items":false,"aggregations":{"total":{"function":"sum","field":"total"},"n":{"function":"count"}}}]`
	for _, bench := range []struct{ name, config, input string }{
		{"plain", `{"pipeline":[{"operation":"filter","field":"count","operator":"gt","value":0},` + stages + `}`, rows.String()},
		{"expressions", `{"pipeline":[{"operation":"filter","expr":"row.count > input.least"},` + strings.Replace(stages, `{"field":"price","convert":["number",{"round":1}]}`, `{"expr":"row.price * row.count"}`, 1) + `}`, rows.String()},
		{"CSV", `{"input":{"format":"csv"},"output":{"format":"csv"},"pipeline":[{"operation":"filter","field":"count","operator":"neq","value":"0"},` + stages + `}`, quote(records.String())},
	} {
		b.Run(bench.name, func(b *testing.B) {
			input := `{"least":0,"data":` + bench.input + `}`
			b.SetBytes(int64(len(input)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := run(b, bench.config, input); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
