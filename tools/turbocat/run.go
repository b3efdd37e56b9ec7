//go:build unix

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/allinone"
	"turbocat.io/tools/internal/client"
	"turbocat.io/tools/internal/datadir"
	"turbocat.io/tools/internal/run"
	"turbocat.io/tools/internal/seed"
	"turbocat.io/tools/internal/workflowfile"
)

// interruptedCode is the exit code of a run that Ctrl-C ended.
const interruptedCode = 130

func newRun(environ map[string]string) *cobra.Command {
	var inputs []string
	var address string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "run FILE.yaml",
		Short: "Run a workflow of a file on a running Turbocat",
		Long: `Run a workflow of a file on a running Turbocat.

The file holds the fields of a workflow, and its agents by name; a step names its agent. Agents and workflow
of those names are made, or changed to be as the file says. Progress goes to stderr, the result to stdout.

It logs in as TURBOCAT_EMAIL with TURBOCAT_PASSWORD, else, on this machine, as the demo user of the data folder.

Exit codes: 0 completed, 1 failed, 130 interrupted, which cancels the execution.`,
		Example: `  turbocat run workflow.yaml
  turbocat run workflow.yaml --input @data.json             the inputs, a JSON object
  turbocat run workflow.yaml --input text=@book.txt         one input, the text of a file
  turbocat run workflow.yaml --input n=20 --input who=Ann   inputs as JSON, else as text`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one file to run, like: turbocat run workflow.yaml")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			file, given, err := readRun(args[0], inputs)
			if err != nil {
				return err
			}
			return against(cmd, environ, address, asJSON, func(ctx context.Context, api *client.Client, p *run.Progress) (orchestrator.Execution, error) {
				return run.Run(ctx, api, file, given, p)
			})
		},
	}
	flags(cmd, environ, &inputs, &address, &asJSON)
	return cmd
}

func flags(cmd *cobra.Command, environ map[string]string, inputs *[]string, address *string, asJSON *bool) {
	cmd.Flags().StringArrayVarP(inputs, "input", "i", nil, "@file.json, name=@file or name=value; may be repeated")
	connectionFlags(cmd, environ, address, asJSON)
}

func connectionFlags(cmd *cobra.Command, environ map[string]string, address *string, asJSON *bool) {
	addressFlag(cmd, environ, address)
	cmd.Flags().BoolVar(asJSON, "json", false, "print the whole execution as JSON, and no progress")
}

func addressFlag(cmd *cobra.Command, environ map[string]string, address *string) {
	cmd.Flags().StringVar(address, "url", "http://127.0.0.1:"+cmp.Or(environ["PORT"], "3001"), "address of Turbocat")
}

// loggedIn has something done on a Turbocat by who the environment says.
func loggedIn(cmd *cobra.Command, environ map[string]string, address string, do func(*client.Client) error) error {
	email, password, err := credentials(environ, address)
	if err != nil {
		return err
	}
	api, err := client.Login(cmd.Context(), address, email, password)
	if err != nil {
		return err
	}
	defer api.Close()
	return do(api)
}

// against has an execution run on a Turbocat, and prints what came of it.
func against(cmd *cobra.Command, environ map[string]string, address string, asJSON bool, begin func(context.Context, *client.Client, *run.Progress) (orchestrator.Execution, error)) error {
	return loggedIn(cmd, environ, address, func(api *client.Client) error {
		return finish(cmd, api, asJSON, begin)
	})
}

// finish has an execution begin and prints what came of it.
func finish(cmd *cobra.Command, api *client.Client, asJSON bool, begin func(context.Context, *client.Client, *run.Progress) (orchestrator.Execution, error)) error {
	ctx := cmd.Context()
	progress := &run.Progress{Out: cmd.ErrOrStderr(), Live: isTerminal(os.Stderr)}
	if asJSON {
		progress = &run.Progress{Out: io.Discard}
	}
	execution, err := begin(ctx, api, progress)
	var interrupted *run.Interrupted
	switch {
	case errors.As(err, &interrupted):
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "turbocat:", interrupted)
		return exit(interruptedCode)
	case err != nil && ctx.Err() != nil: // before it began
		return exit(interruptedCode)
	case err != nil:
		return err
	case asJSON:
		return printJSON(cmd.OutOrStdout(), execution)
	case execution.Status != orchestrator.ExecutionCompleted:
		return errors.New(run.Failure(ctx, api, execution))
	}
	if tail := run.Log(ctx, api, execution, catalog.TestStep); tail != "" && execution.WorkflowVersion == 0 {
		_, _ = fmt.Fprint(cmd.ErrOrStderr(), tail)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), run.Pretty(execution.Outputs))
	return err
}

