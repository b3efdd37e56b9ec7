package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"turbocat.io/pkg/guard"
	"turbocat.io/services/runner/internal/api"
	"turbocat.io/services/runner/internal/code"
	"turbocat.io/services/runner/internal/data"
	"turbocat.io/services/runner/internal/executor"
	"turbocat.io/services/runner/internal/jail"
)

func neighbour(config, input string) executor.Task {
	return executor.Task{Config: json.RawMessage(config), Input: json.RawMessage(input), Log: func(_, _, _ string) {}, Ours: func() bool { return true }}
}

// BenchmarkNeighbours tells how long attempts take beside hostile ones on the same runner: as many as it runs at once of code that computes
// without end, or takes memory until it has none, and of calls to a server that never answers.
func BenchmarkNeighbours(b *testing.B) {
	cfg, err := Config{}.complete()
	if err != nil {
		b.Fatal(err)
	}
	slow := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			select {
			case <-slow:
			case <-r.Context().Done():
			}
		}
		_, _ = fmt.Fprint(w, `{}`)
	}))
	defer server.Close()
	defer close(slow)
	client := guard.NewClient(guard.Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	defer client.CloseIdleConnections()
	sandbox, err := code.New(code.Config{Client: client, Host: jail.Host{Nice: 10}})
	if err != nil {
		b.Fatal(err)
	}
	even, err := code.New(code.Config{Client: client})
	if err != nil {
		b.Fatal(err)
	}
	warm, cool := context.WithCancel(b.Context())
	var warming sync.WaitGroup
	warming.Go(func() { sandbox.Warm(warm, cfg.CodeConcurrency) })
	defer warming.Wait()
	defer cool()
	kinds := []struct {
		name     string
		executor executor.Interface
		task     executor.Task
	}{
		{"API", api.New(client), neighbour(`{"url":"`+server.URL+`"}`, `{}`)},
		{"DATA", data.New(), neighbour(`{"operation":"sort","sort":[{"field":"a"}]}`, `{"data":[{"a":2},{"a":1}]}`)},
		{"CODE", sandbox, neighbour(`{"runtime":"javascript","source":"function handler() { return 1 }"}`, `{}`)},
	}
	for _, hostile := range []struct {
		name     string
		count    int
		executor executor.Interface
		task     executor.Task
	}{
		{"alone", 0, nil, executor.Task{}},
		{"busy-code-as-nice-as-all", cfg.CodeConcurrency - 1, even, neighbour(`{"runtime":"javascript","source":"function handler() { for (;;); }","timeoutMs":3600000}`, `{}`)},
		{"busy-code", cfg.CodeConcurrency - 1, sandbox, neighbour(`{"runtime":"javascript","source":"function handler() { for (;;); }","timeoutMs":3600000}`, `{}`)},
		{"greedy-code", cfg.CodeConcurrency - 1, sandbox, neighbour(`{"runtime":"javascript","source":"function handler() { const a = []; for (;;) a.push({a}) }","memoryMb":256}`, `{}`)},
		{"slow-calls", cfg.Concurrency - 1, api.New(client), neighbour(`{"url":"`+server.URL+`/slow","timeoutMs":3600000}`, `{}`)},
	} {
		ctx, end := context.WithCancel(b.Context())
		var working sync.WaitGroup
		for range hostile.count {
			working.Go(func() {
				for ctx.Err() == nil {
					_, _ = hostile.executor.Run(ctx, hostile.task)
				}
			})
		}
		for _, kind := range kinds {
			b.Run(hostile.name+"/"+kind.name, func(b *testing.B) {
				var took []time.Duration
				for range b.N {
					b.StopTimer()
					<-time.After(5 * time.Millisecond) // as steps come, not one right after the other
					b.StartTimer()
					began := time.Now()
					if _, err := kind.executor.Run(b.Context(), kind.task); err != nil {
						b.Fatal(err)
					}
					took = append(took, time.Since(began))
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
				b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
			})
		}
		end()
		working.Wait()
	}
}
