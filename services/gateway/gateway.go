// Package gateway is the only door to Turbocat: it serves the REST API, its documentation
// and the live events of executions over HTTP, and asks the other services over the bus.
//
// It owns nothing (Redis holds its rate limits), consumes the public events for its event
// streams, and alone makes an rpc.Caller out of a verified token.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/sync/errgroup"

	"turbocat.io/pkg/service"
	"turbocat.io/services/gateway/internal/httpapi"
	"turbocat.io/services/gateway/internal/live"
)

// Name of the service.
const Name = "gateway"

// Spec makes the gateway startable.
func Spec() service.Spec[Config] {
	return service.Spec[Config]{Name: Name, Redis: true, New: func(env service.Env, cfg Config) (service.Service, error) {
		return New(env, cfg)
	}}
}

// Gateway is a wired gateway that holds its port.
type Gateway struct {
	hub      *live.Hub
	api      *httpapi.API
	listener net.Listener
}

// New wires a gateway and takes its port.
func New(env service.Env, cfg Config) (*Gateway, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	origins, err := cfg.origins()
	if err != nil {
		return nil, err
	}
	proxies, err := cfg.proxies()
	if err != nil {
		return nil, err
	}
	production, err := cfg.production()
	if err != nil {
		return nil, err
	}
	hub := live.NewHub(env.Bus, env.Log)
	api := httpapi.New(httpapi.Options{
		Bus: env.Bus, Redis: env.Redis, Health: env.Health, Hub: hub, Log: env.Log,
		Metrics: env.Metrics, Gatherer: env.Gatherer, Tracing: env.Tracing,
		Origins: origins, Proxies: proxies, Production: production, RedisPrefix: cfg.RedisPrefix,
		AuthPerMinute: cfg.AuthPerMinute, UserPerSecond: cfg.UserPerSecond,
		PingInterval: cfg.PingInterval, DrainTimeout: cfg.DrainTimeout,
	})
	// The port is taken here, not in Run, so that nobody is told ready before clients can connect.
	listener, err := listen(cfg.Host, cfg.Port)
	if err != nil {
		return nil, err
	}
	return &Gateway{hub: hub, api: api, listener: listener}, nil
}

func listen(host string, port int) (net.Listener, error) {
	address := net.JoinHostPort(host, strconv.Itoa(port))
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %d on %s is taken by another process; stop it or set PORT to a free one", port, host)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; correct TURBOCAT_GATEWAY_HOST or PORT", address, err)
	}
	return listener, nil
}

// Addr is the address the gateway listens on.
func (g *Gateway) Addr() net.Addr { return g.listener.Addr() }

// Run serves until ctx ends, then finishes the requests in flight.
func (g *Gateway) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		g.hub.Run(ctx)
		return nil
	})
	group.Go(func() error { return g.api.Serve(ctx, g.listener) })
	return group.Wait()
}
