package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/schema"
	"turbocat.io/services/runner/internal/executor"
)

const (
	// maxUses bounds the tools that one answer may have run, and usesAtOnce those that run side by side.
	maxUses    = 64
	usesAtOnce = 8
	// maxResult bounds what a model is told of a tool's output, in bytes.
	maxResult = 128 << 10
)

// tool is what a model may have run.
type tool struct {
	offer
	kind   string // orchestrator.CallOfAgent or CallOfMCP
	schema *schema.Schema
	// run gives the output, or a *runner.StepError when the tool fails; any other error ends the attempt.
	run func(ctx context.Context, callID string, arguments json.RawMessage) (json.RawMessage, error)
}

// toolbox is what the models of an attempt may have run.
type toolbox struct {
	agents  []catalog.LLMTool
	servers []server
	offers  []offer
	tools   map[string]tool
}

// resolve reads the tools of a config.
func (b *toolbox) resolve(tools []catalog.LLMTool, f *fields) {
	for i, t := range tools {
		at := fmt.Sprintf("tools[%d]", i)
		switch {
		case t.MCP != nil:
			s := server{name: t.MCP.Name, url: t.MCP.URL, program: t.MCP.Program, allow: t.MCP.Allow, headers: map[string]string{}}
			for name, value := range t.MCP.Headers {
				s.headers[name] = f.secret(at+".mcp.headers."+name, value)
			}
			b.servers = append(b.servers, s)
		case t.AgentID == "" || t.Name == "":
			f.faults.Add(at, "is neither an agent (agentId, name, description) nor an MCP server (mcp)")
		default:
			b.agents = append(b.agents, t)
		}
	}
}

// equip opens the toolbox: it asks the MCP servers what they have.
func (a *attempt) equip(ctx context.Context) error {
	b := &a.tools
	b.tools = map[string]tool{}
	for _, t := range b.agents {
		parameters, err := ofObject(t.Parameters)
		if err != nil {
			return &runner.StepError{Code: runner.CodeInvalidConfig, Message: "tools: the parameters of " + t.Name + " are no JSON Schema of an object"}
		}
		b.add(a.task.Log, tool{
			offer: offer{name: t.Name, description: t.Description, parameters: parameters}, kind: orchestrator.CallOfAgent,
			run: func(ctx context.Context, callID string, arguments json.RawMessage) (json.RawMessage, error) {
				return a.task.Calls.RunAgent(ctx, callID, t.AgentID, arguments)
			},
		})
	}
	for i := range b.servers {
		s := &b.servers[i]
		tools, err := s.open(ctx, &a.executor.cfg, a.task.Log)
		if err != nil {
			b.close()
			var missing *runner.StepError
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.As(err, &missing):
				return missing
			}
			return &runner.StepError{Code: runner.CodeHTTPError, Message: fmt.Sprintf("the MCP server %s can not be used: %v", s.name, err), Retryable: true}
		}
		for _, t := range tools {
			b.add(a.task.Log, t)
		}
	}
	return nil
}

// ofObject gives a schema that says that it is one of an object, as all providers want it.
func ofObject(schema json.RawMessage) (json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	if len(schema) > 0 {
		if err := json.Unmarshal(schema, &fields); err != nil {
			return nil, err
		}
	}
	if fields == nil || len(fields["type"]) > 0 {
		return schema, nil
	}
	fields["type"] = json.RawMessage(`"object"`)
	return json.Marshal(fields)
}

// add has models told of a tool.
func (b *toolbox) add(log executor.Logger, t tool) {
	if _, twice := b.tools[t.name]; twice {
		log("WARN", "engine", "there are two tools of the name "+t.name+"; the first one counts")
		return
	}
	var err error
	if t.schema, err = schema.Compile(t.parameters); err != nil {
		log("WARN", "engine", fmt.Sprintf("the arguments of the tool %s are not checked, for their schema can not be used: %v", t.name, err))
	}
	b.tools[t.name], b.offers = t, append(b.offers, t.offer)
}

