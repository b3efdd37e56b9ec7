package work

import (
	"encoding/json"

	"github.com/tidwall/gjson"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/rawjson"
)

// maxNesting is where encoding/json ends too.
const maxNesting = 10_000

// valid tells what json.Valid does, in a fraction of its time.
func valid(raw []byte) bool {
	return rawjson.Depth(raw) <= maxNesting && gjson.ValidBytes(raw)
}

// readBody reads the body of a ready step; false when it is none. All that it gives is part of raw.
func readBody(raw []byte) (body runner.StepBody, ok bool) {
	if !valid(raw) {
		return body, false
	}
	r := gjson.ParseBytes(raw)
	if !r.IsObject() {
		return body, false
	}
	read := true
	r.ForEach(func(key, value gjson.Result) bool {
		part := raw[value.Index : value.Index+len(value.Raw) : value.Index+len(value.Raw)]
		switch key.Str {
		case "config":
			body.Config = part
		case "input":
			body.Input = part
		case "inputSchema":
			body.InputSchema = part
		case "outputSchema":
			body.OutputSchema = part
		case "grant":
			body.Grant = value.Str
		case "secrets":
			read = read && json.Unmarshal(part, &body.Secrets) == nil
		}
		return true
	})
	return body, read && body.Config != nil && body.Input != nil
}
