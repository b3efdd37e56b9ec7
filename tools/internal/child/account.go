//go:build unix

package child

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Account is the unprivileged user a child runs as when we are root.
type Account struct {
	Name     string
	UID, GID int
}

func (a *Account) suffix() string {
	if a == nil {
		return ""
	}
	return " as the user " + a.Name
}

// Unprivileged picks who a child runs as: nil when we are not root; else the owner of dir
// when it exists and is not root's, so that files stay readable whichever users appear on
// the machine later; else the first of names that the machine knows.
func Unprivileged(dir string, names ...string) (*Account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if info, err := os.Stat(dir); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
			if u, err := user.LookupId(strconv.Itoa(int(st.Uid))); err == nil {
				return account(u)
			}
		}
	}
	for _, name := range names {
		if u, err := user.Lookup(name); err == nil {
			return account(u)
		}
	}
	return nil, fmt.Errorf("none of the users %q exists on this machine, and a server must not run as root; add one, for instance with: useradd --system %s", names, names[0])
}

func account(u *user.User) (*Account, error) {
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, fmt.Errorf("the user %s has the id %q, which is not a number", u.Username, u.Uid)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, fmt.Errorf("the user %s has the group id %q, which is not a number", u.Username, u.Gid)
	}
	return &Account{Name: u.Username, UID: uid, GID: gid}, nil
}

// Chown gives files to the account. It does nothing for nil.
func (a *Account) Chown(paths ...string) error {
	if a == nil {
		return nil
	}
	for _, p := range paths {
		if err := os.Lchown(p, a.UID, a.GID); err != nil {
			return err
		}
	}
	return nil
}

// Reach says which folder on the way to path, or path itself, the account may not enter; ""
// when it may enter all. It judges by the permission bits.
func (a *Account) Reach(path string) (barred string, err error) {
	if a == nil {
		return "", nil
	}
	full, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	for at := full; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return "", err
		}
		if info.IsDir() && !a.mayEnter(info) {
			barred = at
		}
		if at == filepath.Dir(at) {
			return barred, nil
		}
	}
}

func (a *Account) mayEnter(info fs.FileInfo) bool {
	mode := info.Mode().Perm()
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return true
	case int(st.Uid) == a.UID:
		return mode&0o100 != 0
	case int(st.Gid) == a.GID:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

// cause strips the "fork/exec PATH" of a failed start down to the reason.
func cause(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
