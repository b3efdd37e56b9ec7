// Command coverage adds up coverage profiles and says how much of each module the tests run.
//
//	go run ./tools/coverage -least 80 -package turbocat.io/services/orchestrator/internal/engine=95 FILE...
//
// Each FILE is what go test -coverprofile or go tool covdata textfmt writes. It exits with 1 when
// the whole, or a package that -package names, is covered by less than asked for, in percent of statements.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "coverage:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("coverage", flag.ContinueOnError)
	least := flags.Float64("least", 0, "what the whole must reach, in `percent`")
	wanted := map[string]float64{}
	flags.Func("package", "what a package must reach, as `path=percent`; may be repeated", func(s string) error {
		path, percent, ok := strings.Cut(s, "=")
		p, err := strconv.ParseFloat(percent, 64)
		if !ok || err != nil {
			return errors.New("write it like turbocat.io/pkg/bus=90")
		}
		wanted[path] = p
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("name at least one coverage profile")
	}
	packages, err := read(flags.Args())
	if err != nil {
		return err
	}
	return report(out, packages, *least, wanted)
}
