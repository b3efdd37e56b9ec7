package layout

import (
	"go/ast"
	"os"
	"regexp"
	"strings"
	"testing"
)

const observabilityDoc = "docs/observability.md"

var (
	metricRowPattern  = regexp.MustCompile("(?m)^\\| *`[a-z.][^|]*\\|") // the first cell of a row
	metricCellPattern = regexp.MustCompile("`(?:\\.\\.\\._)?([a-z0-9]+(?:_[a-z0-9]+)+)`")
	metricPattern     = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)+$`)
)

// TestMetricsAreDocumented compares the metrics that services register with the table rows of
// docs/observability.md, both ways.
func TestMetricsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile(workspace(t) + "/" + observabilityDoc)
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, cell := range metricRowPattern.FindAllString(string(doc), -1) {
		for _, name := range metricCellPattern.FindAllStringSubmatch(cell, -1) {
			documented[name[1]] = true
		}
	}
	registered := metrics(sources(t))
	if len(registered) < 30 {
		t.Errorf("only %d metrics are registered; does the search still find them?", len(registered))
	}
	for name, where := range registered {
		if !documented[name] && !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("%s registers the metric %s, which %s does not name; add it to the table of its service", where, name, observabilityDoc)
		}
	}
	for name := range documented {
		if registered[name] == "" {
			t.Errorf("%s names the metric %s, which no code registers; remove it", observabilityDoc, name)
		}
	}
}

// metrics gives the names of metrics, each with a file that registers it: the Name of a
// prometheus option, and the first of two texts that a function of the same file is given.
func metrics(files []source) map[string]string {
	found := map[string]string{}
	for _, s := range files {
		if s.test || !imports(s, "github.com/prometheus/client_golang/prometheus/promauto") {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			name := ""
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Name" {
					name = text(n.Value)
				}
			case *ast.CallExpr:
				if _, local := n.Fun.(*ast.Ident); local && len(n.Args) > 1 && text(n.Args[1]) != "" {
					name = text(n.Args[0])
				}
			}
			if metricPattern.MatchString(name) {
				found[name] = s.path
			}
			return true
		})
	}
	return found
}

func imports(s source, path string) bool {
	for _, spec := range s.Imports {
		if text(spec.Path) == path {
			return true
		}
	}
	return false
}
