package code

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"turbocat.io/contracts/runner"
)

// Bounds of a config.
const (
	minMemoryMb  = 16
	maxMemoryMb  = 1024
	maxTimeoutMs = 3_600_000
	maxSource    = 1 << 20
)

// config is the config of a CODE agent, checked and with its defaults filled in.
type config struct {
	source   string
	file     string // the name that stack traces give the source
	entry    string
	timeout  time.Duration
	memoryMb uint64
}

type wireConfig struct {
	Runtime    string            `json:"runtime"`
	Source     string            `json:"source"`
	Files      map[string]string `json:"files"`
	Entry      string            `json:"entry"`
	TimeoutMs  int64             `json:"timeoutMs"`
	MemoryMb   int64             `json:"memoryMb"`
	AllowHosts []string          `json:"allowHosts"`
}

// parseConfig reads a saved config. Its error tells all problems at once.
func parseConfig(raw json.RawMessage) (config, *runner.StepError) {
	wire := wireConfig{Entry: "handler", TimeoutMs: 30_000, MemoryMb: 128}
	if err := json.Unmarshal(raw, &wire); err != nil {
		return config{}, invalid("config: " + err.Error())
	}
	switch wire.Runtime {
	case "javascript":
	case "typescript", "python":
		return config{}, unsupported(fmt.Sprintf("config.runtime: %s can not be run by this version; use javascript", wire.Runtime))
	default:
		return config{}, invalid(fmt.Sprintf("config.runtime: %q is not known; use javascript", wire.Runtime))
	}
	if len(wire.AllowHosts) > 0 {
		return config{}, unsupported("config.allowHosts: this version can not give code access to the network; leave it empty, and call hosts from an API step")
	}
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	c := config{
		source: wire.Source, file: "handler.js", entry: wire.Entry,
		timeout:  time.Duration(wire.TimeoutMs) * time.Millisecond,
		memoryMb: uint64(wire.MemoryMb),
	}
	switch {
	case wire.Source != "" && len(wire.Files) > 0:
		problem("config.files: stands beside config.source; give one of them")
	case len(wire.Files) > 1:
		problem("config.files: has %d files, and this version runs one; put the code in one file", len(wire.Files))
	case len(wire.Files) == 1:
		for name, text := range wire.Files {
			c.file, c.source = name, text
		}
	}
	switch {
	case strings.TrimSpace(c.source) == "" && len(problems) == 0:
		problem("config.source: is empty; write function %s(input, context)", c.entry)
	case len(c.source) > maxSource:
		problem("config.source: has %d bytes, more than %d; shorten it", len(c.source), maxSource)
	}
	if wire.Entry == "" {
		problem("config.entry: is empty; name the function to call, or leave it out for handler")
	}
	if wire.TimeoutMs < 1 || wire.TimeoutMs > maxTimeoutMs {
		problem("config.timeoutMs: %d is out of bounds; use 1 to %d", wire.TimeoutMs, maxTimeoutMs)
	}
	if wire.MemoryMb < minMemoryMb || wire.MemoryMb > maxMemoryMb {
		problem("config.memoryMb: %d is out of bounds; use %d to %d", wire.MemoryMb, minMemoryMb, maxMemoryMb)
	}
	if len(problems) > 0 {
		return config{}, invalid(strings.Join(problems, "; "))
	}
	return c, nil
}

func invalid(message string) *runner.StepError {
	return &runner.StepError{Code: runner.CodeInvalidConfig, Message: message}
}

func unsupported(message string) *runner.StepError {
	return &runner.StepError{Code: runner.CodeUnsupported, Message: message}
}
