package orchestrator_test

import (
	"encoding/json"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/observe"
	"turbocat.io/pkg/observe/observetest"
	"turbocat.io/pkg/service/servicetest"
	"turbocat.io/services/orchestrator"
)

func TestTheOrchestratorCanBeWatched(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	collector := observetest.New(t)
	environ := in.environ()
	maps.Copy(environ, map[string]string{"LOG_LEVEL": "info", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL})
	p := servicetest.Start(t, orchestrator.Spec().Unit(), environ)

	var mu sync.Mutex
	traces := map[string]bool{} // of ready steps
	in.play(func(a attempt) (string, *runner.StepError) {
		mu.Lock()
		traces[a.msg.Headers().Get(event.HeaderTraceparent)] = true
		mu.Unlock()
		return echo(a)
	})
	const trace = "0af7651916cd43dd8448eb211c80319c"
	caller := in.owner
	caller.RequestID, caller.Traceparent = "r-1", "00-"+trace+"-b7ad6b7169203331-01"
	workflow := in.workflow(catalog.Step{StepKey: "a"}, catalog.Step{StepKey: "b", DependsOn: []string{"a"}})
	resp, err := bus.Call(t.Context(), in.conn, contract.Submit, caller, contract.SubmitRequest{WorkflowID: workflow, Inputs: json.RawMessage("{}"), TriggerType: contract.TriggerAPI})
	if err != nil {
		t.Fatal(err)
	}
	in.await(resp.Execution.ID, "completed", func(x contract.Execution) bool { return x.Status == contract.ExecutionCompleted })

	// What was accepted in a trace is applied, sent to runners, and told to the world, in it.
	submitted := collector.Await(t, contract.Service, "submit")
	applied := collector.Await(t, contract.Service, "apply submitted")
	if submitted.TraceID != trace || applied.ParentID != submitted.SpanID || applied.Kind != "SPAN_KIND_CONSUMER" || applied.EndUnixNano <= applied.StartUnixNano {
		t.Errorf("it was submitted by %+v and applied by %+v", submitted, applied)
	}
	for _, key := range []string{"a", "b"} {
		sent := collector.AwaitWhere(t, "the dispatch of "+key, func(s observetest.Span) bool {
			return s.Name == "dispatch DATA" && s.Attributes["turbocat.step_key"] == key
		})
		mu.Lock()
		if sent.ParentID != submitted.SpanID || sent.Kind != "SPAN_KIND_PRODUCER" || !traces["00-"+trace+"-"+sent.SpanID+"-01"] || len(traces) != 2 {
			t.Errorf("step %s was sent by %+v; the steps are of %v", key, sent, traces)
		}
		mu.Unlock()
	}
	for _, e := range in.events(resp.Execution.ID) {
		decoded, err := event.Decode(e.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := decoded.Extensions()["traceparent"].(string); observe.TraceID(got) != trace {
			t.Errorf("an event is of %q", got)
		}
	}

	// An input that can not be applied.
	if err := in.conn.NATS().PublishMsg(&nats.Msg{Subject: subject.ExecutionInputRun(3), Header: nats.Header{event.HeaderType: {"nonsense"}}}); err != nil {
		t.Fatal(err)
	}
	value := func(name string) float64 {
		sum := 0.0
		for _, m := range p.Metrics(t)["turbocat_orchestrator_"+name].GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
		return sum
	}
	// Once everything is committed and told.
	settled := map[string]float64{"dead_letters_total": 1, "events_unpublished": 0, "inputs_uncommitted": 0, "partitions_held": subject.Partitions}
	for deadline := time.Now().Add(60 * time.Second); ; <-time.After(20 * time.Millisecond) {
		got := map[string]float64{}
		for name := range settled {
			got[name] = value(name)
		}
		if maps.Equal(got, settled) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it stands at %v, not %v", got, settled)
		}
	}
	for name, want := range map[string]float64{"executions_accepted_total": 1, "executions_ended_total": 1, "steps_sent_total": 2, "events_published_total": float64(len(in.events(resp.Execution.ID)))} {
		if got := value(name); got != want {
			t.Errorf("%s is %v, not %v", name, got, want)
		}
	}
	if n := value("inputs_applied_total"); n < 4 { // submitted, two results, nonsense
		t.Errorf("%v inputs applied", n)
	}
	servicetest.CheckMetrics(t, contract.Service, p.Metrics(t), "executions_live", "partitions_lost_total", "steps_resent_total", "commit_duration_seconds", "commit_inputs", "step_wait_seconds", "inputs_pending", "inputs_unapplied", "timers_overdue_seconds", "schedules_overdue_seconds", "commands_overdue_seconds", "partitions_orphaned", "steps_pending", "steps_ack_pending", "steps_waiting_oldest_seconds", "ready", "dependency_up", "apply_to_commit_seconds", "event_publish_failures_total", "postgres_waits_total", "retention_drops_total", "retention_dropped_bytes_total", "retention_rows_deleted_total", "retention_failures_total", "retention_oldest_timestamp_seconds", "retention_last_run_timestamp_seconds")
	if status, body := p.Get(t, "/health/ready"); !strings.Contains(body, `"name":"jetstream"`) {
		t.Errorf("%d %s", status, body)
	}
}

// TestWhatWaitsIsSeen has a step wait for a runner, and one that has had it and does not answer.
func TestWhatWaitsIsSeen(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	environ := in.environ()
	environ["LOG_LEVEL"] = "info"
	p := servicetest.Start(t, orchestrator.Spec().Unit(), environ)
	await := func(name string, want float64) {
		t.Helper()
		for deadline := time.Now().Add(60 * time.Second); ; <-time.After(20 * time.Millisecond) {
			got := -1.0
			for _, m := range p.Metrics(t)["turbocat_orchestrator_"+name].GetMetric() {
				for _, label := range m.GetLabel() {
					if label.GetValue() == catalog.AgentData {
						got = m.GetGauge().GetValue()
					}
				}
			}
			if got == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is %v, not %v", name, got, want)
			}
		}
	}
	await("steps_pending", 0)
	resp, err := bus.Call(t.Context(), in.conn, contract.Submit, in.owner, contract.SubmitRequest{WorkflowID: in.workflow(catalog.Step{StepKey: "a"}), Inputs: json.RawMessage("{}"), TriggerType: contract.TriggerAPI})
	if err != nil {
		t.Fatal(err)
	}
	await("steps_pending", 1)
	await("runner_slots", 0)
	had, goOn := make(chan struct{}), make(chan struct{})
	in.play(func(a attempt) (string, *runner.StepError) {
		close(had)
		<-goOn
		return echo(a)
	})
	<-had
	await("steps_ack_pending", 1)
	await("steps_pending", 0)
	close(goOn)
	in.await(resp.Execution.ID, "completed", func(x contract.Execution) bool { return x.Status == contract.ExecutionCompleted })
	await("steps_ack_pending", 0)
}
