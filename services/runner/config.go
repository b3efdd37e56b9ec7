package runner

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/subject"
)

// allowVariable is what AllowAddresses are read from.
const allowVariable = "TURBOCAT_RUNNER_ALLOW_ADDRESSES"

// Config of the runner.
type Config struct {
	// Labels that this runner offers: it takes the steps of agents that require some of them, and no others.
	Labels []string `env:"TURBOCAT_RUNNER_LABELS"`
	// Concurrency bounds the attempts of one agent type that run at once; 0 chooses by the processors.
	Concurrency int `env:"TURBOCAT_RUNNER_CONCURRENCY"`
	// APIConcurrency, DataConcurrency and LLMConcurrency are that of one type; 0 is Concurrency.
	APIConcurrency  int `env:"TURBOCAT_RUNNER_API_CONCURRENCY"`
	DataConcurrency int `env:"TURBOCAT_RUNNER_DATA_CONCURRENCY"`
	LLMConcurrency  int `env:"TURBOCAT_RUNNER_LLM_CONCURRENCY"`
	// CodeConcurrency is the bound of CODE, whose attempts are processes; 0 chooses by the processors.
	CodeConcurrency int `env:"TURBOCAT_RUNNER_CODE_CONCURRENCY"`
	// CodeMemoryMb is the most that an agent's memoryMb may be here; 0 for what any may have.
	CodeMemoryMb int64 `env:"TURBOCAT_RUNNER_CODE_MEMORY_MB"`
	// CodeNice is how far everything else on the host goes before the processes of CODE.
	CodeNice int `env:"TURBOCAT_RUNNER_CODE_NICE" envDefault:"10"`
	// LLMPrices is a file with prices of models, over those that Turbocat knows; "" for none.
	LLMPrices string `env:"TURBOCAT_LLM_PRICES"`
	// MCPPrograms is a file with programs that are MCP servers over their standard input and output; "" for none.
	MCPPrograms string `env:"TURBOCAT_RUNNER_MCP_PROGRAMS"`
	// OpenAIKey and AnthropicKey are for providers of LLM agents that have no key and no address of their own.
	OpenAIKey    string `env:"OPENAI_API_KEY"`
	AnthropicKey string `env:"ANTHROPIC_API_KEY"`
	// OpenAIURL and AnthropicURL are instead of the providers' own addresses, for a proxy that the operator trusts with the keys.
	OpenAIURL    string `env:"TURBOCAT_OPENAI_URL"`
	AnthropicURL string `env:"TURBOCAT_ANTHROPIC_URL"`
	// Python is the interpreter that CODE agents of that runtime are run by; "" for the one at a usual place.
	Python string `env:"TURBOCAT_RUNNER_PYTHON"`
	// AllowAddresses are private networks that API agents and the code of CODE agents may reach all the same, as CIDRs.
	AllowAddresses []netip.Prefix `env:"TURBOCAT_RUNNER_ALLOW_ADDRESSES"`
	// DrainMs is how long running attempts may go on when the runner is stopped.
	DrainMs int64 `env:"TURBOCAT_RUNNER_DRAIN_MS" envDefault:"10000"`
}

const maxConcurrency = 1024

// complete fills in what was left to choose and refuses what can not be.
func (c Config) complete() (Config, error) {
	processors := runtime.GOMAXPROCS(0)
	if len(c.Labels) == 0 {
		c.Labels = []string{subject.DefaultPool}
	}
	if c.Concurrency == 0 {
		c.Concurrency = max(64, 16*processors) // most of these attempts wait for somebody else
	}
	for _, n := range []*int{&c.APIConcurrency, &c.DataConcurrency, &c.LLMConcurrency} {
		if *n == 0 {
			*n = c.Concurrency
		}
	}
	if c.CodeConcurrency == 0 {
		c.CodeConcurrency = 2 * processors
	}
	var faults []error
	if _, ok := catalog.PoolOf(c.Labels...); !ok {
		faults = append(faults, fmt.Errorf("TURBOCAT_RUNNER_LABELS is %q; write up to %d labels with commas between, each of up to 32 letters, digits, - and _", strings.Join(c.Labels, ","), catalog.MaxLabels))
	}
	for name, n := range map[string]int{
		"TURBOCAT_RUNNER_CONCURRENCY": c.Concurrency, "TURBOCAT_RUNNER_CODE_CONCURRENCY": c.CodeConcurrency, "TURBOCAT_RUNNER_API_CONCURRENCY": c.APIConcurrency,
		"TURBOCAT_RUNNER_DATA_CONCURRENCY": c.DataConcurrency, "TURBOCAT_RUNNER_LLM_CONCURRENCY": c.LLMConcurrency,
	} {
		if n < 1 || n > maxConcurrency {
			faults = append(faults, fmt.Errorf("%s is %d; give a number from 1 to %d", name, n, maxConcurrency))
		}
	}
	for name, text := range map[string]string{"TURBOCAT_OPENAI_URL": c.OpenAIURL, "TURBOCAT_ANTHROPIC_URL": c.AnthropicURL} {
		if u, err := url.Parse(text); text != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			faults = append(faults, fmt.Errorf("%s is %q; write it like https://llm.example.com/v1", name, text))
		}
	}
	if c.CodeNice < 0 || c.CodeNice > 19 {
		faults = append(faults, fmt.Errorf("TURBOCAT_RUNNER_CODE_NICE is %d; give a number from 0 to 19", c.CodeNice))
	}
	if c.CodeMemoryMb != 0 && c.CodeMemoryMb < 16 {
		faults = append(faults, fmt.Errorf("TURBOCAT_RUNNER_CODE_MEMORY_MB is %d; give at least 16, or leave it out", c.CodeMemoryMb))
	}
	if c.DrainMs < 0 {
		faults = append(faults, fmt.Errorf("TURBOCAT_RUNNER_DRAIN_MS is %d; give 0 or more", c.DrainMs))
	}
	return c, errors.Join(faults...)
}

func (c Config) drain() time.Duration { return time.Duration(c.DrainMs) * time.Millisecond }
