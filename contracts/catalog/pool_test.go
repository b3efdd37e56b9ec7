package catalog

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPools(t *testing.T) {
	for _, c := range []struct {
		labels, pool, pools string
	}{
		{"default", "default", "[default]"},
		{"gpu,eu,gpu", "eu+gpu", "[eu gpu eu+gpu]"},
		{"a,b,c,d", "a+b+c+d", "[a b a+b c a+c b+c a+b+c d a+d b+d a+b+d c+d a+c+d b+c+d a+b+c+d]"},
		{"a,b,c,d,e", "", "[]"},
		{"a.b", "", "[]"},
		{"a,", "", "[]"},
		{strings.Repeat("x", 32), strings.Repeat("x", 32), "[" + strings.Repeat("x", 32) + "]"},
		{strings.Repeat("x", 33), "", "[]"},
	} {
		labels := strings.Split(c.labels, ",")
		if pool, ok := PoolOf(labels...); pool != c.pool || ok != (c.pool != "") {
			t.Errorf("the pool of %s is %q, %t", c.labels, pool, ok)
		}
		if pools := fmt.Sprint(PoolsOf(strings.Join(labels, "+"))); pools != c.pools {
			t.Errorf("who offers %s is of %s", c.labels, pools)
		}
	}
	if _, ok := PoolOf(); ok {
		t.Error("no labels have a pool")
	}
}

func TestSplitPool(t *testing.T) {
	for _, c := range []struct {
		config, pool, rest string
		ok                 bool
	}{
		{`{"url":"x"}`, "default", `{"url":"x"}`, true},
		{`{"runner":"gpu","url":"x"}`, "gpu", `{"url":"x"}`, true},
		{`{"runner":["gpu","eu"],"url":"x"}`, "eu+gpu", `{"url":"x"}`, true},
		{`{"a":{"runner":["gpu","eu"]}}`, "default", `{"a":{"runner":["gpu","eu"]}}`, true},
		{`{"runner":""}`, "", `{}`, false},
		{`{"runner":null}`, "", `{}`, false},
		{`{"runner":[]}`, "", `{}`, false},
		{`{"runner":["a",1]}`, "", `{}`, false},
		{`{"runner":"eu+gpu"}`, "", `{}`, false},
	} {
		pool, rest, ok := SplitPool(json.RawMessage(c.config))
		if ok != c.ok || ok && pool != c.pool || string(rest) != c.rest {
			t.Errorf("of %s the pool is %q, the rest %s, %t", c.config, pool, rest, ok)
		}
	}
}

// FuzzSplitPool has whatever is taken be a pool that can stand in a subject, and nothing else of the config change.
func FuzzSplitPool(f *testing.F) {
	f.Add(`{"runner":["gpu","eu"],"url":"x"}`)
	f.Add(`{"runner":"a b","n":1e400}`)
	f.Fuzz(func(t *testing.T, config string) {
		pool, rest, ok := SplitPool(json.RawMessage(config))
		if !ok {
			return
		}
		if again, fits := PoolOf(LabelsOf(pool)...); !fits || again != pool {
			t.Errorf("%q is the pool %q of its labels", pool, again)
		}
		if p, same, ok := SplitPool(rest); json.Valid([]byte(config)) && (!ok || p != "default" || string(same) != string(rest)) {
			t.Errorf("of the rest %s the pool is %q, the rest %s", rest, p, same)
		}
	})
}
