//go:build unix

package allinone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/pkg/service"
	"turbocat.io/tools/internal/child"
	"turbocat.io/tools/internal/natsd"
)

const (
	// startWithin is how long a process may take until it works at first. It ends before readyTimeout, for
	// here it is known what the process said last.
	startWithin = readyTimeout - 5*time.Second
	// killAfter is how much longer than its drain a process may take to stop.
	killAfter = 10 * time.Second
	// natsName is what `turbocat serve` calls the NATS server.
	natsName = "nats"
)

// Ready is the line by which `turbocat serve NAME` tells on stdout that it works.
type Ready struct {
	Ready   string `json:"ready"`             // the name
	Address string `json:"address,omitempty"` // where it listens, if it chose that itself
}

// InProcesses gives options by which NATS and each unit run as `program serve NAME`, a process each,
// which is started again whenever it ends by itself. Nothing else changes.
func InProcesses(o Options, program string) Options {
	f := &fleet{program: program, door: o.Door, out: o.Out}
	inner := o.Units
	o.Units = nil
	for _, u := range inner {
		o.Units = append(o.Units, f.unit(u.Name))
	}
	environ := o.Environ
	o.startNATS = func(ctx context.Context, dir string, logs io.Writer) (natsServer, error) {
		return f.startNATS(ctx, environ, dir, logs)
	}
	o.processes = f.table
	return o
}

// fleet is the processes of an installation. It is safe for concurrent use.
type fleet struct {
	program string
	door    string
	out     io.Writer

	mu      sync.Mutex
	members []member
}

// member is a process that works, or did until it ended.
type member struct {
	name, address string
	pid           int
}

// unit runs a service as a process.
func (f *fleet) unit(name string) service.Unit {
	return service.Unit{Name: name, Run: func(ctx context.Context, environ map[string]string, logs io.Writer, ready func()) error {
		command := func() child.Command { return f.command(environ, name) }
		return f.run(ctx, name, command, grace(environ), logs, func(string) { ready() })
	}}
}

// natsProcess is the NATS server as a process. It keeps the port that it chose at first.
type natsProcess struct {
	units    *units
	password string

	mu      sync.Mutex
	address string
}

func (f *fleet) startNATS(ctx context.Context, environ map[string]string, dir string, logs io.Writer) (natsServer, error) {
	n := &natsProcess{password: newPassword(), address: natsd.FreeAddress}
	command := func() child.Command {
		own := maps.Clone(environ)
		own["NATS_URL"] = n.URL() // not on the command line, which everybody may read
		return f.command(own, natsName, "--dir", dir)
	}
	n.units = startUnits([]service.Unit{{Name: natsName, Run: func(ctx context.Context, _ map[string]string, logs io.Writer, ready func()) error {
		return f.run(ctx, natsName, command, killAfter, logs, func(address string) {
			n.mu.Lock()
			n.address = address
			n.mu.Unlock()
			ready()
		})
	}}}, "", environ, logs)
	if err := n.units.awaitReady(ctx); err != nil {
		n.units.stop()
		return nil, err
	}
	return n, nil
}

// URL of the server, with user and password.
func (n *natsProcess) URL() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return natsd.URL(natsUser, n.password, n.address)
}

// Stop ends the server and returns when it has ended.
func (n *natsProcess) Stop() { n.units.stop() }

func (f *fleet) command(environ map[string]string, args ...string) child.Command {
	var pairs []string
	for name, value := range environ {
		pairs = append(pairs, name+"="+value)
	}
	return child.Command{Path: f.program, Name: "turbocat", Args: append([]string{"serve"}, args...), Env: pairs}
}

// grace is how long a process may take to stop: the longest time that the environment gives it for
// what it has begun, and some more.
func grace(environ map[string]string) time.Duration {
	door, _ := time.ParseDuration(environ["TURBOCAT_GATEWAY_DRAIN_TIMEOUT"])
	runner, _ := strconv.ParseInt(environ["TURBOCAT_RUNNER_DRAIN_MS"], 10, 64)
	return max(door, time.Duration(runner)*time.Millisecond, 0) + killAfter
}

