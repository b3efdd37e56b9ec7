//go:build unix

package postgresd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// OldestMajor is the oldest PostgreSQL that Turbocat works with.
const OldestMajor = 15

// ErrNotInstalled is what Find's errors wrap when no PostgreSQL, or only too old ones, were found.
var ErrNotInstalled = errors.New("PostgreSQL is not installed")

// Binaries is one installed PostgreSQL.
type Binaries struct {
	Dir     string // holds postgres and initdb
	Major   int
	Version string // as it says itself: "15.18"
}

// usual is where packages put PostgreSQL, the highest version first.
var usual = []string{
	"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                   // postgresql.org's RPMs
	"/usr/libexec/postgresql*",           // Alpine
	"/opt/homebrew/opt/postgresql@*/bin", // Homebrew
	"/usr/local/opt/postgresql@*/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
}

// Places says where Find looks.
type Places struct {
	Explicit string   // TURBOCAT_PG_BIN: when set, the only place
	Packaged []string // patterns of packages' bin folders; the usual ones when nil
	Fetched  []string // folders of binaries that the set-up fetched, looked at last
}

// Find gives the first PostgreSQL of OldestMajor or newer: of the explicit folder alone when
// one is named, else of the packages' usual folders, PATH, and the fetched ones. An installation of the
// major version want (0: any) goes before all others, because data keeps its major version.
func Find(p Places, want int) (Binaries, error) {
	if p.Explicit != "" {
		b, err := inspect(p.Explicit)
		if err != nil {
			return b, fmt.Errorf("TURBOCAT_PG_BIN names %s, which has no usable postgres and initdb; name the bin folder of PostgreSQL %d or newer, or unset it", p.Explicit, OldestMajor)
		}
		if b.Major < OldestMajor {
			return b, fmt.Errorf("TURBOCAT_PG_BIN names PostgreSQL %s; name the bin folder of version %d or newer, or unset it", b.Version, OldestMajor)
		}
		return b, nil
	}
	var found []Binaries
	tooOld := ""
	for _, dir := range append(p.installed(), p.Fetched...) {
		b, err := inspect(dir)
		switch {
		case err != nil:
		case b.Major < OldestMajor:
			tooOld = b.Version
		case b.Major == want || want == 0:
			return b, nil
		default:
			found = append(found, b)
		}
	}
	switch {
	case len(found) > 0:
		return found[0], nil
	case tooOld != "":
		return Binaries{}, fmt.Errorf("%w in version %d or newer (there is %s)", ErrNotInstalled, OldestMajor, tooOld)
	default:
		return Binaries{}, ErrNotInstalled
	}
}

func (p Places) installed() []string {
	patterns := p.Packaged
	if patterns == nil {
		patterns = usual
	}
	var dirs []string
	for _, pattern := range patterns {
		matches, _ := filepath.Glob(pattern)
		slices.SortFunc(matches, func(a, b string) int { return majorIn(b) - majorIn(a) })
		dirs = append(dirs, matches...)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if full, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(full))
		}
	}
	return dirs
}

var number = regexp.MustCompile(`\d+`)

func majorIn(text string) int {
	n, _ := strconv.Atoi(number.FindString(text))
	return n
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`)

func inspect(dir string) (Binaries, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return Binaries{}, err
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, err
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return Binaries{}, fmt.Errorf("%s/postgres does not tell its version", dir)
	}
	return Binaries{Dir: dir, Major: majorIn(string(m[2])), Version: string(m[1])}, nil
}
