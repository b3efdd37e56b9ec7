package httpapi_test

import (
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts/errs"
)

// TestUnknownParameters sends every operation parameters that it does not take. It names them and those that it takes, and does nothing.
func TestUnknownParameters(t *testing.T) {
	w := start(t, setup{})
	document, _ := loadDocument(t, w)
	asked := 0
	for path, item := range document.Paths.Map() {
		for method, op := range item.Operations() {
			if slices.Contains(op.Tags, "docs") || slices.Contains(op.Tags, "health") || op.OperationID == "receiveHook" || strings.Contains(path, "/schemas/") { // files, whose address pages may give a version; probes say what they like, and so do senders of webhooks
				continue
			}
			asked++
			for _, p := range item.Parameters {
				t.Fatalf("%s has parameters of all its methods, %s for one; have them looked at here", path, p.Value.Name)
			}
			var known []string
			for _, p := range op.Parameters {
				path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", thingID)
				if p.Value.In == "query" {
					known = append(known, p.Value.Name)
				}
			}
			slices.Sort(known)
			takes := "this route takes none"
			if len(known) > 0 {
				takes = "this route takes " + strings.Join(known, ", ")
			}
			want := []errs.Detail{
				{Field: "pagesize", Message: "unknown parameter; " + takes, Code: errs.UnknownField},
				{Field: `["a b"]`, Message: "unknown parameter; " + takes, Code: errs.UnknownField},
			}
			got := w.do(request{method: method, path: path + "?pagesize=3&a%20b=c&pagesize=4", token: aliceToken})
			if got.status != 400 || got.body.Error.Code != errs.Validation || !slices.Equal(got.body.Error.Details, want) {
				t.Errorf("%s %s (%s): %d %s, want %+v", method, path, op.OperationID, got.status, got.text, want)
			}
		}
	}
	if asked < 60 {
		t.Errorf("only %d operations were asked", asked)
	}
	if got := w.do(request{method: "GET", path: "/health?x=1"}); got.status == 400 {
		t.Errorf("/health: %d %s", got.status, got.text)
	}
}
