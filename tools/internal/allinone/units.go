//go:build unix

package allinone

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"time"

	"turbocat.io/pkg/service"
)

// readyTimeout is how long the services may take until all of them work.
const readyTimeout = 60 * time.Second

// units are running services. The door, which clients come through, opens last and is stopped first.
type units struct {
	door, inner []*unit
	starting    map[string]bool // those that awaitReady has not seen to work
	open        func()          // starts the door
	ready       chan string
	ended       chan error // why one ended by itself, or nil when it was told to
}

type unit struct {
	name string
	stop context.CancelFunc
	done chan struct{}
}

// startUnits starts the services behind the one named door.
func startUnits(list []service.Unit, door string, environ map[string]string, logs io.Writer) *units {
	u := &units{ready: make(chan string, len(list)), ended: make(chan error, len(list)), starting: map[string]bool{}}
	start := func(one service.Unit) *unit {
		// Each ends by its own cancel: the order matters.
		ctx, stop := context.WithCancel(context.Background())
		running := &unit{name: one.Name, stop: stop, done: make(chan struct{})}
		u.starting[one.Name] = true
		go func() {
			defer close(running.done)
			err := one.Run(ctx, environ, logs, func() { u.ready <- one.Name })
			if err == nil && ctx.Err() == nil {
				err = fmt.Errorf("%s: stopped by itself", one.Name)
			}
			u.ended <- err
		}()
		return running
	}
	u.open = func() {}
	for _, one := range list {
		if one.Name == door {
			u.open = func() { u.door = append(u.door, start(one)) }
		} else {
			u.inner = append(u.inner, start(one))
		}
	}
	return u
}

// awaitReady returns when all services that were started work, or with why one does not.
func (u *units) awaitReady(ctx context.Context) error {
	late := time.NewTimer(readyTimeout)
	defer late.Stop()
	for len(u.starting) > 0 {
		select {
		case name := <-u.ready:
			delete(u.starting, name)
		case err := <-u.ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return fmt.Errorf("not ready after %s: %s; the log tells why", readyTimeout, names(u.starting))
		}
	}
	return nil
}

func names(set map[string]bool) string {
	var list []string
	for name := range set {
		list = append(list, name)
	}
	sort.Strings(list)
	return strings.Join(list, ", ")
}

// stop ends the door, then the services behind it all at once, and returns when they have ended.
func (u *units) stop() {
	for _, group := range [][]*unit{u.door, u.inner} {
		var all sync.WaitGroup
		for _, one := range group {
			all.Go(func() {
				one.stop()
				<-one.done
			})
		}
		all.Wait()
	}
}
