package expr_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"turbocat.io/pkg/expr"
	"turbocat.io/pkg/template"
)

// FuzzExpression wants that nothing panics or takes long, that the same gives the same, that a
// value is JSON and an error one line, and that nothing is read but what the references name.
func FuzzExpression(f *testing.F) {
	for _, use := range functions {
		f.Add(strings.ReplaceAll(use.source, "%s", "inputs.o"), document)
	}
	f.Fuzz(func(t *testing.T, source, values string) {
		start := time.Now()
		defer func() {
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("%q with %q took %s", source, values, took)
			}
		}()
		e, err := expr.Compile(source)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error of %q is %q", source, err)
			}
			return
		}
		named := map[string]bool{}
		for _, r := range e.References() {
			named[r.Path.String()] = true
		}
		find := func(p template.Path) (json.RawMessage, bool) {
			if !named[p.String()] {
				t.Errorf("%q looks up %s, which is no reference", source, p)
			}
			return template.Walk([]byte(values), p)
		}
		first, err := e.Evaluate(find)
		again, errAgain := e.Evaluate(find)
		if string(first) != string(again) || fmt.Sprint(err) != fmt.Sprint(errAgain) {
			t.Errorf("%q gives %q, %v and then %q, %v", source, first, err, again, errAgain)
		}
		if err == nil && !json.Valid(first) {
			t.Errorf("%q gives %q, which is no JSON", source, first)
		}
		if err != nil && (strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "cannot be evaluated")) {
			t.Errorf("the error of %q is %q", source, err)
		}
		holds, err := e.Holds(find)
		if holds && (err != nil || string(first) != "true") {
			t.Errorf("%q holds and gives %q, %v", source, first, err)
		}
	})
}
