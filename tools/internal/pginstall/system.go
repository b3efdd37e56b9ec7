//go:build unix

package pginstall

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// packageManager is a way to install with one kind of system.
type packageManager struct {
	tool  string
	root  bool // works for root alone, or not for root
	steps [][]string
}

var packageManagers = []packageManager{
	{"apt-get", true, [][]string{{"update", "-q"}, {"install", "-q", "-y", "--no-install-recommends", "postgresql"}}},
	{"dnf", true, [][]string{{"install", "-q", "-y", "postgresql-server"}}},
	{"apk", true, [][]string{{"add", "-q", "postgresql"}}},
	{"brew", false, [][]string{{"install", "-q", "postgresql@17"}}},
}

// system gives the machine's own package manager, when we may use it.
func (o Options) system() (route, bool) {
	for _, m := range packageManagers {
		if _, err := exec.LookPath(m.tool); err != nil || m.root != (os.Geteuid() == 0) {
			continue
		}
		return route{m.tool, func(ctx context.Context) error {
			if m.tool == "apt-get" {
				defer noDistributionCluster()()
			}
			for _, args := range m.steps {
				o.Say("PostgreSQL is missing: running %s", commandLine(m.tool, args))
				if err := run(ctx, "/", m.tool, args...); err != nil {
					return err
				}
			}
			return nil
		}}, true
	}
	return route{}, false
}

// noDistributionCluster keeps Debian's package from making and starting a server of its own,
// until the returned func is called. It is a courtesy: without it there is a spare server.
func noDistributionCluster() (undo func()) {
	const dir = "/etc/postgresql-common/createcluster.d"
	file := filepath.Join(dir, "turbocat.conf")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return func() {}
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		if errors.Is(err, fs.ErrExist) { // left by an interrupted installation
			return func() { _ = os.Remove(file) }
		}
		return func() {}
	}
	_, _ = f.WriteString("create_main_cluster = false\n")
	_ = f.Close()
	return func() { _ = os.Remove(file) }
}