// run keeps one process running until ctx ends. first is called when it works for the first time, with
// the address that it tells.
func (f *fleet) run(ctx context.Context, name string, command func() child.Command, grace time.Duration, logs io.Writer, first func(address string)) error {
	log := zerolog.New(logs).With().Timestamp().Str("service", name).Logger()
	err := child.Supervisor{
		Command: command, Patience: startWithin, Grace: grace,
		Ready: func(line string) bool { _, ok := parseReady(line, name); return ok },
		Line:  func(pid int, line string) { record(logs, log, pid, line) },
		Up: func(up child.Up) {
			ready, _ := parseReady(up.Said, name)
			f.set(member{name, ready.Address, up.PID})
			if up.Again {
				f.say("%s works again as pid %d.", name, up.PID)
			} else {
				first(ready.Address)
			}
		},
		Down: func(down child.Down) {
			how := fmt.Sprintf("%s; it is started again in %s", down.How, down.Again.Round(time.Millisecond))
			log.Error().Int("pid", down.PID).Msg("the process " + how)
			f.say("%s (pid %d) %s.", name, down.PID, how)
		},
	}.Run(ctx)
	var start *child.StartError
	switch {
	case errors.As(err, &start):
		return firstFault(name, start)
	case err != nil:
		log.Error().Msgf("the process %s", err)
		f.say("%s %s.", name, err)
	}
	return err
}

func parseReady(line, name string) (r Ready, ok bool) {
	ok = strings.HasPrefix(line, `{"ready":`) && json.Unmarshal([]byte(line), &r) == nil && r.Ready == name
	return r, ok
}

// record keeps a line of a process in the log: as it is when it is of one, else as a line about it.
func record(logs io.Writer, log zerolog.Logger, pid int, line string) {
	if isLog(line) {
		_, _ = io.WriteString(logs, line+"\n") // a full disk stops nobody
		return
	}
	log.Error().Int("pid", pid).Msg(line)
}

func isLog(line string) bool { return strings.HasPrefix(line, "{") && json.Valid([]byte(line)) }

// firstFault words why a process did not start: by its own sentence when it left one, else by how it
// ended and what it said last.
func firstFault(name string, e *child.StartError) error {
	sentence := slices.DeleteFunc(slices.Clone(e.Last), isLog)
	if e.Exited && len(sentence) > 0 && strings.HasPrefix(sentence[0], complaint) {
		return errors.New(strings.TrimPrefix(strings.Join(sentence, "\n"), complaint))
	}
	said := ""
	if len(e.Last) > 0 {
		said = "; it said last:\n  " + strings.Join(e.Last, "\n  ")
	}
	return fmt.Errorf("%s %s at its first start%s", name, e.How, said)
}

// complaint begins the sentence by which a turbocat says why it ends.
const complaint = "turbocat: "

func (f *fleet) say(format string, args ...any) { _, _ = fmt.Fprintf(f.out, format+"\n", args...) }

func (f *fleet) set(m member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.members {
		if f.members[i].name == m.name {
			f.members[i] = m
			return
		}
	}
	f.members = append(f.members, m)
}

// table lists the processes by name, the door last.
func (f *fleet) table(doorURL string) string {
	f.mu.Lock()
	list := slices.Clone(f.members)
	f.mu.Unlock()
	slices.SortFunc(list, func(a, b member) int {
		if (a.name == f.door) != (b.name == f.door) {
			if a.name == f.door {
				return 1
			}
			return -1
		}
		return strings.Compare(a.name, b.name)
	})
	var b strings.Builder
	fmt.Fprintf(&b, "  %-13s  %7s\n", "process", "pid")
	for _, m := range list {
		if m.name == f.door {
			m.address = doorURL
		}
		b.WriteString(strings.TrimRight(fmt.Sprintf("  %-13s  %7d  %s", m.name, m.pid, m.address), " ") + "\n")
	}
	return b.String()
}
