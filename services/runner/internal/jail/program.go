package jail

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Program is what a process becomes in its jail, by Become.
type Program struct {
	Path    string   // of the executable, absolute
	Args    []string // the first is its name
	Loader  string   // the program that loads it; "" when it is linked statically
	Folders []string // that it may read, with all that is in them
	Files   []string // that it may read
	// Speaks says that it answers on its standard output, instead of on descriptor 3, and may write to its standard error what it likes.
	Speaks bool
	Limits Limits // CPUSeconds 0 leaves it to limit itself
}

// system is what programs are linked with, and the time zones.
var system = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo"}

// Link follows links to the executable, and has it read what it is linked with, and the places that are there, files or folders.
func (p *Program) Link(places ...string) error {
	path, err := filepath.EvalSymlinks(p.Path)
	if err != nil {
		return err
	}
	p.Path = path
	if p.Loader, err = loaderOf(path); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if p.Loader != "" {
		places = append(places, system...)
	}
	for _, place := range places {
		switch info, err := os.Stat(place); {
		case err != nil: // this system has none
		case info.IsDir():
			p.Folders = append(p.Folders, place)
		default:
			p.Files = append(p.Files, place)
		}
	}
	return nil
}

// loaderOf gives the program that loads a dynamically linked one; "" for none.
func loaderOf(path string) (loader string, err error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		raw := make([]byte, p.Filesz)
		if _, err := p.ReadAt(raw, 0); err != nil {
			return "", err
		}
		return strings.TrimRight(string(raw), "\x00"), nil
	}
	return "", nil
}

// word makes a program, as the first argument, what the second says.
const word = "__turbocat_program"

// Main makes this process a Program and never returns, if it was started as one by StartProgram; else it returns at once.
func Main() {
	if len(os.Args) != 3 || os.Args[1] != word {
		return
	}
	var p Program
	err := json.Unmarshal([]byte(os.Args[2]), &p)
	if err == nil {
		err = Become(p)
	}
	fmt.Fprintln(os.Stderr, "sandbox:", err)
	os.Exit(97) //nolint:forbidigo // this is the main of the sandbox process
}
