//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthPatience is how long `health` waits for an answer.
const healthPatience = 4 * time.Second

func newHealth() *cobra.Command {
	return &cobra.Command{
		Use:   "health URL",
		Short: "Ask a service whether it is ready",
		Long: `Ask the operations listener of a service, or the gateway, whether it is ready: GET /health/ready. Its answer is printed, and it ends with 1 unless that is 200.
It is for health checks of images in which there is nothing else that could ask.`,
		Example: `  turbocat health http://127.0.0.1:9090`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), healthPatience)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(args[0], "/")+"/health/ready", nil)
			if err != nil {
				return fmt.Errorf("%q is no address; give one like http://127.0.0.1:9090", args[0])
			}
			resp, err := (&http.Client{}).Do(req)
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			if _, err := io.Copy(cmd.OutOrStdout(), io.LimitReader(resp.Body, 1<<20)); err != nil {
				return err
			}
			if resp.StatusCode != http.StatusOK {
				return exit(1)
			}
			return nil
		},
	}
}
