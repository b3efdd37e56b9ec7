package natsapi

import (
	"testing"
	"time"
)

func TestAServerThatCameBackIsDoubted(t *testing.T) {
	p := &puller{Steps: &Steps{}}
	for _, c := range []struct {
		server  string
		doubted bool
	}{{"a", false}, {"a", false}, {"b", true}, {"b", true}} {
		p.meet(c.server)
		if got := time.Now().Before(p.doubts); got != c.doubted {
			t.Errorf("after the server %s: doubted %t, want %t", c.server, got, c.doubted)
		}
	}
}
