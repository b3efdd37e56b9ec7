package analytics

import (
	"fmt"
	"math"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"

	"turbocat.io/contracts/telemetry"
)

// The buckets of a sketch are those of this mapping, for ever: what is stored is counts by their number.
var buckets = func() mapping.IndexMapping {
	m, err := mapping.NewLogarithmicMapping(telemetry.MetricsAccuracy)
	if err != nil {
		panic(err) // of a constant
	}
	return m
}()

// Sketch has how often what took how long. Two of them add up.
type Sketch struct{ s *ddsketch.DDSketch }

// NewSketch makes an empty one.
func NewSketch() Sketch {
	return Sketch{ddsketch.NewDDSketchFromStoreProvider(buckets, store.BufferedPaginatedStoreConstructor)}
}

// Add counts durations, which are not below 0.
func (s Sketch) Add(ms ...int64) error {
	for _, v := range ms {
		if err := s.s.Add(float64(v)); err != nil {
			return fmt.Errorf("a duration of %d ms: %w", v, err)
		}
	}
	return nil
}

// Merge counts what an encoded one has; none is empty.
func (s Sketch) Merge(encoded []byte) error {
	if len(encoded) == 0 {
		return nil
	}
	return s.s.DecodeAndMergeWith(encoded)
}

// Encode gives its bytes.
func (s Sketch) Encode() []byte {
	var b []byte
	s.s.Encode(&b, true)
	return b
}

// quantile gives the smallest duration that a part of them is not above, the nearest rank; nothing of none.
func (s Sketch) quantile(q float64, least, most int64) *int64 {
	n := s.s.GetCount()
	at := 0.0
	if n > 1 { // the sketch takes its first value that more than at*(n-1) values are not above
		rank := math.Ceil(q*n - 1e-9)
		at = min((rank-0.5)/(n-1), 1)
	}
	v, err := s.s.GetValueAtQuantile(at)
	if err != nil {
		return nil
	}
	ms := min(max(int64(math.Round(v)), least), most)
	return &ms
}
