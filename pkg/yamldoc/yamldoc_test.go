package yamldoc

import (
	"fmt"
	"strings"
	"testing"
)

// TestAliasesAreBounded has some hundred bytes stand for 10 to the 9th values: little of that is looked at, and told once.
func TestAliasesAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	d, root := Parse("file", []byte(b.String()))
	if _, ok := d.JSON(root); ok || len(d.Faults) != 1 || !strings.Contains(d.Faults[0].Message, "by aliases too often") {
		t.Errorf("said %v", d.Faults)
	}
	if d.nodes > 2*maxRepeated {
		t.Errorf("%d values were looked at", d.nodes)
	}
	plain := "a: &a {b: [1, 2]}\nc: [*a, *a]\nd: [" + strings.Repeat("x,", maxRepeated*2) + "x]\n"
	d, root = Parse("file", []byte(plain))
	if body, ok := d.JSON(root); !ok || !strings.HasPrefix(string(body), `{"a":{"b":[1,2]},"c":[{"b":[1,2]},{"b":[1,2]}],"d":["x"`) {
		t.Errorf("%v, %.80s", d.Faults, body)
	}
}
