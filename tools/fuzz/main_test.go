package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// module writes a module of two packages, whose second target fails at inputs s of which fails holds.
func module(t *testing.T, fails string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.org/m\n\ngo 1.26\n",
		"a/a_test.go": `package a

import "testing"

func FuzzA(f *testing.F) { f.Fuzz(func(*testing.T, string) {}) }

func FuzzyName(*testing.T) {}
`,
		"b/c/c_test.go": `package c

import "testing"

func FuzzC(f *testing.F) {
	f.Add("seed")
	f.Fuzz(func(t *testing.T, s string) {
		if ` + fails + ` {
			t.Error("it is there")
		}
	})
}
`,
		"b/testdata/ignored_test.go": "not Go",
		".hidden/ignored_test.go":    "not Go",
	} {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFind(t *testing.T) {
	root := module(t, "false")
	a, c := target{"a", "FuzzA"}, target{"b/c", "FuzzC"}
	for _, test := range []struct {
		folders []string
		want    []target
	}{
		{nil, []target{a, c}},
		{[]string{"."}, []target{a, c}},
		{[]string{"./..."}, []target{a, c}},
		{[]string{"b"}, []target{c}},
		{[]string{"./b/..."}, []target{c}},
		{[]string{"b/c/", "a"}, []target{a, c}},
		{[]string{"b/c/d", "aa"}, nil},
	} {
		if got, err := find(root, test.folders); err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%v: %v, %v; want %v", test.folders, got, err, test.want)
		}
	}
}

func TestEveryTargetRuns(t *testing.T) {
	t.Setenv("GOWORK", "off")
	root := module(t, "false")
	var out bytes.Buffer
	if err := fuzz(t.Context(), root, 100*time.Millisecond, nil, &out); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^a FuzzA +\d+ executions\nb/c FuzzC +\d+ executions\n$`).Match(out.Bytes()) {
		t.Errorf("it says %s", &out)
	}
}

func TestFailureSaysHowToRepeatIt(t *testing.T) {
	t.Setenv("GOWORK", "off")
	for fails, want := range map[string]string{
		`s == "seed"`:        `repeat it with: go test -run='FuzzC/seed#0' ./b/c`,
		`s != "seed"`:        `repeat it with: go test -run='FuzzC/[0-9a-f]+' ./b/c`,
		`s != "seed" && nil`: `repeat it with: go test -run='\^FuzzC\$' ./b/c`, // does not compile
	} {
		err := fuzz(t.Context(), module(t, fails), 10*time.Second, []string{"b"}, &bytes.Buffer{})
		if err == nil || !regexp.MustCompile(want).MatchString(err.Error()) {
			t.Errorf("%s: %v", fails, err)
		}
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{{"-time", "0s"}, {"-time", "soon"}, {"-x"}} {
		var said bytes.Buffer
		if code := run(args, &said, &said); code != 2 || said.Len() == 0 {
			t.Errorf("%v: code %d, %s", args, code, &said)
		}
	}
}

// Go's own end of the time is no finding; everything else is.
func TestTheEndOfTheTimeIsNoFailure(t *testing.T) {
	for said, ends := range map[string]bool{
		"fuzz: elapsed: 10s, execs: 1 (0/sec)\n--- FAIL: FuzzA (10.08s)\n    context deadline exceeded\nFAIL\nexit status 1\n":                              true,
		"--- FAIL: FuzzA (0.08s)\n    --- FAIL: FuzzA (0.00s)\n        a_test.go:7: context deadline exceeded\n    Failing input written to x\nFAIL\n":      false,
		"--- FAIL: FuzzA (10.08s)\n    fuzzing process hung or terminated unexpectedly: exit status 2\n    Failing input written to x\nFAIL\nexit status 1": false,
	} {
		if timeUp.MatchString(said) != ends {
			t.Errorf("taken for the end of the time: %t\n%s", !ends, said)
		}
	}
}
