package observe_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/pkg/observe"
	"turbocat.io/pkg/observe/observetest"
)

func TestFaultsAreTold(t *testing.T) {
	t.Parallel()
	sentry := observetest.NewSentry(t)
	faults, err := observe.NewFaults(observe.FaultsConfig{Service: "runner", Version: "v1", DSN: sentry.DSN, Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer faults.Close()
	var b lockedBuffer
	log := zerolog.New(faults.Writer(&b)).With().Timestamp().Str("service", "runner").Logger()
	log.Info().Str("requestId", "r-0").Msg("ready")
	log.Warn().Msg("a look is worth it")
	ids := observe.IDs{RequestID: "r-1", TraceID: traceID, ExecutionID: "x-1", StepKey: "s"}
	log.Error().EmbedObject(ids).Err(errors.New("disk full "+strings.Repeat("é", 9000))).Int("partition", 0).Str("body", "a payload").Msg("not stored")

	got := sentry.Next(t)
	if got.Level != "error" || got.Message != "not stored" || got.Release != "turbocat@v1" || got.Environment != "test" || len(got.Exception) != 1 || !strings.HasPrefix(got.Exception[0].Value, "disk full") || len(got.Exception[0].Value) > 8<<10 {
		t.Errorf("told is %.300s", fmt.Sprint(got))
	}
	want := map[string]string{"service": "runner", "requestId": "r-1", "traceId": traceID, "executionId": "x-1", "stepKey": "s", "partition": "0"}
	if fmt.Sprint(got.Tags) != fmt.Sprint(want) {
		t.Errorf("its tags are %v, not %v", got.Tags, want)
	}
	if strings.Contains(got.Body, "a payload") || strings.Contains(got.Body, "r-0") {
		t.Errorf("what is nobody's business is told: %.500s", got.Body)
	}
	if n := strings.Count(b.String(), "\n"); n != 3 {
		t.Errorf("the log has %d lines, not 3: %s", n, b.String())
	}

	func() {
		defer func() {
			if p := recover(); p != "broken" {
				t.Errorf("the panic became %v", p)
			}
		}()
		defer faults.Panicked()
		panic("broken")
	}()
	if got := sentry.Next(t); got.Level != "fatal" || !strings.HasPrefix(got.Exception[0].Value, "broken\n") || !strings.Contains(got.Exception[0].Value, "faults_test.go") {
		t.Errorf("of the panic it is told %+v", got)
	}
	if n := sentry.More(); n > 0 {
		t.Errorf("%d more are told", n)
	}
}

// A Sentry that is away holds up nobody, and nothing is made without one.
func TestFaultsWithoutSentry(t *testing.T) {
	t.Parallel()
	none, err := observe.NewFaults(observe.FaultsConfig{Service: "runner"})
	var b lockedBuffer
	if err != nil || none != nil || none.Writer(&b) != io.Writer(&b) {
		t.Errorf("without a DSN there is %v, %v", none, err)
	}
	none.Panicked()
	none.Close()
	if _, err := observe.NewFaults(observe.FaultsConfig{DSN: "https://sentry.example.com"}); err == nil || !strings.Contains(err.Error(), "SENTRY_DSN") || strings.Contains(err.Error(), "example.com") {
		t.Errorf("a DSN without a key: %v", err)
	}
	goOn := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-goOn }))
	defer hangs.Close()
	defer close(goOn)
	away, err := observe.NewFaults(observe.FaultsConfig{Service: "runner", DSN: strings.Replace(hangs.URL, "http://", "http://key@", 1) + "/1"})
	if err != nil {
		t.Fatal(err)
	}
	log, begun := zerolog.New(away.Writer(&b)), time.Now()
	for range 10_000 {
		log.Error().Msg("m")
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("10,000 lines took %v", took)
	}
	begun = time.Now()
	away.Close()
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the end waited for %v", took)
	}
}