// readRun reads what is to be run.
func readRun(name string, inputs []string) (*workflowfile.File, json.RawMessage, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, nil, fmt.Errorf("%s can not be read (%w); check the name", name, cause(err))
	}
	file, err := workflowfile.Parse(name, raw)
	if err != nil {
		return nil, nil, err
	}
	given, err := gatherInputs(inputs)
	return file, given, err
}

// printJSON prints an execution on one line; one that is not COMPLETED tells why itself.
func printJSON(out io.Writer, x orchestrator.Execution) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(x); err != nil {
		return err
	}
	if x.Status != orchestrator.ExecutionCompleted {
		return exit(1)
	}
	return nil
}

// gatherInputs makes the inputs of what the flags say; of a name that is given twice the last one holds.
func gatherInputs(flags []string) (json.RawMessage, error) {
	inputs := map[string]json.RawMessage{}
	for _, flag := range flags {
		name, value, named := strings.Cut(flag, "=")
		if whole, ok := strings.CutPrefix(flag, "@"); ok {
			raw, err := readInput(whole)
			if err != nil {
				return nil, err
			}
			var object map[string]json.RawMessage
			if err := json.Unmarshal(raw, &object); err != nil || object == nil {
				return nil, fmt.Errorf("%s is no JSON object; give one, or a text with --input name=@%s", whole, whole)
			}
			for name, value := range object {
				inputs[name] = value
			}
			continue
		}
		if !named || name == "" {
			return nil, fmt.Errorf("--input %q is not understood; write @file.json, name=@file or name=value", flag)
		}
		if file, ok := strings.CutPrefix(value, "@"); ok {
			raw, err := readInput(file)
			if err != nil {
				return nil, err
			}
			value = string(raw)
		} else if json.Valid([]byte(value)) {
			inputs[name] = json.RawMessage(value)
			continue
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		inputs[name] = text
	}
	return json.Marshal(inputs)
}

func readInput(file string) ([]byte, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s can not be read (%w); check the name", file, cause(err))
	}
	if !utf8.Valid(raw) {
		return nil, fmt.Errorf("%s is no UTF-8 text; convert it first", file)
	}
	return bytes.TrimPrefix(raw, []byte("\ufeff")), nil
}

// cause leaves the file out of an error that names it already.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// credentials are those of the environment, else the demo user's. Those of this machine's data folder are
// good for this machine alone.
func credentials(environ map[string]string, address string) (email, password string, err error) {
	email, password = environ["TURBOCAT_EMAIL"], environ["TURBOCAT_PASSWORD"]
	if email != "" && password != "" {
		return email, password, nil
	}
	const remedy = "set TURBOCAT_EMAIL and TURBOCAT_PASSWORD to log in"
	if email != "" || password != "" {
		return "", "", errors.New("of TURBOCAT_EMAIL and TURBOCAT_PASSWORD only one is set; " + remedy)
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback() {
		return "", "", fmt.Errorf("no account for %s is known; %s", address, remedy)
	}
	dir, err := datadir.Path(environ)
	if err != nil {
		return "", "", err
	}
	password, err = datadir.FindPassword(dir, allinone.DemoPassword)
	if err != nil {
		return "", "", fmt.Errorf("the demo account of the data folder %s is not there (%w); start Turbocat with `make run`, name its folder with TURBOCAT_DATA_DIR, or %s", dir, cause(err), remedy)
	}
	return seed.DemoEmail, password, nil
}
