package llm

import (
	"context"
	"encoding/json"
	"time"

	"turbocat.io/contracts/catalog"
)

// Roles of a message.
const (
	fromUser  = "user"
	fromModel = "assistant"
	fromTools = "tool"
)

// message is one of a conversation, whichever provider has it.
type message struct {
	Role    string   `json:"role"`
	Text    string   `json:"text,omitempty"`
	Images  []string `json:"images,omitempty"`    // of a user: https or data URLs
	Calls   []use    `json:"toolCalls,omitempty"` // of a model
	Results []result `json:"results,omitempty"`   // of tools, one for each call of the message before
}

// use is a model's wish to have a tool run.
type use struct {
	ID        string `json:"id"` // ours: providers have each their own, and another may go on with the conversation
	Name      string `json:"name"`
	Arguments string `json:"arguments"` // what the model wrote; it may be no JSON
}

// result is what came of a use.
type result struct {
	ID     string `json:"id"`
	Text   string `json:"text"`
	Failed bool   `json:"failed,omitempty"`
}

// offer is a tool as a model is told of it.
type offer struct {
	name, description string
	parameters        json.RawMessage // a JSON Schema of an object
}

// question is what a model is asked.
type question struct {
	model    string
	system   string
	messages []message
	tools    []offer
	config   *catalog.LLMConfig
}

// Reasons why an answer ends.
const (
	stopped   = "stop"    // the model has said what it had to say, or a stop text
	stopTools = "tools"   // it wants tools to be run
	stopLimit = "length"  // it had no more room: maxTokens, or the model's context
	stopNo    = "refusal" // the provider, or the model, does not answer that
)

// answer is what a model says.
type answer struct {
	text  string
	uses  []use
	stop  string
	usage usage
}

// usage is what an answer took, as its provider tells; the zero value when it does not tell.
type usage struct{ input, output int64 }

// provider asks models. It is safe for concurrent use.
type provider interface {
	// ask gives a whole answer, and meanwhile each piece of its text to write. The error is a *failure, or ctx's.
	ask(ctx context.Context, q question, write func(text string)) (answer, error)
}

// failure is why a provider gave no answer.
type failure struct {
	message    string
	transient  bool          // a little later it may
	address    bool          // its address is one that is not allowed
	spent      bool          // it may have worked on the answer
	retryAfter time.Duration // it asks for; 0 for nothing
}

func (f *failure) Error() string { return f.message }

// written gives the bytes of a message's texts, roughly.
func (m message) written() int {
	size := len(m.Text)
	for _, c := range m.Calls {
		size += len(c.Name) + len(c.Arguments)
	}
	for _, r := range m.Results {
		size += len(r.Text)
	}
	return size
}

// size is written with the images.
func (m message) size() int {
	size := m.written()
	for _, image := range m.Images {
		size += len(image)
	}
	return size
}

// What a token and an image are estimated at before a provider has counted. English has four bytes in a token, numbers and other scripts
// fewer; the largest image that providers take as it is has some 1,600 tokens.
const (
	bytesPerToken   = 3
	tokensPerImage  = 2000
	tokensAround    = 64 // of a request
	tokensOfMessage = 16
)

// estimate gives how many tokens a question has at most, roughly.
func (q question) estimate() int64 {
	size, tokens := len(q.system), int64(tokensAround)
	for _, t := range q.tools {
		size += len(t.name) + len(t.description) + len(t.parameters)
		tokens += tokensOfMessage
	}
	for _, m := range q.messages {
		size += m.written()
		tokens += int64(1+len(m.Calls)+len(m.Results))*tokensOfMessage + int64(len(m.Images))*tokensPerImage
	}
	return tokens + tokensOf(size)
}

func tokensOf(size int) int64 { return int64((size + bytesPerToken - 1) / bytesPerToken) }
