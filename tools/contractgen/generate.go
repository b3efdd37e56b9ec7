package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"turbocat.io/contracts"
	"turbocat.io/contracts/errs"
)

// object is a JSON object. Its keys are written in the order of the alphabet.
type object = map[string]any

// generate gives all files by their paths below root, the folder of the workspace.
func generate(root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	schemas := &schemas{comments: newComments(root)}
	write := func(name string, schema object, err error) error {
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		files[schemaDir+"/"+name], err = encode(schema)
		return err
	}
	for _, e := range contracts.Events() {
		schema, err := schemas.ofEvent(e)
		if err := write(eventSchema(e), schema, err); err != nil {
			return nil, err
		}
	}
	for _, m := range contracts.Messages() {
		if m.Mode == contracts.Binary {
			if err := write(headersSchema(m), document(m.Name+": headers", ofFields(m.Headers)), nil); err != nil {
				return nil, err
			}
		}
		if m.Data != nil {
			schema, err := schemas.of(m.Data, m.Name+": body")
			if err := write(bodySchema(m), schema, err); err != nil {
				return nil, err
			}
		}
	}
	for _, m := range contracts.Methods() {
		request, err := schemas.of(m.Request, methodName(m)+": request")
		if err := write(requestSchema(m), request, err); err != nil {
			return nil, err
		}
		response, err := schemas.of(m.Response, methodName(m)+": response")
		if err := write(responseSchema(m), response, err); err != nil {
			return nil, err
		}
	}
	failure, err := schemas.of(reflect.TypeFor[errs.Error](), "error of a method")
	if err := errors.Join(
		write(errorSchema, failure, err),
		write(requestHeadersSchema, document("headers of a request", ofFields(contracts.RequestHeaders())), nil),
		write(answerHeadersSchema, document("headers of an answer", ofFields(contracts.AnswerHeaders())), nil),
	); err != nil {
		return nil, err
	}
	api, err := ofAPI(root)
	if err != nil {
		return nil, err
	}
	for name, schema := range api {
		if err := write("api/"+name+".json", schema, nil); err != nil {
			return nil, err
		}
	}
	if files["contracts/asyncapi.yaml"], err = asyncAPI(); err != nil {
		return nil, err
	}
	if files["docs/events.md"], err = eventsPage(root, schemas.comments); err != nil {
		return nil, err
	}
	files["docs/errors.md"], err = errorsPage(root)
	return files, err
}

// Paths below schemaDir.

const (
	errorSchema          = "rpc/error.json"
	requestHeadersSchema = "rpc/request.headers.json"
	answerHeadersSchema  = "rpc/answer.headers.json"
)

func eventSchema(e contracts.Message) string   { return "event/" + e.Name + ".json" }
func bodySchema(m contracts.Message) string    { return "message/" + m.Name + ".body.json" }
func headersSchema(m contracts.Message) string { return "message/" + m.Name + ".headers.json" }
func requestSchema(m contracts.Method) string  { return "rpc/" + methodName(m) + ".request.json" }
func responseSchema(m contracts.Method) string { return "rpc/" + methodName(m) + ".response.json" }

// methodName is <service>.<name>.v<version>.
func methodName(m contracts.Method) string {
	return fmt.Sprintf("%s.%s.v%d", m.Service, m.Name, m.Version)
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}
