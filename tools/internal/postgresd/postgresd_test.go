//go:build unix

package postgresd_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq"
	"go.uber.org/goleak"

	"turbocat.io/pkg/service"
	"turbocat.io/tools/internal/child"
	"turbocat.io/tools/internal/pginstall"
	"turbocat.io/tools/internal/postgresd"
)

// asParent names the data folder for a test process that is to start a server and be killed.
const asParent = "TURBOCAT_TEST_POSTGRESD_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asParent); dir != "" {
		parent(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func parent(dir string) {
	b, err := ensure()
	if err == nil {
		var s *postgresd.Server
		if s, err = postgresd.Start(context.Background(), postgresd.Options{Dir: dir, Binaries: b, NoFsync: true}); err == nil {
			fmt.Println(s.URL())
			select {} // until killed
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

func ensure() (postgresd.Binaries, error) {
	o, err := pginstall.FromEnviron(service.Environ())
	if err != nil {
		return postgresd.Binaries{}, err
	}
	return pginstall.Ensure(context.Background(), o)
}

func binaries(t *testing.T) postgresd.Binaries {
	t.Helper()
	b, err := ensure()
	if err != nil {
		if os.Getenv("REQUIRE_INTEGRATION") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return b
}

// folder is a place for a data folder that the database's user can reach.
func folder(t *testing.T) string {
	t.Helper()
	top, err := os.MkdirTemp("", "postgresd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(top); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(top, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(top, "postgres")
}

func start(t *testing.T, dir string) *postgresd.Server {
	t.Helper()
	s, err := postgresd.Start(t.Context(), postgresd.Options{Dir: dir, Binaries: binaries(t), Database: "turbocat", NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func exec1(t *testing.T, url, statement string) {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func query1(t *testing.T, url, query string) string {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var got string
	if err := db.QueryRowContext(t.Context(), query).Scan(&got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRestartKeepsData(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	// What an interrupted first start leaves behind.
	if err := os.MkdirAll(filepath.Join(dir+".init", "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	exec1(t, s.URL(), `CREATE TABLE kept (v text); INSERT INTO kept VALUES ('ä')`)
	if got := query1(t, s.URL(), `SELECT current_database()||' '||current_setting('data_checksums')||' '||current_setting('server_encoding')||' '||current_setting('listen_addresses')`); got != "turbocat on UTF8 127.0.0.1" {
		t.Errorf("settings: %s", got)
	}
	s.Stop()
	s.Stop() // again: nothing happens
	select {
	case <-s.Done():
	default:
		t.Error("not done after Stop")
	}

	again := start(t, dir)
	if got := query1(t, again.URL(), `SELECT v FROM kept`); got != "ä" {
		t.Errorf("kept %q", got)
	}
	info, err := os.Stat(filepath.Join(dir, "turbocat.password"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("password file: %v, %v", info.Mode(), err)
	}
}

func TestDurableByDefault(t *testing.T) {
	t.Parallel()
	s, err := postgresd.Start(t.Context(), postgresd.Options{Dir: folder(t), Binaries: binaries(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if got := query1(t, s.URL(), `SELECT current_setting('fsync')||current_setting('full_page_writes')||current_setting('synchronous_commit')`); got != "ononon" {
		t.Errorf("fsync, full_page_writes, synchronous_commit: %s", got)
	}
	wrong, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	wrong.User = url.UserPassword("turbocat", "wrong")
	db, err := sql.Open("postgres", wrong.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.PingContext(t.Context()); err == nil {
		t.Error("a wrong password was taken")
	}
}

func TestKilledParentBlocksNothing(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends orphans")
	}
	binaries(t)
	dir := folder(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asParent+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	address := strings.TrimSpace(line)
	if err != nil || !strings.HasPrefix(address, "postgres://") {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("the parent said %q, %v", line, err)
	}
	exec1(t, address, `CREATE TABLE kept (v text); INSERT INTO kept VALUES ('x')`)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	s, err := postgresd.Start(t.Context(), postgresd.Options{Dir: dir, Binaries: binaries(t), NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if got := query1(t, s.URL(), `SELECT v FROM kept`); got != "x" {
		t.Errorf("kept %q", got)
	}
}

// The commit waits for the log here, as it does outside of tests.
func TestKilledServerIsNoticedAndRevived(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	s := start(t, dir)
	exec1(t, s.URL(), `SET synchronous_commit = on; CREATE TABLE kept (v text); INSERT INTO kept VALUES ('x')`)
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("its end was not noticed")
	}
	if s.Err() == nil {
		t.Error("no error")
	}
	if err := s.Revive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query1(t, s.URL(), `SELECT v FROM kept`); got != "x" {
		t.Errorf("kept %q", got)
	}
}

// A pid file can outlive its server, and its pid be given to another program of the same user.
func TestForeignPIDBlocksNothing(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	s := start(t, dir)
	pidFile := filepath.Join(dir, "postmaster.pid")
	raw, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "\n")
	s.Stop()

	as, err := child.Unprivileged(dir, "nobody")
	if err != nil {
		t.Fatal(err)
	}
	other, err := child.Start(child.Command{Path: "/bin/sleep", Args: []string{"60"}, Dir: "/", As: as, Orphan: syscall.SIGKILL})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Stop(0)
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(other.PID())+"\n"+rest), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := as.Chown(pidFile); err != nil {
		t.Fatal(err)
	}
	if got := query1(t, start(t, dir).URL(), `SELECT 'up'`); got != "up" {
		t.Errorf("got %q", got)
	}
}

func TestRootDropsPrivileges(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		t.Skip("needs root on Linux")
	}
	s := start(t, folder(t))
	info, err := os.Stat("/proc/" + strconv.Itoa(s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if info.Sys().(*syscall.Stat_t).Uid == 0 {
		t.Error("the server runs as root")
	}
}

func TestUnusableFolders(t *testing.T) {
	t.Parallel()
	b := binaries(t)
	for name, tc := range map[string]struct {
		root    bool
		prepare func(t *testing.T, dir string) error
		want    []string
	}{
		"another major version": {prepare: func(_ *testing.T, dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("99\n"), 0o600)
		}, want: []string{"made by PostgreSQL 99", "install PostgreSQL 99", "TURBOCAT_DATA_DIR"}},
		"damaged version": {prepare: func(_ *testing.T, dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "PG_VERSION"), nil, 0o600)
		}, want: []string{"PG_VERSION is damaged"}},
		"other files in it": {prepare: func(_ *testing.T, dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o600)
		}, want: []string{"holds files", "empty it"}},
		"a file in its place": {prepare: func(_ *testing.T, dir string) error {
			return os.WriteFile(dir, nil, 0o600)
		}, want: []string{"not a directory", "TURBOCAT_DATA_DIR"}},
		"a file as its parent": {prepare: func(_ *testing.T, dir string) error {
			if err := os.Remove(filepath.Dir(dir)); err != nil {
				return err
			}
			return os.WriteFile(filepath.Dir(dir), nil, 0o600)
		}, want: []string{"can not be made", "not a directory", "TURBOCAT_DATA_DIR"}},
		"a parent that only root may enter": {root: true, prepare: func(_ *testing.T, dir string) error {
			return os.Chmod(filepath.Dir(dir), 0o700)
		}, want: []string{"can not be entered by the user", "run: chmod a+x", "TURBOCAT_DATA_DIR"}},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.root && os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			dir := folder(t)
			if err := tc.prepare(t, dir); err != nil {
				t.Fatal(err)
			}
			s, err := postgresd.Start(t.Context(), postgresd.Options{Dir: dir, Binaries: b, NoFsync: true})
			if err == nil {
				s.Stop()
				t.Fatal("it started")
			}
			for _, want := range tc.want {
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
