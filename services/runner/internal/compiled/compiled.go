// Package compiled keeps what texts were compiled to: the schema of an agent or its config is the same
// for thousands of attempts, each of which brings it along.
package compiled

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Cache keeps those that were used last, up to a sum of the bytes of their texts. What it gives is shared,
// so that nobody may change it. It is safe for concurrent use.
type Cache[T any] struct {
	compile func(text string) (T, error)
	most    int

	mu    sync.Mutex
	known *simplelru.LRU[string, T] // by their text
	bytes int                       // of the texts of the known
}

// NewCache makes a cache of what compile makes of a text; most bounds the bytes of the texts.
func NewCache[T any](most int, compile func(text string) (T, error)) *Cache[T] {
	known, _ := simplelru.NewLRU[string, T](most, nil) // it refuses sizes below 1 alone
	return &Cache[T]{compile: compile, most: most, known: known}
}

// Of gives what a text compiles to. An error is not kept.
func (c *Cache[T]) Of(text string) (T, error) {
	if known, ok := c.find(text); ok {
		return known, nil
	}
	made, err := c.compile(text)
	if err == nil {
		c.keep(text, made)
	}
	return made, err
}

func (c *Cache[T]) find(text string) (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known.Get(text)
}

func (c *Cache[T]) keep(text string, made T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known.Contains(text) {
		return
	}
	c.known.Add(text, made)
	for c.bytes += len(text); c.bytes > c.most; {
		oldest, _, _ := c.known.RemoveOldest()
		c.bytes -= len(oldest)
	}
}
