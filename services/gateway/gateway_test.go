package gateway

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/redistest"
	"turbocat.io/pkg/service"
)

func TestMain(m *testing.M) {
	// fasthttp's ticker lives as long as the process, and its pool sleeps on for up to 10 s after a shutdown.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

func config(t *testing.T, environ map[string]string) Config {
	t.Helper()
	var cfg Config
	if err := env.ParseWithOptions(&cfg, env.Options{Environment: environ}); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	if cfg := config(t, nil); cfg.validate() != nil || cfg.Host != "127.0.0.1" || cfg.Port != 3001 || cfg.AuthPerMinute != 60 || cfg.UserPerSecond != 1000 {
		t.Errorf("defaults %+v: %v", cfg, cfg.validate())
	}
	for name, value := range map[string]string{
		"PORT": "65536", "TURBOCAT_GATEWAY_AUTH_PER_MINUTE": "0", "TURBOCAT_GATEWAY_USER_PER_SECOND": "-1",
		"TURBOCAT_GATEWAY_PING_INTERVAL": "0s", "TURBOCAT_GATEWAY_DRAIN_TIMEOUT": "-1s", "FRONTEND_URL": "app.example.com",
		"TURBOCAT_GATEWAY_ORIGINS": "https://a.example.com,*", "TURBOCAT_GATEWAY_TRUSTED_PROXIES": "10.0.0.0/8,all", "TURBOCAT_ENV": "prod",
	} {
		cfg := config(t, map[string]string{name: value})
		err := cfg.validate()
		if err == nil {
			_, err = cfg.origins()
		}
		if err == nil {
			_, err = cfg.proxies()
		}
		if err == nil {
			_, err = cfg.production()
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
	cfg := config(t, map[string]string{
		"FRONTEND_URL": "http://localhost:5173/app/", "TURBOCAT_GATEWAY_ORIGINS": "https://a.example.com, http://localhost:5173", "TURBOCAT_GATEWAY_TRUSTED_PROXIES": "10.1.2.3/8, 192.0.2.7",
	})
	if origins, err := cfg.origins(); !slices.Equal(origins, []string{"http://localhost:5173", "https://a.example.com"}) || err != nil {
		t.Errorf("origins %q, %v", origins, err)
	}
	if proxies, err := cfg.proxies(); len(proxies) != 2 || proxies[0].String() != "10.0.0.0/8" || proxies[1].String() != "192.0.2.7/32" || err != nil {
		t.Errorf("proxies %v, %v", proxies, err)
	}
}

func TestRunServesUntilStopped(t *testing.T) {
	environ := map[string]string{"NATS_URL": bustest.Server(t), "REDIS_URL": redistest.URL(t), "PORT": "0"}
	var logs bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- Spec().Unit().Run(ctx, environ, zerolog.SyncWriter(&logs), func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	case <-time.After(20 * time.Second):
		t.Fatal("not ready")
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(logs.String(), `"message":"listening"`) {
		t.Errorf("log %s", logs.String())
	}
}

func TestTakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg := config(t, nil)
	e := service.Env{Log: zerolog.Nop(), Bus: bustest.New(t), Redis: redistest.New(t), Health: service.NewHealth(Name)}
	cfg.Port = taken.Addr().(*net.TCPAddr).Port
	if _, err := New(e, cfg); err == nil || !strings.Contains(err.Error(), "is taken by another process; stop it or set PORT") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
	cfg.Port = 0
	g, err := New(e, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	resp, err := http.Get("http://" + g.Addr().String() + "/health/live")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
