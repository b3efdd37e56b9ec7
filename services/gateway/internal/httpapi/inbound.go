package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/rawjson"
)

// HookAnswer tells the sender of a request to a trigger what has become of it.
type HookAnswer struct {
	DeliveryID  string       `json:"deliveryId"`
	Status      string       `json:"status" enum:"ACCEPTED,FILTERED,REFUSED"`
	Repeated    bool         `json:"repeated" doc:"the delivery had come before; nothing was started anew"`
	ExecutionID string       `json:"executionId,omitempty" format:"uuid"`
	Execution   *HookOutcome `json:"execution,omitempty" doc:"with wait: how the execution is"`
}

// HookOutcome is what the sender of a request learns of its execution.
type HookOutcome struct {
	Status  string            `json:"status" enum:"PENDING,RUNNING,PAUSED,COMPLETED,FAILED,CANCELLED,TIMEOUT"`
	Outputs json.RawMessage   `json:"outputs"`
	Error   *runner.StepError `json:"error"`
}

var (
	hookAccess   = access{anonymous: true, raw: true, open: true, body: orchestrator.MaxHookBody, operation: "receiveHook"}
	ingestAccess = access{scope: "events:write", raw: true, body: bodyLimit, operation: "ingestEvents"}
)

const hookPath = "/hooks/{triggerId}"

// routeInbound registers what takes requests whose form others decide.
func (a *API) routeInbound() {
	a.app.Add(http.MethodPost, strings.ReplaceAll(hookPath, "{triggerId}", ":triggerId"), a.hook)
	id := &huma.Param{Name: "triggerId", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Format: "uuid", Examples: []any{"01a2060a-e79a-7cd0-a8cc-4ed64d49709e"}}}
	a.documentRaw(hookPath, rawRoute{
		access: hookAccess, tag: "triggers", summary: "Start an execution by a trigger of type WEBHOOK; the request is signed as its preset says",
		answers:    map[int]string{http.StatusAccepted: "The execution is accepted, and with wait has not ended.", http.StatusOK: "The execution has ended; or the delivery came before, or starts nothing."},
		of:         reflect.TypeFor[envelope[HookAnswer]](),
		bodies:     map[string]string{"application/json": `{"action": "opened"}`},
		repeated:   "Sent twice, a delivery has one execution, as far as its preset tells deliveries apart.",
		errors:     []errs.Code{errs.Unauthorized, errs.NotFound, errs.Conflict, errs.Forbidden},
		parameters: []*huma.Param{id, {Name: "wait", In: "query", Description: "1s to 120s: answer when the execution has ended, at the latest then; other parameters are the trigger's to read", Schema: &huma.Schema{Type: huma.TypeString, Examples: []any{"30s"}}}},
	})
	a.app.Add(http.MethodPost, prefix+"/events", a.ingest)
	const example = `{"specversion":"1.0","id":"41","source":"https://example.com/shop","type":"com.example.order.placed","data":{"total":12}}`
	a.documentRaw(prefix+"/events", rawRoute{
		access: ingestAccess, tag: feedTag, summary: "Bring in events from outside: one CloudEvent, as JSON or with its attributes in headers, or several as a batch",
		answers: map[int]string{http.StatusAccepted: "The events are in the feed. Those that were there, by source and id, are counted as repeated."},
		of:      reflect.TypeFor[envelope[telemetry.Ingested]](), repeated: "An event is known by its source and id for seven days: sent twice, it is there once.",
		body: reflect.TypeFor[cloudEvent](), bodies: map[string]string{"application/cloudevents+json": example, "application/cloudevents-batch+json": "[" + example + "]", "application/json": example},
	})
}

// cloudEvent documents an event in the JSON format of CloudEvents. It may have other attributes, too.
type cloudEvent struct {
	_               struct{} `additionalProperties:"true"`
	SpecVersion     string   `json:"specversion" enum:"1.0"`
	ID              string   `json:"id" maxLength:"255"`
	Source          string   `json:"source" maxLength:"500" doc:"a URI or a beginning of one; with id it is the event's own"`
	Type            string   `json:"type" maxLength:"200" doc:"not one of Turbocat's own"`
	Subject         string   `json:"subject,omitempty" maxLength:"500"`
	Time            string   `json:"time,omitempty" format:"date-time" doc:"when it happened; now when absent"`
	DataContentType string   `json:"datacontenttype,omitempty"`
	DataSchema      string   `json:"dataschema,omitempty"`
	Data            any      `json:"data,omitempty"`
	DataBase64      string   `json:"data_base64,omitempty"`
	CausationDepth  int      `json:"causationdepth,omitempty" minimum:"0" doc:"how many executions stand before it"`
}

// rawRoute is what is declared about an operation that reads its request itself.
type rawRoute struct {
	access     access
	tag        string
	summary    string
	answers    map[int]string // what a status says
	of         reflect.Type   // what they carry
	body       reflect.Type   // what they take; nil for anything
	bodies     map[string]string
	errors     []errs.Code
	parameters []*huma.Param
	repeated   string
}

func (a *API) documentRaw(path string, r rawRoute) {
	responses := a.errorResponses(route{access: r.access, errors: r.errors})
	schema := a.huma.OpenAPI().Components.Schemas.Schema(r.of, true, "")
	for status, says := range r.answers {
		responses[strconv.Itoa(status)] = &huma.Response{Description: says, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
	}
	content := map[string]*huma.MediaType{}
	for kind, example := range r.bodies {
		var value any
		if err := json.Unmarshal([]byte(example), &value); err != nil {
			panic(err)
		}
		taken := &huma.Schema{}
		if r.body != nil {
			taken = a.huma.OpenAPI().Components.Schemas.Schema(r.body, true, "")
			if _, several := value.([]any); several {
				taken = &huma.Schema{Type: huma.TypeArray, Items: taken}
			}
		}
		content[kind] = &huma.MediaType{Schema: taken, Example: value}
	}
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		Method: http.MethodPost, Path: path, OperationID: r.access.operation, Tags: []string{r.tag}, Summary: r.summary, Description: r.repeated, Parameters: r.parameters,
		Security: r.access.security(), Responses: responses, RequestBody: &huma.RequestBody{Content: content},
	})
}

