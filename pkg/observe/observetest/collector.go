// Package observetest is a collector of spans for tests: it speaks OTLP over HTTP.
package observetest

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
)

// Span is one that was received.
type Span struct {
	Service, Name, Kind        string
	TraceID, SpanID, ParentID  string
	Attributes                 map[string]string
	Failed                     bool
	StartUnixNano, EndUnixNano uint64
}

// Collector keeps what is exported to URL. It is safe for concurrent use.
type Collector struct {
	URL string

	mu      sync.Mutex
	spans   []Span
	refuse  bool
	arrived chan struct{} // closed and replaced whenever something came
}

// New starts a collector that ends with the test.
func New(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{arrived: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.receive(w, r); err != nil {
			t.Errorf("export: %v", err)
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

// Refuse makes the collector answer 403, or work again.
func (c *Collector) Refuse(refuse bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = refuse
}

func (c *Collector) receive(w http.ResponseWriter, r *http.Request) error {
	c.mu.Lock()
	refuse := c.refuse
	c.mu.Unlock()
	if refuse {
		w.WriteHeader(http.StatusForbidden)
		return nil
	}
	if r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		w.WriteHeader(http.StatusNotFound)
		return nil
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzip, err := gzip.NewReader(r.Body)
		if err != nil {
			return err
		}
		body = unzip
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var request collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(raw, &request); err != nil {
		return err
	}
	c.keep(&request)
	answer, err := proto.Marshal(&collector.ExportTraceServiceResponse{})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, err = w.Write(answer)
	return err
}

func (c *Collector) keep(request *collector.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.GetResourceSpans() {
		service := ""
		for _, a := range resource.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				span := Span{
					Service: service, Name: s.GetName(), Kind: s.GetKind().String(), Attributes: map[string]string{},
					TraceID: hex.EncodeToString(s.GetTraceId()), SpanID: hex.EncodeToString(s.GetSpanId()), ParentID: hex.EncodeToString(s.GetParentSpanId()),
					Failed: s.GetStatus().GetCode() == 2, StartUnixNano: s.GetStartTimeUnixNano(), EndUnixNano: s.GetEndTimeUnixNano(),
				}
				for _, a := range s.GetAttributes() {
					span.Attributes[a.GetKey()] = textOf(a.GetValue())
				}
				c.spans = append(c.spans, span)
			}
		}
	}
	close(c.arrived)
	c.arrived = make(chan struct{})
}

// textOf gives the value of an attribute, lists with commas between.
func textOf(v *common.AnyValue) string {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_IntValue:
		return strconv.FormatInt(v.IntValue, 10)
	case *common.AnyValue_ArrayValue:
		var texts []string
		for _, e := range v.ArrayValue.GetValues() {
			texts = append(texts, textOf(e))
		}
		return strings.Join(texts, ",")
	}
	return v.String()
}

// Spans gives all that came so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...)
}

// Await gives the first span of that service and name, once it is there.
func (c *Collector) Await(t testing.TB, service, name string) Span {
	t.Helper()
	return c.AwaitWhere(t, service+" "+name, func(s Span) bool { return s.Service == service && s.Name == name })
}

// AwaitWhere gives the first span that is wanted, once it is there.
func (c *Collector) AwaitWhere(t testing.TB, what string, wanted func(Span) bool) Span {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		c.mu.Lock()
		arrived := c.arrived
		c.mu.Unlock()
		for _, s := range c.Spans() {
			if wanted(s) {
				return s
			}
		}
		select {
		case <-arrived:
		case <-late:
			t.Fatalf("no span came: %s; there are %+v", what, c.Spans())
		}
	}
}
