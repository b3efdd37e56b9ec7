//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"turbocat.io/tools/internal/allinone"
	"turbocat.io/tools/internal/natsd"
)

func newServe(environ map[string]string) *cobra.Command {
	var names []string
	for _, u := range units() {
		names = append(names, u.Name)
	}
	cmd := &cobra.Command{
		Use:   "serve SERVICE",
		Short: "Run one service, or the NATS server, configured by the environment",
		Long: "Run one service, configured by the environment, until SIGINT or SIGTERM.\n\nServices: " + strings.Join(names, ", ") + `.
NATS_URL is needed by all, DATABASE_URL by those with a schema, which "turbocat migrate" makes.

Once the service works it prints {"ready":"SERVICE"} on stdout; its log goes to stderr.`,
		Example: `  NATS_URL=nats://user:password@127.0.0.1:4222 turbocat serve runner
  NATS_URL=nats://user:password@127.0.0.1:4222 turbocat serve nats`,
		ValidArgs: names,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("name one service to serve: %s", strings.Join(names, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, u := range units() {
				if u.Name == args[0] {
					nameProcess()
					return u.Run(cmd.Context(), environ, os.Stderr, func() { tellReady(cmd.OutOrStdout(), allinone.Ready{Ready: u.Name}) })
				}
			}
			return fmt.Errorf("there is no service %q; the services are %s", args[0], strings.Join(names, ", "))
		},
	}
	cmd.AddCommand(newServeNATS(environ))
	return cmd
}

// newServeNATS runs the embedded NATS server as a process of its own.
func newServeNATS(environ map[string]string) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "nats",
		Short: "Run the NATS server that dev embeds",
		Long: `Run the NATS server that dev embeds, with JetStream, on loopback, until SIGINT or SIGTERM.

NATS_URL gives its port, and the user and password that it asks its clients for: they are given in the
environment because everybody may read a command line. It chooses the port itself when that is 0.

Once it works it prints {"ready":"nats","address":"127.0.0.1:PORT"} on stdout; its log goes to stderr.`,
		Example: `  NATS_URL=nats://turbocat:secret@127.0.0.1:4222 turbocat serve nats --dir /var/lib/turbocat/nats`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := natsOptions(environ["NATS_URL"])
			if err != nil {
				return err
			}
			nameProcess()
			o.Dir, o.Log = dir, zerolog.New(os.Stderr).With().Timestamp().Logger()
			server, err := natsd.Start(cmd.Context(), o)
			if err != nil {
				return err
			}
			defer server.Stop()
			tellReady(cmd.OutOrStdout(), allinone.Ready{Ready: cmd.Name(), Address: server.Address()})
			<-cmd.Context().Done()
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "nats", "folder of the streams")
	return cmd
}

// natsOptions reads from an address what a server at it needs.
func natsOptions(address string) (natsd.Options, error) {
	fault := errors.New("NATS_URL must be of the form nats://user:password@127.0.0.1:4222, with a user, a password and a port; correct it")
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "nats" || u.User == nil || u.Hostname() != "localhost" && u.Hostname() != natsd.Host {
		return natsd.Options{}, fault
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	password, _ := u.User.Password()
	if err != nil || u.User.Username() == "" || password == "" {
		return natsd.Options{}, fault
	}
	return natsd.Options{Port: int(port), User: u.User.Username(), Password: password}, nil
}

func tellReady(out io.Writer, r allinone.Ready) {
	line, _ := json.Marshal(r) // a struct of strings always encodes
	_, _ = fmt.Fprintf(out, "%s\n", line)
}

// nameProcess makes lists of processes call this one turbocat: the kernel calls it by the file that it was
// started from, which is /proc/self/exe for a process of dev. Where that can not be done nothing is lost.
func nameProcess() { _ = os.WriteFile("/proc/self/comm", []byte("turbocat"), 0) }
