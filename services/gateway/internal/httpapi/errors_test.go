package httpapi

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"turbocat.io/contracts/errs"
)

// TestNoCodeIsForgotten finds a code that clients would get as a 500, or that the document does not know.
func TestNoCodeIsForgotten(t *testing.T) {
	t.Parallel()
	field, _ := reflect.TypeFor[fault]().FieldByName("Code")
	documented := strings.Split(field.Tag.Get("enum"), ",")
	for i, code := range errs.Codes() {
		if statusOf[code] == 0 {
			t.Errorf("%s has no status; add it to statusOf", code)
		}
		if i >= len(documented) || documented[i] != string(code) {
			t.Errorf("%s is not in its place in the enum of fault.Code", code)
		}
	}
	page, err := os.ReadFile("../../../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	for code, status := range statusOf {
		if row := fmt.Sprintf("| `%s` | %d |", code, status); !strings.Contains(string(page), row) {
			t.Errorf("docs/errors.md does not have %s; correct the comment beside the code and run `make contracts`", row)
		}
	}
	if len(statusOf) != len(errs.Codes()) || len(documented) != len(errs.Codes()) {
		t.Errorf("%d codes have a status and %d are documented; errs knows %d", len(statusOf), len(documented), len(errs.Codes()))
	}
}
