package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"turbocat.io/pkg/observe"
)

// metrics are what the API is measured by. They count even when they are registered nowhere.
type metrics struct {
	requests *prometheus.HistogramVec
	inFlight prometheus.Gauge
	streams  prometheus.Gauge
	limited  *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) metrics {
	with := promauto.With(r)
	return metrics{
		requests: with.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", Help: "How long requests took until their answer began, by method, route and class of the status.", Buckets: observe.Seconds(),
		}, []string{"method", "route", "status"}),
		inFlight: with.NewGauge(prometheus.GaugeOpts{
			Name: "http_requests_in_flight", Help: "Requests that are being answered, event streams left out.",
		}),
		streams: with.NewGauge(prometheus.GaugeOpts{
			Name: "event_streams_open", Help: "Clients that follow events.",
		}),
		limited: with.NewCounterVec(prometheus.CounterOpts{
			Name: "rate_limited_total", Help: "Requests refused because somebody sent too many, by what was counted: auth, user or ip.",
		}, []string{"limit"}),
	}
}

// request counts an answer. route is one of ours, never a path: that would be without end.
func (m metrics) request(method, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(method, route, strconv.Itoa(status/100)+"xx").Observe(took.Seconds())
}

// routeMetrics shows what the gateway is measured by where its clients are, too.
func (a *API) routeMetrics() {
	a.app.Get("/metrics", adaptor.HTTPHandler(observe.Handler(a.Gatherer)))
	responses := a.errorResponses(route{access: access{anonymous: true}})
	const sample = "# TYPE http_requests_in_flight gauge\nhttp_requests_in_flight 1\n"
	responses["200"] = &huma.Response{Description: http.StatusText(http.StatusOK), Content: map[string]*huma.MediaType{
		"text/plain":                   {Schema: &huma.Schema{Type: huma.TypeString}, Example: sample},
		"application/openmetrics-text": {Schema: &huma.Schema{Type: huma.TypeString}, Example: sample + "# EOF\n"},
	}}
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		Method: http.MethodGet, Path: "/metrics", OperationID: "getMetrics", Tags: []string{"health"}, Summary: "The gateway's metrics, as Prometheus reads them", Responses: responses,
	})
}