func (b *toolbox) close() {
	for i := range b.servers {
		b.servers[i].close()
	}
}

// names lists what there is.
func (b *toolbox) names() string {
	names := make([]string, len(b.offers))
	for i, o := range b.offers {
		names[i] = o.name
	}
	if len(names) == 0 {
		return "there are no tools"
	}
	return "there are: " + strings.Join(names, ", ")
}

// useAll runs the tools that an answer wants, and gives their results in that order.
func (a *attempt) useAll(ctx context.Context, uses []use) ([]result, error) {
	results, ran := make([]result, len(uses)), make([]*ToolCall, len(uses))
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(usesAtOnce)
	for i, u := range uses {
		t, problem, err := a.choose(ctx, i, u)
		if err != nil {
			return nil, errors.Join(group.Wait(), err)
		}
		if problem != "" {
			a.task.Log("WARN", "engine", fmt.Sprintf("the model wanted a tool that was not run: %s", problem))
			results[i] = result{ID: u.ID, Text: problem, Failed: true}
			continue
		}
		a.calls++
		n := a.calls
		group.Go(func() error {
			var err error
			results[i], ran[i], err = a.use(within, n, t, u)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, call := range ran {
		if call != nil {
			a.out.ToolCalls = append(a.out.ToolCalls, *call)
		}
	}
	return results, nil
}

// choose finds the tool that is to be run, or tells the model why there is none. The error is ctx's.
func (a *attempt) choose(ctx context.Context, i int, u use) (t tool, problem string, err error) {
	t, listed := a.tools.tools[u.Name]
	switch {
	case i >= maxUses:
		return t, fmt.Sprintf("not run: at most %d tools are run for one answer; ask for fewer", maxUses), nil
	case !listed:
		return t, fmt.Sprintf("there is no tool of the name %.64q; %s", u.Name, a.tools.names()), nil
	case !isObject(json.RawMessage(u.Arguments)):
		return t, "the arguments of " + t.name + " are no JSON object; give one", nil
	}
	faults, err := misfits(ctx, t.schema, "arguments", json.RawMessage(u.Arguments))
	if faults != "" {
		problem = "the arguments of " + t.name + " do not fit its parameters: " + faults
	}
	return t, problem, err
}

// use runs one tool and has it recorded.
func (a *attempt) use(ctx context.Context, n int, t tool, u use) (result, *ToolCall, error) {
	arguments := json.RawMessage(u.Arguments)
	begun, err := a.task.Calls.Begin(ctx, executor.BeginCall{N: n, Kind: t.kind, Name: t.name, Input: arguments})
	if err != nil {
		return result{}, nil, err
	}
	if !a.task.Ours() {
		return result{}, nil, executor.ErrNotOurs
	}
	output, err := t.run(ctx, begun.ID, arguments)
	ended, out := executor.EndedCall{ID: begun.ID, Output: output}, result{ID: u.ID}
	var failed *runner.StepError
	switch {
	case errors.As(err, &failed):
		ended.Output, ended.Error = nil, &orchestrator.CallError{Code: failed.Code, Message: failed.Message}
		out.Text, out.Failed = failed.Code+": "+failed.Message, true
	case err != nil:
		ended.Output, ended.Error = nil, &orchestrator.CallError{Code: runner.CodeCancelled, Message: "the attempt ended before the tool did"}
		return result{}, nil, errors.Join(err, a.task.Calls.End(ctx, ended))
	default:
		out.Text = string(output)
	}
	if len(out.Text) > maxResult {
		out.Text = strings.ToValidUTF8(out.Text[:maxResult], "") + fmt.Sprintf("... (cut: %d bytes in all)", len(out.Text))
	}
	return out, &ToolCall{Name: t.name, CallID: begun.ID, Failed: out.Failed}, a.task.Calls.End(ctx, ended)
}
