package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// target is a fuzz target and the folder of its package, with slashes, below the root.
type target struct{ dir, name string }

func (t target) String() string { return t.dir + " " + t.name }

// find parses the tests below root and gives their targets in order.
func find(root string, folders []string) ([]target, error) {
	var found []target
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && file != root && (strings.HasPrefix(name, ".") || name == "testdata"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		below, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		below = filepath.ToSlash(below)
		if len(folders) > 0 && !slices.ContainsFunc(folders, func(f string) bool { return within(below, f) }) {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range parsed.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Fuzz") && takesF(fn) {
				found = append(found, target{below, fn.Name.Name})
			}
		}
		return nil
	})
	return found, err
}

// within tells whether dir is the folder, which may be written as a path or as a pattern of packages, or below it.
func within(dir, folder string) bool {
	folder = strings.TrimSuffix(filepath.ToSlash(filepath.Clean(strings.TrimSuffix(folder, "..."))), "/")
	return folder == "." || dir == folder || strings.HasPrefix(dir, folder+"/")
}

func takesF(fn *ast.FuncDecl) bool {
	if len(fn.Type.Params.List) != 1 {
		return false
	}
	pointer, ok := fn.Type.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	selector, ok := pointer.X.(*ast.SelectorExpr)
	return ok && selector.Sel.Name == "F"
}

var (
	// A short run may end within its baseline, which is the corpus.
	executed = regexp.MustCompile(`(?m)^fuzz: elapsed: .*(?:, execs: |gathering baseline coverage: )(\d+)`)
	failed   = regexp.MustCompile(`(?m)(?:go test -run=|testing seed corpus entry: )(\S+)`)
	// timeUp is what go test says, with no other complaint, when its own end of -fuzztime comes in its way: a race of Go
	// before 1.27, go.dev/issue/75804. What is found comes with an input instead.
	timeUp = regexp.MustCompile(`(?m)^--- FAIL: \S+ \([0-9.]+s\)\n +context deadline exceeded\nFAIL$`)
)

// shorten is how often an input may be run to find a shorter one that does the same. Go's 60 s for each new input would be all
// the time that a target with long inputs has.
const shorten = "10x"

// fuzz runs the target for a while. The error of one that fails says what it said and how to repeat it.
func (t target) fuzz(ctx context.Context, root string, each time.Duration) (executions int, err error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-fuzz=^"+t.name+"$", "-fuzztime="+each.String(), "-fuzzminimizetime="+shorten, "./"+t.dir)
	cmd.Dir = root
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && !timeUp.Match(said.Bytes()) {
		return 0, fmt.Errorf("%s fails\n\n%s\n%s", t, bytes.TrimSpace(said.Bytes()), t.remedy(said.Bytes()))
	}
	if err != nil && exit == nil {
		return 0, fmt.Errorf("%s: %w", t, err)
	}
	lines := executed.FindAllSubmatch(said.Bytes(), -1)
	if len(lines) == 0 {
		return 0, fmt.Errorf("%s did not run:\n%s", t, bytes.TrimSpace(said.Bytes()))
	}
	return strconv.Atoi(string(lines[len(lines)-1][1]))
}

// remedy gives the command that repeats what failed: one input when it is known.
func (t target) remedy(said []byte) string {
	what := "^" + t.name + "$"
	if m := failed.FindSubmatch(said); m != nil {
		what = string(m[1])
	}
	return "repeat it with: go test -run='" + what + "' ./" + t.dir
}
