package bus

import (
	"sync"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"
)

// Copies watches how many servers keep the streams that a service makes. It is safe for concurrent use.
type Copies struct {
	declared int
	missing  *prometheus.GaugeVec
	log      zerolog.Logger

	mu   sync.Mutex
	seen map[string]copies // by stream
}

type copies struct{ configured, current int }

// NewCopies makes a watch over streams that are declared to have so many copies; none is one.
func NewCopies(declared int, r prometheus.Registerer, log zerolog.Logger) *Copies {
	return &Copies{
		declared: max(1, declared), log: log, seen: map[string]copies{},
		missing: promauto.With(r).NewGaugeVec(prometheus.GaugeOpts{
			Name: "nats_stream_copies_missing", Help: "How many copies a stream has less than declared, counting those that are up to date.",
		}, []string{"stream"}),
	}
}

// Declared is how many copies each stream is to have.
func (c *Copies) Declared() int { return c.declared }

// Saw takes in what the server says of a stream, and logs when it is not, or is again, what is declared. A stream works with more
// than half of its copies, so that a copy that is missing is no reason to stop.
func (c *Copies) Saw(info *jetstream.StreamInfo) {
	now := copies{configured: max(1, info.Config.Replicas), current: 1}
	if info.Cluster != nil {
		for _, p := range info.Cluster.Replicas {
			if p.Current && !p.Offline {
				now.current++
			}
		}
	}
	c.mu.Lock()
	before, known := c.seen[info.Config.Name]
	c.seen[info.Config.Name] = now
	c.mu.Unlock()
	c.missing.WithLabelValues(info.Config.Name).Set(float64(max(0, c.declared-now.current)))
	event := c.log.With().Str("stream", info.Config.Name).Int("declared", c.declared).Int("configured", now.configured).Int("current", now.current).Logger()
	switch {
	case known && before == now:
	case now.configured != c.declared:
		event.Warn().Msg("the stream is not configured with as many copies as TURBOCAT_NATS_REPLICAS says; it is when a service that makes it starts")
	case now.current < c.declared:
		event.Warn().Msg("copies of the stream are missing or behind; is a NATS server away?")
	case known && (before.configured != c.declared || before.current < c.declared):
		event.Info().Msg("all copies of the stream are there again")
	}
}
