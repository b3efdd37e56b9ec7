//go:build unix

package redisd

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// expiryTick is how exactly keys of the embedded server expire: its clock moves only when told to.
const expiryTick = 100 * time.Millisecond

// embedded is a Redis inside this process.
type embedded struct {
	once        sync.Once
	quit, ended chan struct{}
}

func (e *embedded) start(_ context.Context, s *Server) error {
	m := miniredis.NewMiniRedis()
	m.RequireAuth(s.password)
	if err := m.StartAddr(host + ":0"); err != nil {
		return fmt.Errorf("the embedded Redis can not listen on loopback: %w", err)
	}
	port, err := strconv.Atoi(m.Port())
	if err != nil {
		m.Close()
		return err
	}
	s.port = port
	e.quit, e.ended = make(chan struct{}), make(chan struct{})
	go e.run(m)
	return nil
}

func (e *embedded) run(m *miniredis.Miniredis) {
	defer close(e.ended)
	defer m.Close()
	tick := time.NewTicker(expiryTick)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-e.quit:
			return
		case now := <-tick.C:
			m.FastForward(now.Sub(last))
			last = now
		}
	}
}

func (e *embedded) done() <-chan struct{} { return e.ended }

func (e *embedded) stop() {
	e.once.Do(func() { close(e.quit) })
	<-e.ended
}
