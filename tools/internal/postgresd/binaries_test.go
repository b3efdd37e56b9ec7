//go:build unix

package postgresd

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// installation is a bin folder whose postgres tells a version.
func installation(t *testing.T, says string) string {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range []string{"postgres", "initdb"} {
		if err := os.WriteFile(filepath.Join(dir, tool), []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFind(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	old := installation(t, "postgres (PostgreSQL) 13.4")
	debian15 := installation(t, "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)")
	beta18 := installation(t, "postgres (PostgreSQL) 18beta1")
	other := installation(t, "something else")
	empty := t.TempDir()

	for name, tc := range map[string]struct {
		places Places
		want   int
		dir    string
		fault  string
	}{
		"the explicit one alone":         {Places{Explicit: beta18, Packaged: []string{debian15}}, 0, beta18, ""},
		"the first":                      {Places{Packaged: []string{old, beta18, debian15}}, 0, beta18, ""},
		"fetched ones last":              {Places{Packaged: []string{debian15}, Fetched: []string{beta18}}, 0, debian15, ""},
		"that of the data":               {Places{Packaged: []string{beta18}, Fetched: []string{debian15}}, 15, debian15, ""},
		"another, when the data's lacks": {Places{Packaged: []string{beta18}}, 15, beta18, ""},
		"none":                           {Places{Packaged: []string{empty, other}}, 0, "", "not installed"},
		"only an old one":                {Places{Packaged: []string{old}}, 0, "", "there is 13.4"},
		"explicit but empty":             {Places{Explicit: empty, Packaged: []string{debian15}}, 0, "", "TURBOCAT_PG_BIN names " + empty},
		"explicit but old":               {Places{Explicit: old}, 0, "", "TURBOCAT_PG_BIN names PostgreSQL 13.4"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := Find(tc.places, tc.want)
			if tc.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fault) {
					t.Fatalf("got %v", err)
				}
				if explicit := tc.places.Explicit != ""; errors.Is(err, ErrNotInstalled) == explicit {
					t.Errorf("ErrNotInstalled: %v", err)
				}
				return
			}
			if err != nil || b.Dir != tc.dir {
				t.Fatalf("got %+v, %v", b, err)
			}
		})
	}
	if b, _ := Find(Places{Explicit: beta18}, 0); b.Major != 18 || b.Version != "18beta1" {
		t.Errorf("version: %+v", b)
	}
}

func TestComplaint(t *testing.T) {
	for log, want := range map[string]struct {
		text             string
		portTaken, inUse bool
	}{
		"2026-01-01 UTC [1] LOG:  starting\n2026 UTC [1] LOG:  could not bind IPv4 address \"127.0.0.1\": Address already in use\n2026 UTC [1] FATAL:  could not create any TCP/IP sockets\n2026 UTC [1] LOG:  database system is shut down\n": {"could not create any TCP/IP sockets", true, false},
		"2026 UTC [1] FATAL:  lock file \"postmaster.pid\" already exists\n2026 UTC [1] HINT:  Is another postmaster running?\n":                                                                                                               {"lock file \"postmaster.pid\" already exists", false, true},
		"2026 UTC [1] FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use\n":                                                                                                                                                {"pre-existing shared memory block (key 1, ID 2) is still in use", false, true},
		"initdb: error: could not create directory \"/x\": No space left on device\n":                                                                                                                                                          {"could not create directory \"/x\": No space left on device", false, false},
		"Segmentation fault\n": {"Segmentation fault", false, false},
		"":                     {"it said nothing", false, false},
	} {
		e := &endedError{complaint: lastComplaint(log)}
		if e.complaint != want.text || e.portTaken() != want.portTaken || e.inUse() != want.inUse {
			t.Errorf("%q: %q, port taken %v, in use %v", log, e.complaint, e.portTaken(), e.inUse())
		}
	}
}
