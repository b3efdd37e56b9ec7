//go:build unix

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
)

// TestDeadLetters puts what is no input into the log, and looks at it and sends it once more as who operates the installation does.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	i := own(t, "dead-letters")
	i.args = []string{"dev", "--processes"}
	i.environ = append(i.environ, "TURBOCAT_ADMIN_PASSWORD="+password)
	if err := i.start(); err != nil {
		t.Fatal(err)
	}
	admin := &client{url: i.url}
	admin.session = data[identity.Session](t, admin.do(t, "POST", "/auth/login", object{"email": "admin@turbocat.dev", "password": password}), 200)
	var address string
	for _, pair := range i.environOf(t, "orchestrator") {
		if value, found := strings.CutPrefix(pair, "NATS_URL="); found {
			address = value
		}
	}
	conn, err := nats.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	const odd = "io.turbocat.\x1b[31mlater.v1"
	if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: subject.ExecutionInputRun(3), Data: []byte(`{"celsius":4}`), Header: nats.Header{
		event.HeaderType: {odd}, event.HeaderSubject: {"somebody"}, nats.MsgIdHdr: {"once"},
	}}); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), i.program, append([]string{"dead-letters"}, append(args, "--url", i.url)...)...)
		cmd.Env = append(i.environ, "TURBOCAT_EMAIL=admin@turbocat.dev", "TURBOCAT_PASSWORD="+password)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v says %v, %s", args, err, &said)
		}
		return string(out)
	}
	var first orchestrator.DeadLetter
	eventually(t, readyWithin, func() error {
		return json.Unmarshal([]byte(command("list", "--json")), &first)
	})
	if list := command("list", "--fresh", "--reason", orchestrator.DeadNoInput); strings.Count(list, "\n") != 2 || !strings.Contains(list, first.ID) || strings.Contains(list, "\x1b") {
		t.Errorf("the list is %q", list)
	}
	if shown := command("show", first.ID); !strings.Contains(shown, "13 bytes:\n{\"celsius\":4}\n") || !strings.Contains(shown, "  Nats-Msg-Id: once\n") {
		t.Errorf("it is shown as %q", shown)
	}
	if said := command("replay", "--all"); said != "1 sent once more.\n" {
		t.Errorf("it says %q", said)
	}
	eventually(t, readyWithin, func() error {
		counts := data[[]orchestrator.DeadLetterCount](t, admin.do(t, "GET", "/dead-letters/counts", nil), 200)
		if counts[0].Count != 2 || counts[0].Replayed != 1 {
			return fmt.Errorf("there are %+v", counts)
		}
		return nil
	})
	if list := command("list", "--reason", orchestrator.DeadNoExecution); list != "There are none.\n" {
		t.Errorf("the list is %q", list)
	}
	eventually(t, readyWithin, func() error {
		entries, _ := page[audit.TrailEntry](t, admin.do(t, "GET", "/audit-logs?action="+string(audit.DeadLetterReplayed), nil))
		if len(entries) != 1 || entries[0].ResourceID != first.ID || entries[0].Actor.UserID != admin.session.User.ID {
			return fmt.Errorf("the audit trail has %+v", entries)
		}
		return nil
	})
	if err := i.stop(); err != nil {
		t.Error(err)
	}
}
