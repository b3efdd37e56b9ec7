//go:build unix

package datadir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func open(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func TestOneOwnerAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "data")
	first := open(t, path)
	_, err := Open(path)
	if err == nil || !strings.Contains(err.Error(), "another Turbocat with the pid") {
		t.Fatalf("got %v", err)
	}
	first.Close()
	open(t, path)
}

func TestSecretsAreMadeOnce(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	one, err := d.Secret("ONE")
	if err != nil || len(one) != 64 {
		t.Fatalf("got %q, %v", one, err)
	}
	if two, _ := d.Secret("TWO"); two == one {
		t.Error("two secrets are the same")
	}
	d.Close()
	if again, err := open(t, path).Secret("ONE"); err != nil || again != one {
		t.Errorf("again: %q, %v", again, err)
	}
	for file, want := range map[string]os.FileMode{"keys": 0o700, "keys/ONE": 0o600} {
		if info, err := os.Stat(filepath.Join(path, file)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	if err := os.WriteFile(filepath.Join(path, "keys", "ONE"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Secret("ONE"); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("an empty key: %v", err)
	}
}

func TestMark(t *testing.T) {
	d := open(t, t.TempDir())
	for _, want := range []bool{false, true} {
		if set, err := d.Mark("started"); err != nil || set != want {
			t.Errorf("mark is %v, %v; want %v", set, err, want)
		}
		if err := d.Set("started"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUnusable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "not a directory") || !strings.Contains(err.Error(), "TURBOCAT_DATA_DIR") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestRootLetsItsChildrenThrough(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	path := filepath.Join(t.TempDir(), "shut")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestPath(t *testing.T) {
	if got, err := Path(map[string]string{"TURBOCAT_DATA_DIR": "/data/x", "HOME": "/home/u"}); err != nil || got != "/data/x" {
		t.Errorf("got %s, %v", got, err)
	}
	if os.Geteuid() == 0 {
		t.Skip("root has a fixed default")
	}
	for want, environ := range map[string]map[string]string{
		"/state/turbocat":               {"XDG_STATE_HOME": "/state", "HOME": "/home/u"},
		"/home/u/.local/state/turbocat": {"HOME": "/home/u"},
	} {
		if got, err := Path(environ); err != nil || got != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
	if _, err := Path(nil); err == nil {
		t.Error("no home is no error")
	}
}

func TestLogRotates(t *testing.T) {
	d := open(t, t.TempDir())
	for _, text := range []string{"first", "second"} {
		l, err := d.OpenLog("turbocat.log")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"turbocat.log": "second", "turbocat.log.1": "first"} {
		if raw, err := os.ReadFile(d.Path(name)); err != nil || string(raw) != want {
			t.Errorf("%s: %q, %v", name, raw, err)
		}
	}
	l, err := d.OpenLog("turbocat.log")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	l.size = maxLog
	if _, err := l.Write([]byte("third")); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(d.Path("turbocat.log")); err != nil || string(raw) != "third" {
		t.Errorf("after a full log: %q, %v", raw, err)
	}
}

func TestPasswordsAreMadeOnceAndFound(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	one, err := d.Password("DEMO_PASSWORD")
	if err != nil || !strings.HasPrefix(one, "Tc1-") || len(one) < 20 {
		t.Fatalf("got %q, %v", one, err)
	}
	if again, err := d.Password("DEMO_PASSWORD"); err != nil || again != one {
		t.Errorf("again: %q, %v", again, err)
	}
	if found, err := FindPassword(path, "DEMO_PASSWORD"); err != nil || found != one {
		t.Errorf("found %q, %v", found, err)
	}
	if _, err := FindPassword(path, "OTHER"); err == nil {
		t.Error("found what is not there")
	}
}
