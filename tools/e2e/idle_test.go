//go:build unix

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var anonymous = regexp.MustCompile(`(?m)^RssAnon:\s+(\d+) kB$`)

// ownMemory gives the memory of a process that is no file's, in KiB.
func ownMemory(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	found := anonymous.FindSubmatch(status)
	if found == nil {
		t.Fatalf("no RssAnon in %s", status)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestIdleStreamsCostLittle has 1,000 clients follow events that do not come: half of them those of an execution that waits, half of them all.
// Once each has been pinged, the gateway has less than 100 MB of memory of its own.
func TestIdleStreamsCostLittle(t *testing.T) {
	t.Parallel()
	const clients, most = 1000, 100_000_000
	i := inProcesses(t, "idle", "TURBOCAT_GATEWAY_PING_INTERVAL=5s")
	c := register(t, i.url)
	waits := c.begin(t, c.workflow(t, []object{{"stepKey": "w", "stepType": "WAIT", "config": object{"signal": "go"}}})).ID
	gateway := i.pids(t)["gateway"]
	before := ownMemory(t, gateway)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pinged := make(chan error, clients)
	for n := range clients {
		path := "/events/stream"
		if n%2 == 0 {
			path = "/executions/" + waits + "/events"
		}
		go func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, i.url+"/api/v1"+path, nil)
			if err != nil {
				pinged <- err
				return
			}
			req.Header.Set("Authorization", "Bearer "+c.session.AccessToken)
			resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
			if err != nil {
				pinged <- err
				return
			}
			defer func() { _ = resp.Body.Close() }()
			lines, pings := bufio.NewScanner(resp.Body), 0
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), ": ping") {
					if pings++; pings == 2 {
						pinged <- nil
					}
				}
			}
			if pings < 2 {
				pinged <- fmt.Errorf("%s ended with %d, %w", path, resp.StatusCode, lines.Err())
			}
		}()
	}
	for range clients {
		if err := <-pinged; err != nil {
			t.Fatal(err)
		}
	}
	after := ownMemory(t, gateway)
	t.Logf("the gateway has %d KiB with %d streams, and had %d before", after, clients, before)
	if after*1024 > most {
		t.Errorf("%d streams take the gateway from %d to %d KiB", clients, before, after)
	}
}
