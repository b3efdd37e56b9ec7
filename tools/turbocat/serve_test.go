//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"turbocat.io/tools/internal/allinone"
	"turbocat.io/tools/internal/natsd"
)

func TestServeNATS(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	cmd := p.command(t, []string{"NATS_URL=nats://ann:se%2Fcret@127.0.0.1:0"}, "serve", "nats", "--dir", p.dir)
	server := begin(t, cmd)
	_, told, _ := strings.Cut(server.await(`{"ready":"nats","address":"127.0.0.1:`), `{"ready":`)
	told, _, _ = strings.Cut(`{"ready":`+told, "\n")
	var ready allinone.Ready
	if err := json.Unmarshal([]byte(told), &ready); err != nil || ready.Ready != "nats" || !strings.HasPrefix(ready.Address, "127.0.0.1:") {
		t.Fatalf("it says %s", told)
	}
	if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid)); err == nil && strings.Contains(string(args), "cret") {
		t.Errorf("everybody may read %q", args)
	}

	second := begin(t, p.command(t, []string{"NATS_URL=nats://ann:x@127.0.0.1:0"}, "serve", "nats", "--dir", p.dir))
	second.await("turbocat: another NATS server uses the folder " + p.dir)
	taken := begin(t, p.command(t, []string{"NATS_URL=nats://ann:x@" + ready.Address}, "serve", "nats", "--dir", filepath.Join(p.dir, "other")))
	taken.await("for NATS is taken")

	if err := server.signal(syscall.SIGTERM); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

func TestNATSAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"nats://ann:secret@127.0.0.1:4222": "ann secret 4222", "nats://ann:se%2Fcret@localhost:0": "ann se/cret 0",
		"": "", "127.0.0.1:4222": "", "nats://127.0.0.1:4222": "", "nats://ann@127.0.0.1:4222": "", "nats://:secret@127.0.0.1:4222": "",
		"nats://ann:secret@127.0.0.1": "", "nats://ann:secret@0.0.0.0:4222": "", "nats://ann:secret@nats.example.com:4222": "",
		"nats://ann:secret@127.0.0.1:70000": "", "tls://ann:secret@127.0.0.1:4222": "",
	} {
		o, err := natsOptions(map[string]string{"NATS_URL": address})
		got := fmt.Sprintln(o.User, o.Password, o.Port)
		if (err == nil) != (want != "") || err == nil && got != want+"\n" {
			t.Errorf("%s: %s %v", address, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the password is told: %v", address, err)
		}
	}
}

func TestNATSClusterOptions(t *testing.T) {
	given := map[string]string{
		"NATS_URL": "nats://ann:secret@127.0.0.1:4222", "TURBOCAT_NATS_SERVER_NAME": "n1",
		"TURBOCAT_NATS_CLUSTER_URL": "nats://routes:hidden@127.0.0.1:6222", "TURBOCAT_NATS_ROUTES": "127.0.0.1:6223,127.0.0.1:6224",
	}
	o, err := natsOptions(given)
	if want := (natsd.Cluster{Server: "n1", Name: "turbocat", Port: 6222, User: "routes", Password: "hidden", Routes: []string{"127.0.0.1:6223", "127.0.0.1:6224"}}); err != nil || !reflect.DeepEqual(*o.Cluster, want) {
		t.Errorf("%+v, %v", o.Cluster, err)
	}
	for name, values := range map[string][]string{
		"TURBOCAT_NATS_SERVER_NAME": {"", "n 1"}, "TURBOCAT_NATS_CLUSTER_NAME": {"my cluster"},
		"TURBOCAT_NATS_CLUSTER_URL": {"", "127.0.0.1:6222", "nats://127.0.0.1:6222", "nats://routes:hidden@127.0.0.1:0", "nats://routes:hidden@0.0.0.0:6222"},
		"TURBOCAT_NATS_ROUTES":      {"", "127.0.0.1", "nats://routes:hidden@127.0.0.1:6223"},
	} {
		for _, value := range values {
			environ := maps.Clone(given)
			environ[name] = value
			if _, err := natsOptions(environ); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "hidden") {
				t.Errorf("%s=%s: %v", name, value, err)
			}
		}
	}
}

// TestBothShapesRefuseAlike checks that a service which does not start ends the start, with its own sentence.
func TestBothShapesRefuseAlike(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for _, args := range [][]string{{"dev"}, {"dev", "--processes"}} {
		d := begin(t, p.command(t, []string{"TURBOCAT_IDENTITY_BCRYPT_COST=99"}, args...))
		out := d.await("turbocat: identity: ")
		if err := d.signal(syscall.SIGTERM); err == nil {
			t.Error("it ends without a fault")
		}
		if strings.Contains(out, "Ready in") || strings.Contains(out, "started again") {
			t.Errorf("%s:\n%s", args, out)
		}
	}
}
