package work

// recent is a set of the last so many different strings that were added.
type recent struct {
	ring []string
	next int
	has  map[string]struct{}
}

func newRecent(size int) *recent {
	return &recent{ring: make([]string, size), has: make(map[string]struct{}, size)}
}

func (r *recent) add(s string) {
	if r.contains(s) {
		return
	}
	delete(r.has, r.ring[r.next])
	r.ring[r.next] = s
	r.has[s] = struct{}{}
	r.next = (r.next + 1) % len(r.ring)
}

func (r *recent) contains(s string) bool {
	_, ok := r.has[s]
	return ok
}
