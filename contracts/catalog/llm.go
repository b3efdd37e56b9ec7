package catalog

import (
	"encoding/json"
	"regexp"
)

// LLMConfig is the config of an LLM agent. schemas/LLM.json bounds it.
type LLMConfig struct {
	Providers        []LLMProvider      `json:"providers"` // in the order in which they are tried
	Model            string             `json:"model,omitempty"`
	System           string             `json:"system,omitempty"` // a template, as are Prompt and Images
	Prompt           string             `json:"prompt,omitempty"`
	Images           []string           `json:"images,omitempty"` // https or data URLs
	Temperature      *float64           `json:"temperature,omitempty"`
	MaxTokens        int64              `json:"maxTokens,omitempty"` // of one answer; 0 for DefaultLLMTokens
	TopP             *float64           `json:"topP,omitempty"`
	FrequencyPenalty *float64           `json:"frequencyPenalty,omitempty"`
	PresencePenalty  *float64           `json:"presencePenalty,omitempty"`
	Stop             []string           `json:"stop,omitempty"`
	ResponseFormat   *LLMResponseFormat `json:"responseFormat,omitempty"`
	Tools            []LLMTool          `json:"tools,omitempty"`
	MaxTurns         int                `json:"maxTurns,omitempty"` // answers of models in an attempt; 0 for DefaultLLMTurns
	Memory           *LLMMemory         `json:"memory,omitempty"`
	Budgets          []Budget           `json:"budgets,omitempty"`
	TimeoutMs        int64              `json:"timeoutMs,omitempty"` // of the attempt; 0 for DefaultLLMTimeoutMs
}

// LLMProvider is one who is asked for answers.
type LLMProvider struct {
	Type      string `json:"type" enum:"openai,anthropic"`
	Name      string `json:"name,omitempty"`      // "" for the type
	BaseURL   string `json:"baseUrl,omitempty"`   // of a server that speaks as the type does; "" for the official one
	Model     string `json:"model,omitempty"`     // "" for that of the config
	APIKey    string `json:"apiKey,omitempty"`    // {{secrets.NAME}} alone; "" for the operator's, or none beside a BaseURL
	TimeoutMs int64  `json:"timeoutMs,omitempty"` // of one answer; 0 for DefaultLLMAnswerMs
}

// Types of providers.
const (
	ProviderOpenAI    = "openai" // and every server that speaks as it does
	ProviderAnthropic = "anthropic"
)

// LLMResponseFormat is what answers are to be.
type LLMResponseFormat struct {
	Type   string          `json:"type" enum:"text,json"`
	Schema json.RawMessage `json:"schema,omitempty"` // of json
}

// What an answer can be.
const (
	ResponseText = "text"
	ResponseJSON = "json"
)

// LLMTool is an agent that the model may have run, or an MCP server whose tools it may call.
type LLMTool struct {
	AgentID     string          `json:"agentId,omitempty"`
	Name        string          `json:"name,omitempty"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"` // a JSON Schema of the arguments; absent for any object
	MCP         *MCPServer      `json:"mcp,omitempty"`
}

// MCPServer is a server of tools: over streamable HTTP, or a program of the runner's operator. A model knows them by its name, "_" and theirs.
type MCPServer struct {
	Name    string            `json:"name"`
	URL     string            `json:"url,omitempty"`
	Program string            `json:"program,omitempty"` // instead of the URL
	Headers map[string]string `json:"headers,omitempty"` // values are templates
	Allow   []string          `json:"allow,omitempty"`   // names of the tools that may be called; none for all
}

var mcpName = regexp.MustCompile(`^[a-zA-Z0-9-]{1,32}$`)

// IsMCPName tells whether an MCP server, or a program that is one, may be called so.
func IsMCPName(name string) bool { return mcpName.MatchString(name) }

// LLMMemory has the conversation of the agent with a user go on from one step to the next.
type LLMMemory struct {
	Key         string `json:"key"`                   // of the conversation, a template
	MaxMessages int    `json:"maxMessages,omitempty"` // that a model is given; 0 for DefaultLLMMessages
}

// What counts when a config does not say.
const (
	DefaultLLMTokens    = 1024
	DefaultLLMTurns     = 10
	DefaultLLMMessages  = 20
	DefaultLLMTimeoutMs = 300_000
	DefaultLLMAnswerMs  = 120_000
)

// Budget bounds what an LLM agent may use: before each call of a model what it may use at most is reserved, and after it what it
// has used is settled. A budget without a maximum bounds nothing.
type Budget struct {
	Scope      string  `json:"scope" enum:"step,execution,agent,workflow,user"` // whose use counts
	Period     string  `json:"period,omitempty" enum:"day"`                     // a UTC day: of an agent, a workflow, a user
	MaxCostUSD float64 `json:"maxCostUsd,omitempty"`                            // 0 for no bound
	MaxTokens  int64   `json:"maxTokens,omitempty"`                             // input and output together; 0 for no bound
	Action     string  `json:"action,omitempty" enum:"stop,downgrade,approve"`  // once it is used up; "" is stop
	Model      string  `json:"model,omitempty"`                                 // of downgrade: that is used instead
}

// Whose use a Budget bounds.
const (
	BudgetStep      = "step" // an item of a LOOP or a branch of a PARALLEL has its own
	BudgetExecution = "execution"
	BudgetAgent     = "agent"
	BudgetWorkflow  = "workflow"
	BudgetUser      = "user"
)

// What happens to a call that a Budget has no room for.
const (
	BudgetStop      = "stop"      // the step fails
	BudgetDowngrade = "downgrade" // a cheaper model is called instead, which the budget does not bound
	BudgetApprove   = "approve"   // the step waits until somebody decides
)

// MaxBudgets is how many budgets an LLM agent may have.
const MaxBudgets = 20
