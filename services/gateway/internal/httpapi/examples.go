package httpapi

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/gateway/internal/live"
)

// examplesFile tells one story in requests and answers: Ada makes the agent "sum" and the workflow "approve an order", executes it and
// approves. Tokens and keys in it open nothing.
//
//go:embed examples.json
var examplesFile []byte

// examples are what the document shows beside schemas. Tests want one of each body and each answer, and that it fits its schema.
type examples struct {
	RequestID string                     `json:"requestId"`
	Cursor    string                     `json:"cursor"`  // of lists
	IDs       map[string]string          `json:"ids"`     // by the part of the path before them
	Bodies    map[string]json.RawMessage `json:"bodies"`  // by operationId
	Answers   map[string]any             `json:"answers"` // operations as in updateAgent.200; see answer
	Errors    map[errs.Code]fault        `json:"errors"`
	Events    []json.RawMessage          `json:"events"` // of an execution, from its first on
}

func readExamples() examples {
	var e examples
	if err := strictly(examplesFile, &e); err != nil {
		panic(fmt.Sprintf("examples.json: %v", err)) // it is part of the program
	}
	return e
}

// strictly decodes JSON in which every field is known.
func strictly(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// exampled is an envelope that can be shown with an example of its data; a list has that as its one item.
type exampled interface {
	example(e examples, data []byte) (any, error)
}

func (envelope[T]) example(e examples, data []byte) (any, error) {
	shown := envelope[T]{Success: true, RequestID: e.RequestID}
	return shown, strictly(data, &shown.Data)
}

func (listEnvelope[T]) example(e examples, data []byte) (any, error) {
	first := rpc.Pagination{Page: 1, PageSize: 1, Total: 3, TotalPages: 3, NextCursor: &e.Cursor}
	shown := listEnvelope[T]{Success: true, Data: make([]T, 1), Meta: listMeta{first}, RequestID: e.RequestID}
	return shown, strictly(data, &shown.Data[0])
}

// answer gives the data of an answer, nil for none, and the name of the example: that of the envelope, unless the operation has its own.
// Answers has data by the name of its type; what is other in an envelope, or in one answer of an operation, stands by the name of that.
func (e examples) answer(envelope, operation string) (name string, data any) {
	name = envelope
	for _, key := range []string{strings.TrimPrefix(strings.TrimPrefix(envelope, "List"), "Envelope"), envelope, operation} {
		found, ok := e.Answers[key]
		if !ok {
			continue
		}
		data = overlay(data, found)
		if key == operation {
			name = operation
		}
	}
	return name, data
}

// overlay gives base with the fields of over instead of its own.
func overlay(base, over any) any {
	fields, isObject := base.(map[string]any)
	changes, ok := over.(map[string]any)
	if !ok || !isObject {
		return over
	}
	merged := maps.Clone(fields)
	for name, value := range changes {
		merged[name] = overlay(merged[name], value)
	}
	return merged
}

// failure gives the answer of an error.
func (e examples) failure(code errs.Code) failure {
	shown := failure{Error: e.Errors[code], RequestID: e.RequestID}
	shown.Error.Code = code
	if shown.Error.Details == nil {
		shown.Error.Details = []errs.Detail{}
	}
	return shown
}

// stream gives the events as a client receives them.
func (e examples) stream() string {
	var text bytes.Buffer
	w := bufio.NewWriter(&text)
	for _, body := range e.Events {
		var event struct {
			Type string
			Data orchestrator.ExecutionEvent
		}
		err := json.Unmarshal(body, &event)
		if err == nil {
			err = writeEvent(w, live.Event{Seq: event.Data.Seq, Type: event.Type, Body: body})
		}
		if err != nil {
			panic(fmt.Sprintf("examples.json: events: %v", err))
		}
	}
	_ = w.Flush() // a buffer takes it all
	return text.String()
}

// addExamples gives every operation examples of its body, its answers and the ids in its path. Those of errors come with errorResponse.
func (a *API) addExamples() {
	a.huma.OpenAPI().Components.Examples = map[string]*huma.Example{}
	for path, op := range operations(a.huma.OpenAPI()) {
		if body := a.examples.Bodies[op.OperationID]; op.RequestBody != nil && body != nil {
			for _, media := range op.RequestBody.Content {
				media.Example = body
			}
		}
		for status, response := range op.Responses {
			for _, media := range response.Content {
				a.addAnswer(op.OperationID+"."+status, media)
			}
		}
		for _, p := range op.Parameters {
			before, _, _ := strings.Cut(path, "/{"+p.Name+"}")
			if id, ok := a.examples.IDs[before[strings.LastIndexByte(before, '/')+1:]]; ok && p.In == "path" && p.Schema.Format == "uuid" {
				p.Schema.Examples = []any{id}
			}
		}
	}
}

// addAnswer makes the example of an answer one of the document's components, for operations share it, and refers to it. What has no type of
// ours is shown in its place.
func (a *API) addAnswer(operation string, media *huma.MediaType) {
	if media.Schema.Ref == "" {
		if media.Example == nil {
			media.Example = a.examples.Answers[operation]
		}
		return
	}
	components := a.huma.OpenAPI().Components
	envelope := media.Schema.Ref[strings.LastIndexByte(media.Schema.Ref, '/')+1:]
	name, data := a.examples.answer(envelope, operation)
	if data == nil {
		return
	}
	if components.Examples[name] == nil {
		value, err := a.exampleOf(media.Schema.Ref, data)
		if err != nil {
			panic(fmt.Sprintf("examples.json: answers: %s: %v", name, err))
		}
		components.Examples[name] = &huma.Example{Value: value}
	}
	media.Examples = map[string]*huma.Example{name: {Ref: "#/components/examples/" + name}}
}

// exampleOf gives the answer with the data as our type encodes it.
func (a *API) exampleOf(ref string, data any) (any, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	shown := reflect.New(a.huma.OpenAPI().Components.Schemas.TypeFromRef(ref)).Interface()
	if enveloped, ok := shown.(exampled); ok {
		return enveloped.example(a.examples, raw)
	}
	return shown, strictly(raw, shown)
}