// hook takes a request to the URL of a trigger.
func (a *API) hook(c *fiber.Ctx) error {
	if err := a.admit(c, hookAccess); err != nil {
		return err
	}
	wait, err := parseWait(c.Query("wait"))
	if err != nil {
		return err
	}
	ctx := c.UserContext()
	r := requestOf(ctx)
	query := maps.Clone(c.Queries())
	delete(query, "wait")
	got, err := bus.Call(ctx, a.Bus, orchestrator.ReceiveHook, r.caller, orchestrator.HookRequest{ID: c.Params("triggerId"), Headers: headersOf(c), Query: query, Body: c.Body()})
	if err != nil {
		return err
	}
	if got.Challenge != "" {
		return c.SendString(got.Challenge)
	}
	out := HookAnswer{DeliveryID: got.DeliveryID, Status: got.Status, Repeated: got.Repeated, ExecutionID: got.ExecutionID}
	status := http.StatusOK
	if got.ExecutionID != "" && !got.Repeated {
		status = http.StatusAccepted
	}
	if wait > 0 && got.ExecutionID != "" {
		r.caller = rpc.Caller{UserID: got.UserID, Role: rpc.RoleUser, RequestID: r.caller.RequestID, Traceparent: r.caller.Traceparent} // who may see it
		execution, err := a.awaitEnd(ctx, got.ExecutionID, wait)
		if err != nil {
			return err
		}
		if status = http.StatusAccepted; ended(execution) {
			status = http.StatusOK
		}
		out.Execution = &HookOutcome{Status: execution.Status, Outputs: execution.Outputs, Error: execution.Error}
	}
	return c.Status(status).JSON(enclose(ctx, out))
}

// headersOf gives the headers of a request by their names in lower case.
func headersOf(c *fiber.Ctx) map[string]string {
	headers := map[string]string{}
	for name, values := range c.GetReqHeaders() {
		headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	return headers
}

// ingest takes events from outside.
func (a *API) ingest(c *fiber.Ctx) error {
	if err := a.admit(c, ingestAccess); err != nil {
		return err
	}
	ctx := c.UserContext()
	events, err := cloudEvents(ctx, c.GetReqHeaders(), c.Body())
	if err != nil {
		return err
	}
	got, err := bus.Call(ctx, a.Bus, telemetry.IngestEvents, requestOf(ctx).caller, telemetry.IngestRequest{Events: events})
	if err != nil {
		return err
	}
	return c.Status(http.StatusAccepted).JSON(enclose(ctx, got))
}

// cloudEvents reads the events of a request in the three modes of CloudEvents over HTTP; those of one that says nothing by what its body is.
func cloudEvents(ctx context.Context, header http.Header, body []byte) ([]json.RawMessage, error) {
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil && header.Get("Content-Type") != "" {
		return nil, errs.New(errs.UnsupportedMediaType, "the Content-Type is none; send application/cloudevents+json")
	}
	if header.Get("Ce-Specversion") != "" || header.Get("Ce-Type") != "" {
		return binaryEvent(ctx, header, body)
	}
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	if media != "" && media != "application/json" && !strings.HasPrefix(media, "application/cloudevents") {
		return nil, errs.New(errs.UnsupportedMediaType, "the Content-Type is %.100q, and no ce- headers are there; send application/cloudevents+json, application/cloudevents-batch+json, or the attributes as ce- headers", media)
	}
	if !json.Valid(body) {
		return nil, errs.New(errs.Validation, "the body is not valid JSON; correct its syntax")
	}
	if rawjson.Depth(body) > form.MaxDepth { // further in, parsers have their limits
		return nil, errs.New(errs.Validation, "the body nests deeper than %d levels; make it flatter", form.MaxDepth)
	}
	if trimmed[0] != '[' && media != "application/cloudevents-batch+json" {
		return []json.RawMessage{body}, nil
	}
	var events []json.RawMessage
	if json.Unmarshal(body, &events) != nil {
		return nil, errs.New(errs.Validation, "the body is no JSON array; a batch is one")
	}
	return events, nil
}

// binaryEvent reads an event whose attributes are headers.
func binaryEvent(ctx context.Context, header http.Header, body []byte) ([]json.RawMessage, error) {
	e, err := binding.ToEvent(ctx, cehttp.NewMessage(header, io.NopCloser(bytes.NewReader(body))))
	if err == nil {
		if media := e.DataMediaType(); (media == "" || media == "application/json" || strings.HasSuffix(media, "+json")) && len(body) > 0 && (!json.Valid(body) || rawjson.Depth(body) > form.MaxDepth) {
			return nil, errs.New(errs.Validation, "the body, which is the event's data, is not valid JSON, or nests deeper than %d levels; correct it, or send its Content-Type", form.MaxDepth)
		}
		var structured []byte
		if structured, err = e.MarshalJSON(); err == nil {
			return []json.RawMessage{structured}, nil
		}
	}
	return nil, errs.New(errs.Validation, "the ce- headers are no CloudEvent: %.500s", strings.Join(strings.Fields(err.Error()), " "))
}
