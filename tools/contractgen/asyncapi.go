package main

import (
	"bytes"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"turbocat.io/contracts"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/subject"
)

// replies is the channel of all answers: an inbox that the request names.
const replies = "replies"

type asyncDocument struct {
	AsyncAPI           string                    `yaml:"asyncapi"`
	Info               asyncInfo                 `yaml:"info"`
	DefaultContentType string                    `yaml:"defaultContentType"`
	Channels           map[string]asyncChannel   `yaml:"channels"`
	Operations         map[string]asyncOperation `yaml:"operations"`
}

type asyncInfo struct {
	Title       string `yaml:"title"`
	Version     string `yaml:"version"`
	Description string `yaml:"description"`
}

type asyncChannel struct {
	Address     *string                   `yaml:"address"` // null: only known when it is used
	Description string                    `yaml:"description,omitempty"`
	Parameters  map[string]asyncParameter `yaml:"parameters,omitempty"`
	Messages    map[string]asyncMessage   `yaml:"messages"`
}

type asyncParameter struct {
	Description string   `yaml:"description"`
	Enum        []string `yaml:"enum,omitempty"`
	Examples    []string `yaml:"examples,omitempty"`
}

type asyncMessage struct {
	Name        string `yaml:"name"`
	Summary     string `yaml:"summary"`
	ContentType string `yaml:"contentType,omitempty"`
	Headers     any    `yaml:"headers,omitempty"`
	Payload     any    `yaml:"payload,omitempty"`
}

type asyncOperation struct {
	Action   string      `yaml:"action"`
	Channel  reference   `yaml:"channel"`
	Summary  string      `yaml:"summary"`
	Tags     []asyncTag  `yaml:"tags"`
	Messages []reference `yaml:"messages"`
	Reply    *asyncReply `yaml:"reply,omitempty"`
}

type asyncTag struct {
	Name string `yaml:"name"`
}

type asyncReply struct {
	Address  asyncLocation `yaml:"address"`
	Channel  reference     `yaml:"channel"`
	Messages []reference   `yaml:"messages"`
}

type asyncLocation struct {
	Description string `yaml:"description"`
	Location    string `yaml:"location"`
}

type reference struct {
	Ref string `yaml:"$ref"`
}

func toSchema(name string) reference      { return reference{"./schema/" + name} }
func toChannel(name string) reference     { return reference{"#/channels/" + name} }
func toMessage(in, name string) reference { return reference{"#/channels/" + in + "/messages/" + name} }

// asyncAPI gives the AsyncAPI document of the lists in contracts.
func asyncAPI() ([]byte, error) {
	doc := asyncDocument{
		AsyncAPI: "3.0.0",
		Info: asyncInfo{
			Title: "Turbocat", Version: "1.0.0",
			Description: "What the services tell and ask each other over NATS. Public events are the channels that begin with evt; all others are internal.",
		},
		DefaultContentType: "application/json",
		Channels:           map[string]asyncChannel{},
		Operations:         map[string]asyncOperation{},
	}
	for _, m := range slices.Concat(contracts.Events(), contracts.Messages()) {
		doc.addMessage(m)
	}
	doc.addMethods(contracts.Methods())
	var b bytes.Buffer
	b.WriteString("# Made by `make contracts`; change the lists in contracts/ instead.\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(doc); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}

func (d *asyncDocument) addMessage(m contracts.Message) {
	name := strings.NewReplacer("{", "", "}", "").Replace(m.Subject)
	channel, known := d.Channels[name]
	if !known {
		description := "Stream " + m.Stream + "."
		if m.Stream == "" {
			description = "No stream: who does not listen misses it."
		}
		channel = asyncChannel{
			Address: &m.Subject, Description: description,
			Parameters: parametersOf(m.Subject), Messages: map[string]asyncMessage{},
		}
		d.Channels[name] = channel
	}
	message := asyncMessage{Name: m.Name, Summary: m.Doc}
	switch m.Mode {
	case contracts.Batched:
		message.ContentType = event.BatchContentType
		message.Headers, message.Payload = ofFields(m.Headers), object{"type": "array", "contains": toSchema(eventSchema(m))}
	case contracts.Binary:
		message.Headers = toSchema(headersSchema(m))
	}
	if m.Mode != contracts.Batched && m.Data != nil {
		message.Payload = toSchema(bodySchema(m))
	}
	channel.Messages[m.Name] = message
	operation := func(service, action string) {
		d.Operations[service+"."+action+"."+m.Name] = asyncOperation{
			Action: action, Channel: toChannel(name), Summary: m.Doc, Tags: []asyncTag{{service}}, Messages: []reference{toMessage(name, m.Name)},
		}
	}
	for _, service := range m.Senders {
		operation(service, "send")
	}
	for _, service := range m.Receivers {
		operation(service, "receive")
	}
}

func (d *asyncDocument) addMethods(methods []contracts.Method) {
	answers := map[string]asyncMessage{
		"error": {Name: "error", Summary: "what went wrong; its code stands in a header too", Headers: toSchema(answerHeadersSchema), Payload: toSchema(errorSchema)},
	}
	d.Channels[replies] = asyncChannel{Description: "The inbox of who asks, named by the request.", Messages: answers}
	for _, m := range methods {
		name := subject.RPC(m.Service, m.Version, m.Name)
		d.Channels[name] = asyncChannel{Address: &name, Messages: map[string]asyncMessage{
			"request": {Name: methodName(m) + ".request", Summary: m.Doc, Headers: toSchema(requestHeadersSchema), Payload: toSchema(requestSchema(m))},
		}}
		answer := methodName(m) + ".response"
		answers[answer] = asyncMessage{Name: answer, Summary: m.Doc, Headers: toSchema(answerHeadersSchema), Payload: toSchema(responseSchema(m))}
		operation := func(service, action string) {
			d.Operations[service+"."+action+"."+methodName(m)] = asyncOperation{
				Action: action, Channel: toChannel(name), Summary: m.Doc, Tags: []asyncTag{{service}}, Messages: []reference{toMessage(name, "request")},
				Reply: &asyncReply{
					Address: asyncLocation{"The reply subject of the NATS message.", "$message.header#/reply"},
					Channel: toChannel(replies), Messages: []reference{toMessage(replies, answer), toMessage(replies, "error")},
				},
			}
		}
		operation(m.Service, "receive")
		for _, service := range m.Callers {
			operation(service, "send")
		}
	}
}

func parametersOf(address string) map[string]asyncParameter {
	found := map[string]asyncParameter{}
	for _, p := range contracts.Parameters() {
		if !strings.Contains(address, "{"+p.Name+"}") {
			continue
		}
		parameter := asyncParameter{Description: p.Doc, Examples: p.Values}
		if p.Closed {
			parameter.Enum, parameter.Examples = p.Values, nil
		}
		found[p.Name] = parameter
	}
	return found
}
