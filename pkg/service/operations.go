package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	stdlog "log" //nolint:depguard // http.Server tells its errors to no other
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"turbocat.io/pkg/observe"
)

// freeOperationsAddress lets many services run side by side on one machine.
const freeOperationsAddress = "127.0.0.1:0"

// operations is the plain HTTP listener that operators, Kubernetes and Prometheus look at a service through.
type operations struct {
	server *http.Server
	served chan struct{}
}

// operationsVariable names the setting of a service's operations address.
func operationsVariable(service string) string {
	return "TURBOCAT_" + strings.ToUpper(service) + "_OPS_ADDRESS"
}

// startOperations takes the address and answers on it until close. The error names the variable.
func startOperations(service, address string, health *Health, gatherer prometheus.Gatherer, log zerolog.Logger) (*operations, error) {
	if address == "" {
		address = freeOperationsAddress
	}
	variable := operationsVariable(service)
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("%s is %q; give a host and a port, like %s or 0.0.0.0:9090", variable, address, freeOperationsAddress)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s is %s, which can not be listened on: %w; stop who has it or give another", variable, address, err)
	}
	log.Info().Str("opsAddress", listener.Addr().String()).Msg("health and metrics are served")
	o := &operations{served: make(chan struct{}), server: &http.Server{
		Handler: health.routes(gatherer), ErrorLog: stdlog.New(log, "", 0),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 15 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}}
	go func() {
		defer close(o.served)
		if err := o.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error().Err(err).Msg("health and metrics are no longer served")
		}
	}()
	return o, nil
}

// close lets answers in work finish for a moment.
func (o *operations) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if o.server.Shutdown(ctx) != nil {
		_ = o.server.Close()
	}
	<-o.served
}

// routes are what the operations listener answers.
func (h *Health) routes(gatherer prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health/live", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, alive{h.service, Version, time.Since(h.started).Milliseconds()})
	})
	check := func(w http.ResponseWriter, r *http.Request) {
		report, status := h.Check(r.Context()), http.StatusOK
		if !report.Ready {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, report)
	}
	mux.HandleFunc("GET /health/ready", check)
	mux.HandleFunc("GET /health", check)
	mux.Handle("GET /metrics", observe.Handler(gatherer))
	return mux
}

// alive is what a process says of itself without looking at anything else.
type alive struct {
	Service  string `json:"service"`
	Version  string `json:"version"`
	UptimeMs int64  `json:"uptimeMs"`
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that is gone needs no answer
}
