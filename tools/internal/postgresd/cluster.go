//go:build unix

package postgresd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"turbocat.io/tools/internal/child"
)

const (
	superuser    = "turbocat"
	passwordFile = "turbocat.password"
	elsewhere    = "or choose another folder with TURBOCAT_DATA_DIR"
)

// MajorOf gives the major version of the PostgreSQL that made the data in dir; 0 when there is none.
func MajorOf(dir string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("the folder %s can not be read (%w); start as the user who made it, %s", dir, reason(err), elsewhere)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0, fmt.Errorf("%s/PG_VERSION is damaged; restore the folder from a backup, %s", dir, elsewhere)
	}
	return major, nil
}

// cluster is a data folder and who owns it.
type cluster struct {
	dir  string
	bin  Binaries
	as   *child.Account
	fast bool
}

// open checks the data folder, makes it when missing, and gives the superuser's password.
func (c cluster) open(ctx context.Context) (password string, err error) {
	parent := filepath.Dir(c.dir)
	// Search permission for all: the database's user must pass through, the folders below are 0700.
	if err := os.MkdirAll(parent, 0o711); err != nil {
		return "", fmt.Errorf("the folder %s can not be made (%w); make it writable, %s", parent, reason(err), elsewhere)
	}
	if err := c.reach(parent, elsewhere); err != nil {
		return "", err
	}
	if err := c.reach(c.bin.Dir, "or name another PostgreSQL with TURBOCAT_PG_BIN"); err != nil {
		return "", err
	}
	major, err := MajorOf(c.dir)
	if err != nil {
		return "", err
	}
	if major == 0 {
		if err := c.create(ctx); err != nil {
			return "", err
		}
	} else if major != c.bin.Major {
		remedy := fmt.Sprintf("install PostgreSQL %d", major)
		if major < OldestMajor {
			remedy = "upgrade it with pg_upgrade"
		}
		return "", fmt.Errorf("the data in %s was made by PostgreSQL %d, which %s can not open; %s, %s to start with an empty one",
			c.dir, major, c.bin.Version, remedy, elsewhere)
	}
	raw, err := os.ReadFile(filepath.Join(c.dir, passwordFile))
	if err != nil {
		return "", fmt.Errorf("the database's password in %s can not be read (%w); start as the user who made it, %s", c.dir, reason(err), elsewhere)
	}
	return strings.TrimSpace(string(raw)), nil
}

func (c cluster) reach(dir, otherwise string) error {
	barred, err := c.as.Reach(dir)
	if err != nil {
		return fmt.Errorf("the folder %s can not be read (%w); make it readable, %s", dir, reason(err), otherwise)
	}
	if barred != "" {
		return fmt.Errorf("the folder %s can not be entered by the user %s, who runs the database because root must not; run: chmod a+x %s, %s", barred, c.as.Name, barred, otherwise)
	}
	return nil
}

// create makes the cluster beside its place and moves it there whole, so that an interrupted
// start leaves nothing half made.
func (c cluster) create(ctx context.Context) error {
	if entries, err := os.ReadDir(c.dir); len(entries) > 0 {
		return fmt.Errorf("the folder %s holds files but no PostgreSQL data; empty it, %s", c.dir, elsewhere)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the folder %s can not be used (%w); move it away, %s", c.dir, reason(err), elsewhere)
	}
	stage := c.dir + ".init"
	if err := os.RemoveAll(stage); err != nil {
		return fmt.Errorf("%s, left by an interrupted start, can not be removed (%w); remove it", stage, reason(err))
	}
	if err := os.Mkdir(stage, 0o700); err != nil {
		return fmt.Errorf("the folder %s can not be written (%w); make it writable, %s", filepath.Dir(c.dir), reason(err), elsewhere)
	}
	defer func() { _ = os.RemoveAll(stage) }()

	data, secret := filepath.Join(stage, "data"), filepath.Join(stage, "password")
	if err := os.WriteFile(secret, []byte(newPassword()+"\n"), 0o600); err != nil {
		return err
	}
	if err := c.as.Chown(stage, secret); err != nil {
		return err
	}
	if err := c.initdb(ctx, stage, data, secret); err != nil {
		return err
	}
	if err := os.Rename(secret, filepath.Join(data, passwordFile)); err != nil {
		return err
	}
	if err := os.Remove(c.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the folder %s can not be used (%w); move it away, %s", c.dir, reason(err), elsewhere)
	}
	return os.Rename(data, c.dir)
}

func (c cluster) initdb(ctx context.Context, stage, data, secret string) error {
	args := []string{
		"-D", data, "-U", superuser, "-A", "scram-sha-256", "--pwfile", secret,
		"-E", "UTF8", "--locale=C", "--data-checksums", "--no-instructions",
	}
	if c.fast {
		args = append(args, "--no-sync")
	}
	log, err := os.Create(filepath.Join(stage, "initdb.log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	p, err := child.Start(child.Command{Path: filepath.Join(c.bin.Dir, "initdb"), Args: args, Dir: "/", Env: environment, Output: log, As: c.as, Orphan: syscall.SIGKILL})
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Stop(0)
		return ctx.Err()
	}
	if p.Err() == nil {
		return nil
	}
	why := complaint(log.Name())
	if strings.Contains(why, "effective user ID") {
		return fmt.Errorf("the user id %d has no name on this machine, and PostgreSQL needs one; add a line for it to /etc/passwd", os.Geteuid())
	}
	return fmt.Errorf("PostgreSQL's initdb failed: %s", why)
}

func newPassword() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// reason strips path and operation, which the sentence around it names, from a file error.
func reason(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
