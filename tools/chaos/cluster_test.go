//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/subject"
	"turbocat.io/tools/internal/load"
)

const (
	// clusterSize is how many NATS servers a cluster has, and each stream copies.
	clusterSize = 3
	// acceptsWithin is how long after the loss of a server executions may not be accepted.
	acceptsWithin = 15 * time.Second
)

// cluster is the NATS servers of a laboratory that has several.
type cluster struct {
	*laboratory
	servers []*process // by the names that they have for each other
}

func (k *cluster) begin() {
	k.t.Helper()
	var urls, routes []string
	for range clusterSize {
		urls = append(urls, fmt.Sprintf("nats://%s:%s@127.0.0.1:%d", natsUser, natsUser, freePort(k.t)))
		routes = append(routes, fmt.Sprintf("127.0.0.1:%d", freePort(k.t)))
	}
	for i, url := range urls {
		name := fmt.Sprintf("nats-%d", i+1)
		k.servers = append(k.servers, k.process(name, []string{"serve", "nats", "--dir", filepath.Join(k.dir, name)},
			"NATS_URL="+url, "TURBOCAT_NATS_SERVER_NAME="+name, "TURBOCAT_NATS_ROUTES="+strings.Join(routes, ","),
			fmt.Sprintf("TURBOCAT_NATS_CLUSTER_URL=nats://route:%s@%s", natsUser, routes[i]),
		))
	}
	k.natsURL = strings.Join(urls, ",")
	for _, p := range k.servers {
		p.start()
	}
	c := k.connect()
	defer c.Close()
	k.eventually(readyWithin, func() error {
		_, err := c.JetStream().AccountInfo(k.t.Context())
		return err
	})
}

func (k *cluster) end() {
	for _, p := range k.servers {
		p.kill()
		if k.t.Failed() {
			k.t.Logf("%s said at last:\n%s", p.name, p.printed())
		}
	}
}

// leader is the server that leads a stream.
func (k *cluster) leader(stream string) *process {
	k.t.Helper()
	c := k.connect()
	defer c.Close()
	var found *process
	k.eventually(readyWithin, func() error {
		ctx, cancel := context.WithTimeout(k.t.Context(), time.Second)
		defer cancel()
		s, err := c.JetStream().Stream(ctx, stream)
		if err != nil {
			return err
		}
		for _, p := range k.servers {
			if of := s.CachedInfo().Cluster; of != nil && of.Leader == p.name {
				found = p
				return nil
			}
		}
		return errors.New("nobody leads " + stream)
	})
	return found
}

// complete waits until every stream and bucket has all its copies, up to date.
func (k *cluster) complete() {
	k.t.Helper()
	c := k.connect()
	defer c.Close()
	k.eventually(readyWithin, func() error {
		streams := 0
		list := c.JetStream().ListStreams(k.t.Context())
		for s := range list.Info() {
			streams++
			if s.Config.Replicas != clusterSize || s.Cluster == nil || len(s.Cluster.Replicas) != clusterSize-1 {
				return fmt.Errorf("%s is to have %d copies: %+v", s.Config.Name, clusterSize, s.Cluster)
			}
			for _, p := range s.Cluster.Replicas {
				if !p.Current || p.Offline {
					return fmt.Errorf("the copy of %s on %s is behind", s.Config.Name, p.Name)
				}
			}
		}
		if err := list.Err(); err != nil {
			return err
		}
		if streams < 6 {
			return fmt.Errorf("there are %d streams", streams)
		}
		return nil
	})
}

// TestR17LoseLeader kills the NATS server of a cluster that leads the input log, under load.
func TestR17LoseLeader(t *testing.T) {
	onDemand(t)
	c := newClusterCheck(t, "R17", 2, 2)
	c.cluster.complete()
	l := c.start(load.Diamond(c.bookURL), 20)
	for range 2 {
		c.grow(l, 20)
		away := c.between(acceptsWithin, 2*acceptsWithin)
		leader := c.cluster.leader(subject.ExecutionInputStream)
		c.fault("kill -9 of the NATS server that leads the input log", func() {
			killed := time.Now()
			leader.kill()
			for time.Since(killed) < away { // also when all clients wait for an end
				c.submit(l, 1)
				c.wait(500 * time.Millisecond)
			}
			if longest := silence(l.Answers(), killed, killed.Add(away)); longest > acceptsWithin {
				c.problems = append(c.problems, fmt.Sprintf("for %.1f s after the loss of a NATS server no execution was accepted", longest.Seconds()))
			} else {
				c.number("%s lost, nothing accepted for %.1f s", leader.name, longest.Seconds())
			}
			leader.start()
			c.cluster.complete()
			c.again(leader.name)
		})
	}
	c.grow(l, 20)
	refused := map[int]int{}
	for _, a := range l.Answers() {
		if a.Status != http.StatusCreated {
			refused[a.Status]++
		}
		if a.Status != http.StatusCreated && a.Status != http.StatusServiceUnavailable {
			c.problems = append(c.problems, fmt.Sprintf("a request for an execution was answered %d %s", a.Status, a.Code))
		}
	}
	c.number("%d requests answered 503", refused[http.StatusServiceUnavailable])
	rebuilt := 0
	for _, p := range c.of(orchestrator) {
		raw, err := os.ReadFile(p.output)
		if err != nil {
			t.Fatal(err)
		}
		rebuilt += strings.Count(string(raw), "the input log is not the one that was applied")
	}
	if rebuilt > 0 {
		c.problems = append(c.problems, fmt.Sprintf("%d times a partition took the log for another one, although no message was lost", rebuilt))
	}
	c.finish(l)
}

// silence is the longest time between from and to in which nothing was accepted.
func silence(answers []load.Answer, from, to time.Time) time.Duration {
	last, longest := from, time.Duration(0)
	for _, a := range answers {
		if a.Status != http.StatusCreated || a.Came.Before(from) || a.Came.After(to) {
			continue
		}
		longest, last = max(longest, a.Came.Sub(last)), a.Came
	}
	return max(longest, to.Sub(last))
}
