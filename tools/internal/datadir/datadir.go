//go:build unix

// Package datadir is the folder that holds an installation's data: PostgreSQL's, the streams, the keys
// that are made once, and the log. One process at a time owns it.
package datadir

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"turbocat.io/tools/internal/child"
)

// keys is the folder of secrets below the data folder.
const keys = "keys"

// Dir is an open data folder, locked against other processes until it is closed.
type Dir struct {
	path string
	lock *os.File
}

// Path is where the environment puts the data folder.
func Path(environ map[string]string) (string, error) {
	switch {
	case environ["TURBOCAT_DATA_DIR"] != "":
		return filepath.Abs(environ["TURBOCAT_DATA_DIR"])
	case os.Geteuid() == 0:
		return "/var/lib/turbocat", nil
	case filepath.IsAbs(environ["XDG_STATE_HOME"]):
		return filepath.Join(environ["XDG_STATE_HOME"], "turbocat"), nil
	case filepath.IsAbs(environ["HOME"]):
		return filepath.Join(environ["HOME"], ".local", "state", "turbocat"), nil
	default:
		return "", errors.New("there is no home folder to keep data in; name a folder with TURBOCAT_DATA_DIR")
	}
}

// Open makes the folder when it is missing and locks it. Its errors are sentences for the user.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o711); err != nil {
		return nil, unusable(path, err)
	}
	if err := letThrough(path); err != nil {
		return nil, unusable(path, err)
	}
	file := filepath.Join(path, "lock")
	lock, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, unusable(path, err)
	}
	err = child.AwaitRelease(syscall.EWOULDBLOCK, func() error { return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) })
	if err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another Turbocat%s uses the data folder %s; stop it, or give this one a folder with TURBOCAT_DATA_DIR and a port with PORT", holder(file), path)
		}
		return nil, unusable(path, err)
	}
	if err := errors.Join(lock.Truncate(0), writePID(lock)); err != nil {
		_ = lock.Close()
		return nil, unusable(path, err)
	}
	return &Dir{path: path, lock: lock}, nil
}

// letThrough lets root's unprivileged children pass through root's own folder; what is secret
// stands in folders below it that are shut.
func letThrough(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if os.Geteuid() != 0 || !ok || st.Uid != 0 || info.Mode().Perm()&0o001 != 0 {
		return nil
	}
	return os.Chmod(path, info.Mode().Perm()|0o011)
}

func writePID(f *os.File) error {
	_, err := fmt.Fprintf(f, "%d\n", os.Getpid())
	return err
}

func holder(file string) string {
	raw, err := os.ReadFile(file)
	if pid := strings.TrimSpace(string(raw)); err == nil && pid != "" {
		return " with the pid " + pid
	}
	return ""
}

// Close gives the folder up to other processes.
func (d *Dir) Close() { _ = d.lock.Close() }

// Path of the folder, or of what stands in it.
func (d *Dir) Path(names ...string) string {
	return filepath.Join(append([]string{d.path}, names...)...)
}

// Secret gives a random text of 64 hexadecimal digits that is made once and kept in keys/name.
func (d *Dir) Secret(name string) (string, error) {
	return d.kept(name, func() string { return random(32) })
}

// Password gives a random password that is made once and kept in keys/name.
func (d *Dir) Password(name string) (string, error) {
	// With a letter of each case, a digit and a special character, whatever the random digits are.
	return d.kept(name, func() string { return "Tc1-" + random(10) })
}

// FindPassword gives the password that an installation keeps in the folder at path.
func FindPassword(path, name string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(path, keys, name))
	return strings.TrimSpace(string(raw)), err
}

// kept gives what stands in keys/name; what is not there is made.
func (d *Dir) kept(name string, fresh func() string) (string, error) {
	file := d.Path(keys, name)
	raw, err := os.ReadFile(file)
	if err == nil {
		if text := strings.TrimSpace(string(raw)); text != "" {
			return text, nil
		}
		return "", fmt.Errorf("the key %s is empty; restore it from a backup, or remove it to have a new one made", file)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", unusable(d.path, err)
	}
	text := fresh()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return "", unusable(d.path, err)
	}
	if err := store(file, text+"\n"); err != nil {
		return "", unusable(d.path, err)
	}
	return text, nil
}

func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// Mark tells whether the marker is set; Set sets it for good.
func (d *Dir) Mark(name string) (bool, error) {
	_, err := os.Stat(d.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, unusable(d.path, err)
	}
	return true, nil
}

// Set sets a marker.
func (d *Dir) Set(name string) error {
	if err := store(d.Path(name), ""); err != nil {
		return unusable(d.path, err)
	}
	return nil
}

// store writes a file whole or not at all, also over a loss of power: data encrypted by a key
// must not outlive it.
func store(file, text string) error {
	next := file + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, file); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func unusable(path string, err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Errorf("the data folder %s can not be used (%w); make it writable, or choose another with TURBOCAT_DATA_DIR", path, err)
}
