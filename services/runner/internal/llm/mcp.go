package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/guard"
	"turbocat.io/services/runner/internal/executor"
	"turbocat.io/services/runner/internal/jail"
)

const (
	maxServerTools = 128
	maxDescription = 4000 // of a tool, in bytes
	maxParameters  = 64 << 10
)

var toolName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`) // what both providers take

// server is an MCP server: over streamable HTTP, or a program in a jail.
type server struct {
	name, url string
	headers   map[string]string
	program   string // instead of url
	child     *jail.Child
	allow     []string
	session   *mcp.ClientSession
}

// open asks the server what it has. A *runner.StepError says that it can not be here.
func (s *server) open(ctx context.Context, cfg *Config, log executor.Logger) ([]tool, error) {
	transport, err := s.transport(cfg)
	if err != nil {
		return nil, err
	}
	if s.session, err = mcp.NewClient(&mcp.Implementation{Name: "turbocat", Version: "1"}, nil).Connect(ctx, transport, nil); err != nil {
		return nil, s.reason(err)
	}
	var tools []tool
	for t, err := range s.session.Tools(ctx, nil) {
		if err != nil {
			return nil, s.reason(err)
		}
		if len(s.allow) > 0 && !slices.Contains(s.allow, t.Name) {
			continue
		}
		if len(tools) == maxServerTools {
			log("WARN", "engine", fmt.Sprintf("the MCP server %s has more than %d tools; name those that are needed in allow", s.name, maxServerTools))
			break
		}
		made, problem := s.tool(t)
		if problem != "" {
			log("WARN", "engine", fmt.Sprintf("the tool %.64q of the MCP server %s is left out: %s", t.Name, s.name, problem))
			continue
		}
		tools = append(tools, made)
	}
	return tools, nil
}

func (s *server) transport(cfg *Config) (mcp.Transport, error) {
	if s.program != "" {
		p, has := cfg.Programs[s.program]
		if !has {
			return nil, &runner.StepError{
				Code: runner.CodeNoSandbox, Retryable: true,
				Message: fmt.Sprintf("this runner has no program %q; its operator names programs in the file of TURBOCAT_RUNNER_MCP_PROGRAMS", s.program),
			}
		}
		var err error
		if s.child, err = cfg.Host.StartProgram("/proc/self/exe", p); err != nil {
			return nil, err
		}
		return &mcp.IOTransport{Reader: s.child.Result, Writer: s.child.Job, MaxLineLength: runner.MaxOutput}, nil
	}
	endpoint, err := url.Parse(s.url)
	if err != nil {
		return nil, err
	}
	sending := *cfg.Client
	sending.Transport = &headed{next: cfg.Client.Transport, host: endpoint.Host, scheme: endpoint.Scheme, headers: s.headers}
	return &mcp.StreamableClientTransport{
		Endpoint: s.url, HTTPClient: &sending, MaxRetries: -1, DisableStandaloneSSE: true, MaxEventSize: runner.MaxOutput,
	}, nil
}

// reason tells why a server can not be used. A program that has ended is asked no more, and says why.
func (s *server) reason(err error) error {
	if s.child == nil {
		return reasonOfMCP(err)
	}
	exit := s.child.Close()
	return fmt.Errorf("%w (%s): %s", err, exit.Reason, strings.ToValidUTF8(strings.TrimSpace(exit.Stderr), "\uFFFD"))
}

func (s *server) tool(t *mcp.Tool) (tool, string) {
	parameters, err := json.Marshal(t.InputSchema)
	name := s.name + "_" + t.Name
	switch {
	case !toolName.MatchString(name):
		return tool{}, "its name has other characters than letters, digits, - and _, or is too long"
	case err != nil || !isObject(parameters):
		return tool{}, "the schema of its input is no JSON object"
	case len(parameters) > maxParameters:
		return tool{}, fmt.Sprintf("the schema of its input has %d bytes; at most %d are taken", len(parameters), maxParameters)
	}
	description := t.Description
	if len(description) > maxDescription {
		description = strings.ToValidUTF8(description[:maxDescription], "")
	}
	return tool{
		offer: offer{name: name, description: description, parameters: parameters}, kind: orchestrator.CallOfMCP,
		run: func(ctx context.Context, _ string, arguments json.RawMessage) (json.RawMessage, error) {
			return s.call(ctx, t.Name, arguments)
		},
	}, ""
}

// call runs a tool of the server. Its output is what the server has in its structured form, else its text.
func (s *server) call(ctx context.Context, name string, arguments json.RawMessage) (json.RawMessage, error) {
	got, err := s.session.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: arguments})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, &runner.StepError{Code: runner.CodeHTTPError, Message: reasonOfMCP(err).Error()}
	}
	var text strings.Builder
	for _, content := range got.Content {
		if t, ok := content.(*mcp.TextContent); ok {
			text.WriteString(t.Text)
			text.WriteByte('\n')
		} else {
			fmt.Fprintf(&text, "[%T is left out]\n", content)
		}
	}
	said := strings.TrimSuffix(text.String(), "\n")
	if got.IsError {
		return nil, &runner.StepError{Code: runner.CodeError, Message: said}
	}
	if got.StructuredContent != nil {
		return json.Marshal(got.StructuredContent)
	}
	return json.Marshal(said)
}

func (s *server) close() {
	if s.child != nil {
		defer s.child.Close()
		s.child.Kill() // else the session would wait for what is asked
	}
	if s.session != nil {
		_ = s.session.Close() // it is asked for nothing any more
		s.session = nil
	}
}

// reasonOfMCP gives the refusal of an address as it is, and anything else without the URL.
func reasonOfMCP(err error) error {
	var refusedAddress *guard.RefusedError
	if errors.As(err, &refusedAddress) {
		return refusedAddress
	}
	return errors.New(guard.Reason(err))
}

// headed adds headers to the requests to one host, and to no other that it redirects to.
type headed struct {
	next         http.RoundTripper
	scheme, host string
	headers      map[string]string
}

func (h *headed) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == h.host && req.URL.Scheme == h.scheme {
		req = req.Clone(req.Context())
		for name, value := range h.headers {
			req.Header.Set(name, value)
		}
	}
	return h.next.RoundTrip(req)
}
