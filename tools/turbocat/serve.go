//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/caarlos0/env/v11"
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
TURBOCAT_SERVICE names the one to serve when none is given. NATS_URL is needed by all, DATABASE_URL by those with a schema, which "turbocat migrate" makes.

Once the service works it prints {"ready":"SERVICE"} on stdout; its log goes to stderr.`,
		Example: `  NATS_URL=nats://user:password@127.0.0.1:4222 turbocat serve runner
  NATS_URL=nats://user:password@127.0.0.1:4222 turbocat serve nats`,
		ValidArgs: names,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 && (len(args) > 1 || environ["TURBOCAT_SERVICE"] == "") {
				return fmt.Errorf("name one service to serve: %s", strings.Join(names, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			args = append(args, environ["TURBOCAT_SERVICE"])
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

Several of them are a cluster, which keeps the streams when one is lost. Each needs besides:

  TURBOCAT_NATS_SERVER_NAME   its name, which no other has
  TURBOCAT_NATS_CLUSTER_URL   where the others reach it, and the user and password that they ask each other for
  TURBOCAT_NATS_ROUTES        the addresses of the others, with commas between them

Once it works it prints {"ready":"nats","address":"127.0.0.1:PORT"} on stdout; its log goes to stderr.`,
		Example: `  NATS_URL=nats://turbocat:secret@127.0.0.1:4222 turbocat serve nats --dir /var/lib/turbocat/nats

  TURBOCAT_NATS_SERVER_NAME=n1 TURBOCAT_NATS_CLUSTER_URL=nats://routes:secret@127.0.0.1:6222 \
  TURBOCAT_NATS_ROUTES=127.0.0.1:6223,127.0.0.1:6224 \
  NATS_URL=nats://turbocat:secret@127.0.0.1:4222 turbocat serve nats --dir /var/lib/turbocat/nats-1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := natsOptions(environ)
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

// natsEnvironment is what `serve nats` reads.
type natsEnvironment struct {
	URL         string   `env:"NATS_URL"`
	ServerName  string   `env:"TURBOCAT_NATS_SERVER_NAME"`
	ClusterName string   `env:"TURBOCAT_NATS_CLUSTER_NAME" envDefault:"turbocat"`
	ClusterURL  string   `env:"TURBOCAT_NATS_CLUSTER_URL"`
	Routes      []string `env:"TURBOCAT_NATS_ROUTES"`
}

// natsOptions reads what a server needs from the environment.
func natsOptions(environ map[string]string) (natsd.Options, error) {
	var given natsEnvironment
	if err := env.ParseWithOptions(&given, env.Options{Environment: environ}); err != nil {
		return natsd.Options{}, err
	}
	user, password, port, ok := natsAddress(given.URL)
	if !ok {
		return natsd.Options{}, errors.New("NATS_URL must be of the form nats://user:password@127.0.0.1:4222, with a user, a password and a port; correct it")
	}
	o := natsd.Options{Port: port, User: user, Password: password}
	if given.ClusterURL == "" {
		if given.ServerName != "" || len(given.Routes) > 0 {
			return natsd.Options{}, errors.New("TURBOCAT_NATS_CLUSTER_URL is not set; give the address for the other servers, like nats://user:password@127.0.0.1:6222, or leave out TURBOCAT_NATS_SERVER_NAME and TURBOCAT_NATS_ROUTES")
		}
		return o, nil
	}
	c := &natsd.Cluster{Server: given.ServerName, Name: given.ClusterName, Routes: given.Routes}
	var faults []error
	if c.User, c.Password, c.Port, ok = natsAddress(given.ClusterURL); !ok || c.Port == 0 {
		faults = append(faults, errors.New("TURBOCAT_NATS_CLUSTER_URL must be of the form nats://user:password@127.0.0.1:6222, with a user, a password and a port; correct it"))
	}
	if !natsName(c.Server) {
		faults = append(faults, errors.New("TURBOCAT_NATS_SERVER_NAME must be a name without spaces that no other server of the cluster has, like n1; give one"))
	}
	if !natsName(c.Name) {
		faults = append(faults, errors.New("TURBOCAT_NATS_CLUSTER_NAME must be a name without spaces, the same for all servers; correct it"))
	}
	if len(c.Routes) == 0 {
		faults = append(faults, errors.New("TURBOCAT_NATS_ROUTES is not set; give the addresses of the other servers, like 127.0.0.1:6223,127.0.0.1:6224"))
	}
	for _, address := range c.Routes {
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
			faults = append(faults, errors.New("TURBOCAT_NATS_ROUTES must be addresses like 127.0.0.1:6223 with commas between them; correct it"))
			break
		}
	}
	o.Cluster = c
	return o, errors.Join(faults...)
}

func natsName(name string) bool { return name != "" && !strings.ContainsAny(name, " \t\r\n") }

// natsAddress reads from an address what a server at it needs.
func natsAddress(address string) (user, password string, port int, ok bool) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "nats" || u.User == nil || u.Hostname() != "localhost" && u.Hostname() != natsd.Host {
		return "", "", 0, false
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	password, _ = u.User.Password()
	return u.User.Username(), password, int(n), err == nil && u.User.Username() != "" && password != ""
}

func tellReady(out io.Writer, r allinone.Ready) {
	line, _ := json.Marshal(r) // a struct of strings always encodes
	_, _ = fmt.Fprintf(out, "%s\n", line)
}

// nameProcess makes lists of processes call this one turbocat: the kernel calls it by the file that it was
// started from, which is /proc/self/exe for a process of dev. Where that can not be done nothing is lost.
func nameProcess() { _ = os.WriteFile("/proc/self/comm", []byte("turbocat"), 0) }
