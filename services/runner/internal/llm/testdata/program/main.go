// An MCP server over standard input and output: its tools try what they should not be able to do.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type ask struct {
	Text string `json:"text"`
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "fail" {
		fmt.Fprintln(os.Stderr, "there is no dictionary")
		os.Exit(3)
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	add := func(name string, run func(text string) (string, error)) {
		mcp.AddTool(server, &mcp.Tool{Name: name, Description: name}, func(_ context.Context, _ *mcp.CallToolRequest, in ask) (*mcp.CallToolResult, any, error) {
			fmt.Fprintln(os.Stderr, strings.Repeat("x", 64<<10)) // more than is kept
			said, err := run(in.Text)
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: said}}}, nil, err
		})
	}
	add("upper", func(text string) (string, error) { return strings.ToUpper(text), nil })
	add("read", func(text string) (string, error) {
		raw, err := os.ReadFile(text)
		return string(raw), err
	})
	add("write", func(text string) (string, error) { return "written", os.WriteFile(text, []byte("x"), 0o600) })
	add("dial", func(text string) (string, error) {
		_, err := net.DialTimeout("tcp", text, time.Second)
		return "connected", err
	})
	add("run", func(text string) (string, error) {
		_, err := syscall.ForkExec(text, []string{text}, nil)
		return "ran", err
	})
	add("environment", func(string) (string, error) { return strings.Join(os.Environ(), " "), nil })
	add("hoard", func(string) (string, error) {
		var all [][]byte
		for range 1024 {
			all = append(all, []byte(strings.Repeat("x", 1<<20)))
		}
		return fmt.Sprint(len(all)), nil
	})
	add("flood", func(string) (string, error) { return strings.Repeat("x", 70<<20), nil })
	add("hang", func(string) (string, error) { select {} })
	if err := server.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
