package httpapi

// generations is a bounded map that forgets the entries longest unused: when the young
// generation is full, it becomes the old one and the old one is dropped.
type generations[K comparable, V any] struct {
	size       int
	young, old map[K]V
}

func newGenerations[K comparable, V any](size int) generations[K, V] {
	return generations[K, V]{size: max(size/2, 1), young: map[K]V{}}
}

func (g *generations[K, V]) get(k K) (V, bool) {
	if v, ok := g.young[k]; ok {
		return v, true
	}
	v, ok := g.old[k]
	if ok {
		g.put(k, v)
	}
	return v, ok
}

func (g *generations[K, V]) put(k K, v V) {
	if _, there := g.young[k]; !there && len(g.young) >= g.size {
		g.young, g.old = map[K]V{}, g.young
	}
	g.young[k] = v
}
