package partitiontest

import (
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
)

// Chance gives random numbers by what they are for: the n-th draw about a thing is the same
// for a seed, whatever was drawn about other things in between. It is safe for concurrent use.
type Chance struct {
	seed uint64

	mu    sync.Mutex
	drawn map[string]uint64
}

// NewChance gives the Chance of a seed.
func NewChance(seed uint64) *Chance { return &Chance{seed: seed, drawn: map[string]uint64{}} }

// Draw gives random numbers for the next time that the thing with these names is decided.
func (c *Chance) Draw(about ...string) *rand.Rand {
	name := strings.Join(about, "\x00")
	c.mu.Lock()
	n := c.drawn[name]
	c.drawn[name] = n + 1
	c.mu.Unlock()
	return c.numbers(name, n)
}

// Same gives random numbers that are the same whenever it is asked for with these names.
func (c *Chance) Same(about ...string) *rand.Rand {
	return c.numbers(strings.Join(about, "\x00"), 1<<63)
}

func (c *Chance) numbers(name string, n uint64) *rand.Rand {
	h := fnv.New64a()
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], c.seed)
	binary.BigEndian.PutUint64(b[8:], n)
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(name))
	return rand.New(rand.NewPCG(h.Sum64(), c.seed))
}
