//go:build unix

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evanw/esbuild/pkg/api"
)

// TestClients runs the clients of examples/clients, each twice: as one who comes for the first time, and as one who has an account.
func TestClients(t *testing.T) {
	t.Parallel()
	folder := filepath.Join("..", "..", "examples", "clients")
	script := filepath.Join(t.TempDir(), "client.mjs")
	source, err := os.ReadFile(filepath.Join(folder, "client.ts"))
	if err != nil {
		t.Fatal(err)
	}
	// Not every Node takes TypeScript.
	plain := api.Transform(string(source), api.TransformOptions{Loader: api.LoaderTS, Target: api.ES2022})
	if len(plain.Errors) > 0 {
		t.Fatal(plain.Errors)
	}
	if err := os.WriteFile(script, plain.Code, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{
		{"sh", filepath.Join(folder, "client.sh")},
		{"go", "run", "./" + filepath.ToSlash(filepath.Join(folder, "go"))},
		{"python3", filepath.Join(folder, "client.py")},
		{"node", script},
	} {
		t.Run(command[0], func(t *testing.T) {
			t.Parallel()
			for _, needed := range append([]string{command[0]}, map[string][]string{"sh": {"curl"}}[command[0]]...) {
				if _, err := exec.LookPath(needed); err != nil {
					t.Skipf("SKIPPED: %s is not installed", needed)
				}
			}
			email := fmt.Sprintf("%s-%d@example.com", command[0], time.Now().UnixNano())
			for range 2 {
				cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
				cmd.Env = append(cleanEnviron(), "TURBOCAT_URL="+home(t).url, "TURBOCAT_EMAIL="+email, "TURBOCAT_PASSWORD="+password)
				var complaint bytes.Buffer
				cmd.Stderr = &complaint
				if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != `{"sum":6}` {
					t.Errorf("it prints %q, %v\n%s", out, err, &complaint)
				}
			}
		})
	}
}
