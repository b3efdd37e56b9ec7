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

// units are running services. The first one is stopped first: it is the door.
type units struct {
	door  []*unit
	inner []*unit
	ready chan string
	ended chan error // why one ended by itself, or nil when it was told to
}

type unit struct {
	name string
	stop context.CancelFunc
	done chan struct{}
}

// startUnits starts the services; those named by door stop before the others.
func startUnits(list []service.Unit, door string, environ map[string]string, logs io.Writer) *units {
	u := &units{ready: make(chan string, len(list)), ended: make(chan error, len(list))}
	for _, one := range list {
		// Each ends by its own cancel: the order matters.
		ctx, stop := context.WithCancel(context.Background())
		running := &unit{name: one.Name, stop: stop, done: make(chan struct{})}
		if one.Name == door {
			u.door = append(u.door, running)
		} else {
			u.inner = append(u.inner, running)
		}
		go func() {
			defer close(running.done)
			err := one.Run(ctx, environ, logs, func() { u.ready <- one.Name })
			if err == nil && ctx.Err() == nil {
				err = fmt.Errorf("%s: stopped by itself", one.Name)
			}
			u.ended <- err
		}()
	}
	return u
}

// awaitReady returns when all services work, or with why one does not.
func (u *units) awaitReady(ctx context.Context) error {
	missing := map[string]bool{}
	for _, one := range append(append([]*unit{}, u.door...), u.inner...) {
		missing[one.name] = true
	}
	late := time.NewTimer(readyTimeout)
	defer late.Stop()
	for len(missing) > 0 {
		select {
		case name := <-u.ready:
			delete(missing, name)
		case err := <-u.ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return fmt.Errorf("not ready after %s: %s; the log tells why", readyTimeout, names(missing))
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
