package orchestrator_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/catalog"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
)

// TestStepsGoToThePoolOfTheirAgent has runners of two pools, of which the second begins when a step waits for it, and then loses the
// stream, so that the step is sent again.
func TestStepsGoToThePoolOfTheirAgent(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	var mu sync.Mutex
	ran := map[string]string{} // the pool that a step came to
	note := func(pool string) func(a attempt) (string, *runner.StepError) {
		return func(a attempt) (string, *runner.StepError) {
			mu.Lock()
			defer mu.Unlock()
			ran[a.step] = pool
			return echo(a)
		}
	}
	in.beat(catalog.AgentData, 2)
	in.play(note(subject.DefaultPool))
	id := in.submit(in.pooled(catalog.Step{StepKey: "anywhere"}, catalog.Step{StepKey: "there", DependsOn: []string{"anywhere"}}), `{}`).ID
	got := in.reason(id, "there", "no runner labelled gpu is alive")
	if got.Remedy != "start a runner with TURBOCAT_RUNNER_LABELS=gpu, or require other labels in the agent's config.runner" {
		t.Errorf("the remedy is %q", got.Remedy)
	}
	if n := in.inSteps("gpu"); n != 0 {
		t.Errorf("%d steps are sent to a pool that nobody runs", n)
	}
	in.beatPool("gpu", catalog.AgentLLM, 1)
	in.reason(id, "there", "of 1 runners labelled gpu that are alive none takes DATA agents")
	in.beatPool("gpu", catalog.AgentData, 1)
	for deadline := time.Now().Add(60 * time.Second); in.inSteps("gpu") == 0; wait(t.Context(), 20*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the step is not sent to the pool")
		}
	}
	js, err := jetstream.New(in.conn.NATS())
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), subject.StepsStream); err != nil {
		t.Fatal(err)
	}
	in.playPool("gpu", note("gpu"))
	in.await(id, "done", terminal)
	mu.Lock()
	defer mu.Unlock()
	if fmt.Sprint(ran) != "map[anywhere:default there:gpu]" {
		t.Errorf("the steps ran in %v", ran)
	}
}

// pooled makes a workflow whose last step is of an agent of the pool gpu.
func (in *installation) pooled(steps ...catalog.Step) string {
	for i := range steps {
		steps[i].Inputs = json.RawMessage(`{}`)
	}
	id := in.workflow(steps...)
	in.mu.Lock()
	defer in.mu.Unlock()
	def := in.workflows[id]
	there := def.Agents[0]
	there.ID, there.Config = uuid.NewString(), json.RawMessage(`{"runner":"gpu"}`)
	def.Agents = append(def.Agents, there)
	def.Steps[len(steps)-1].AgentID = &there.ID
	in.workflows[id] = def
	return id
}

// inSteps is how many ready DATA steps there are for a pool.
func (in *installation) inSteps(pool string) (n uint64) {
	in.t.Helper()
	js, err := jetstream.New(in.conn.NATS())
	if err != nil {
		in.t.Fatal(err)
	}
	stream, err := js.Stream(in.t.Context(), subject.StepsStream)
	if err != nil {
		return 0
	}
	info, err := stream.Info(in.t.Context(), jetstream.WithSubjectFilter(subject.StepsOf(pool, catalog.AgentData)))
	if err != nil {
		in.t.Fatal(err)
	}
	for _, of := range info.State.Subjects {
		n += of
	}
	return n
}

// reason awaits that a step waits for a runner for a reason.
func (in *installation) reason(id, step, text string) contract.StepExplanation {
	in.t.Helper()
	var got contract.Explanation
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); wait(in.t.Context(), 20*time.Millisecond) {
		got = ask(in, contract.Explain, contract.IDRequest{ID: id})
		for _, s := range got.Steps {
			if s.StepKey == step && s.Reason == "RUNNER" && strings.HasSuffix(s.Message, text) {
				return s
			}
		}
	}
	in.t.Fatalf("%s is explained as %+v, want %q", step, got, text)
	return contract.StepExplanation{}
}
