package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/tools/cover"
)

// share counts statements.
type share struct{ covered, all int }

func (s *share) add(o share) {
	s.covered += o.covered
	s.all += o.all
}

func (s share) percent() float64 {
	if s.all == 0 {
		return 100
	}
	return 100 * float64(s.covered) / float64(s.all)
}

// read gives the share of each package over all profiles: a statement is covered when one of them ran it.
func read(files []string) (map[string]share, error) {
	type place struct {
		file                  string
		line, column, to, end int
	}
	blocks := map[place]share{}
	for _, name := range files {
		profiles, err := cover.ParseProfiles(name)
		if err != nil {
			return nil, err
		}
		for _, p := range profiles {
			for _, b := range p.Blocks {
				at := place{p.FileName, b.StartLine, b.StartCol, b.EndLine, b.EndCol}
				s := share{all: b.NumStmt, covered: blocks[at].covered}
				if b.Count > 0 {
					s.covered = b.NumStmt
				}
				blocks[at] = s
			}
		}
	}
	packages := map[string]share{}
	for at, s := range blocks {
		dir := path.Dir(at.file)
		sum := packages[dir]
		sum.add(s)
		packages[dir] = sum
	}
	return packages, nil
}

// moduleOf gives the module of a package: the first folder below turbocat.io, for a service the second too.
func moduleOf(pkg string) string {
	parts := strings.Split(strings.TrimPrefix(pkg, "turbocat.io/"), "/")
	if parts[0] == "services" && len(parts) > 1 {
		return "services/" + parts[1]
	}
	return parts[0]
}

// report writes a line for each module and fails, naming all of them, for what is below its least.
func report(out io.Writer, packages map[string]share, least float64, wanted map[string]float64) error {
	modules := map[string]share{}
	var whole share
	for pkg, s := range packages {
		sum := modules[moduleOf(pkg)]
		sum.add(s)
		modules[moduleOf(pkg)] = sum
		whole.add(s)
	}
	line := func(name string, s share) {
		_, _ = fmt.Fprintf(out, "%-62s %6.1f %%  of %5d statements\n", name, s.percent(), s.all)
	}
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		line(name, modules[name])
	}
	line("all", whole)
	var faults []error
	if whole.percent() < least {
		faults = append(faults, fmt.Errorf("%.1f %% of all statements are covered; at least %g %% must be", whole.percent(), least))
	}
	for _, pkg := range slices.Sorted(maps.Keys(wanted)) {
		s, ok := packages[pkg]
		line(strings.TrimPrefix(pkg, "turbocat.io/"), s)
		switch {
		case !ok:
			faults = append(faults, fmt.Errorf("no profile knows package %s", pkg))
		case s.percent() < wanted[pkg]:
			faults = append(faults, fmt.Errorf("%.1f %% of %s are covered; at least %g %% must be", s.percent(), pkg, wanted[pkg]))
		}
	}
	return errors.Join(faults...)
}
