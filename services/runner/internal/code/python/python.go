// Package python finds an interpreter of Python on this host, and says how it is made the inside of a sandbox.
package python

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"turbocat.io/services/runner/internal/jail"
)

//go:embed child.py
var child string

// usual is where interpreters are looked for, in this order.
var usual = []string{"/usr/bin/python3", "/usr/local/bin/python3"}

// local is what programs of localPrograms are linked with, beside.
const local, localPrograms = "/usr/local/lib", "/usr/local/bin/"

// askWithin bounds how long an interpreter is asked for its version and its library.
const askWithin = 30 * time.Second

// oldest is the oldest version that is used.
var oldest = [2]int{3, 9}

// Bounds are what the inside of a sandbox keeps to.
type Bounds struct {
	MaxLine, MaxLines, MaxOutput               int
	MaxFetches, MaxFetchesAtOnce, MaxFetchBody int
}

// baseMemory is what an interpreter takes before it has anything of a job.
const baseMemory = 24 << 20

// Find gives the program that a sandbox is to become; path is of the interpreter, "" for one of the usual places. The error tells why there is none.
func Find(path string, bounds Bounds) (jail.Program, error) {
	places := usual
	if path != "" {
		places = []string{path}
	}
	for _, place := range places {
		if _, err := os.Stat(place); err != nil && path == "" {
			continue
		}
		return program(place, bounds)
	}
	return jail.Program{}, fmt.Errorf("there is no Python at %s; install one, or name its path in TURBOCAT_RUNNER_PYTHON", strings.Join(usual, " or "))
}

func program(place string, bounds Bounds) (jail.Program, error) {
	path, err := filepath.EvalSymlinks(place)
	if err != nil {
		return jail.Program{}, err
	}
	library, err := ask(path)
	if err != nil {
		return jail.Program{}, fmt.Errorf("%s: %w", path, err)
	}
	p := jail.Program{Path: path, Args: []string{"python3", "-I", "-S", "-B", "-X", "utf8", "-c", child}}
	for _, n := range []int{bounds.MaxLine, bounds.MaxLines, bounds.MaxOutput, bounds.MaxFetches, bounds.MaxFetchesAtOnce, bounds.MaxFetchBody, baseMemory} {
		p.Args = append(p.Args, strconv.Itoa(n))
	}
	if strings.HasPrefix(path, localPrograms) {
		library = append(library, local)
	}
	return p, p.Link(library...)
}

// ask gives the folders of an interpreter's standard library. It runs it outside of a jail, with none of anybody's code.
func ask(path string) (library []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), askWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-I", "-S", "-B", "-c", `import json, sys, sysconfig
p = sysconfig.get_paths()
print(json.dumps({"version": sys.version_info[:2], "library": [p["stdlib"], p["platstdlib"]]}))`)
	cmd.Env, cmd.Dir = []string{}, "/"
	raw, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask it for its version: %w", err)
	}
	var said struct {
		Version [2]int
		Library []string
	}
	if err := json.Unmarshal(raw, &said); err != nil {
		return nil, fmt.Errorf("read its version: %w", err)
	}
	if said.Version[0] != oldest[0] || said.Version[1] < oldest[1] {
		return nil, fmt.Errorf("it is version %d.%d; at least %d.%d is needed", said.Version[0], said.Version[1], oldest[0], oldest[1])
	}
	return said.Library, nil
}
