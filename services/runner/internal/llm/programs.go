package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"turbocat.io/contracts/catalog"
	"turbocat.io/services/runner/internal/jail"
)

// Programs are the MCP servers over standard input and output that a runner has, by the names that configs have for them.
type Programs map[string]jail.Program

// What a program may take.
const (
	defaultProgramMb = 256
	minProgramMb     = 64
	maxProgramMb     = 4096
	programSeconds   = 600 // of a processor
)

// LoadPrograms reads the programs of a file; path is "" for none. The error names all faults.
func LoadPrograms(path string) (Programs, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var listed map[string]struct {
		Command  string   `json:"command"`
		Args     []string `json:"args"`
		Read     []string `json:"read"`
		MemoryMb int      `json:"memoryMb"`
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&listed); err != nil {
		return nil, fmt.Errorf(`%s: %w; write {"name": {"command": "/path", "args": [], "read": [], "memoryMb": 256}}`, path, err)
	}
	programs := make(Programs, len(listed))
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		said := listed[name]
		fault := func(field, format string, args ...any) {
			faults = append(faults, fmt.Errorf("%s: %s%s %s", path, name, field, fmt.Sprintf(format, args...)))
		}
		if !catalog.IsMCPName(name) {
			fault("", "is no name; use 1 to 32 letters, digits and -")
		}
		if said.MemoryMb == 0 {
			said.MemoryMb = defaultProgramMb
		}
		if said.MemoryMb < minProgramMb || said.MemoryMb > maxProgramMb {
			fault(".memoryMb", "is %d; give %d to %d", said.MemoryMb, minProgramMb, maxProgramMb)
		}
		for i, place := range said.Read {
			if _, err := os.Stat(place); err != nil || !filepath.IsAbs(place) {
				fault(fmt.Sprintf(".read[%d]", i), "is %q; give the absolute path of a file or a folder that is there", place)
			}
		}
		p := jail.Program{
			Path: said.Command, Args: append([]string{filepath.Base(said.Command)}, said.Args...), Speaks: true,
			Limits: jail.Limits{Memory: uint64(said.MemoryMb) << 20, CPUSeconds: programSeconds},
		}
		if !filepath.IsAbs(said.Command) {
			fault(".command", "is %q; give the absolute path of a program", said.Command)
		} else if err := p.Link(said.Read...); err != nil {
			fault(".command", "can not be run: %s; a script is an argument of its interpreter", err)
		}
		programs[name] = p
	}
	return programs, errors.Join(faults...)
}
