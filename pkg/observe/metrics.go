package observe

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry makes the registry of one service, with the metrics of Go, of the process and of the build.
func NewRegistry(service, version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	promauto.With(r).NewGauge(prometheus.GaugeOpts{
		Name: "turbocat_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"service": service, "version": version, "goversion": runtime.Version()},
	}).Set(1)
	return r
}

// Of gives what a service registers its own metrics with: every name gets the prefix turbocat_<service>_.
func Of(r prometheus.Registerer, service string) prometheus.Registerer {
	return prometheus.WrapRegistererWithPrefix("turbocat_"+service+"_", r)
}

// Handler answers with everything that g gathers, as Prometheus reads it.
func Handler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})
}

// Seconds are the buckets of durations, from half a millisecond to ten seconds.
func Seconds() []float64 {
	return []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}
