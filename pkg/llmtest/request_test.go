package llmtest_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"turbocat.io/pkg/llmtest"
)

// One conversation in both formats: an image is asked about, the model calls two tools at once, one of which fails.
const (
	chatTalk = `{"model":"m","max_completion_tokens":50,"stream":true,"stream_options":{"include_usage":true},"temperature":2,"top_p":null,"stop":["x","y"],
		"response_format":{"type":"json_schema","json_schema":{"name":"answer","schema":{"type":"object"},"strict":true}},"reasoning_effort":"low","seed":7,"user":"u","parallel_tool_calls":false,
		"tools":[{"type":"function","function":{"name":"look_up","description":"Looks things up.","parameters":{"type":"object"},"strict":true}},{"type":"function","function":{"name":"now"}}],
		"tool_choice":{"type":"function","function":{"name":"now"}},
		"messages":[
		{"role":"system","content":"Be brief."},
		{"role":"developer","content":[{"type":"text","text":"Be kind."}]},
		{"role":"user","content":[{"type":"text","text":"What is it,"},{"type":"image_url","image_url":{"url":"https://example.com/a.png","detail":"low"}},{"type":"text","text":"and when?"},
			{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}}]},
		{"role":"assistant","content":"Let me see.","tool_calls":[{"id":"a","type":"function","function":{"name":"look_up","arguments":"{\"q\":1}"}},{"id":"b","type":"function","function":{"name":"now","arguments":"{}"}}]},
		{"role":"tool","tool_call_id":"b","content":"noon"},
		{"role":"tool","tool_call_id":"a","content":[{"type":"text","text":"no such thing"}]},
		{"role":"assistant","content":null,"refusal":"No.","tool_calls":[{"id":"a","type":"function","function":{"name":"now","arguments":"{"}}]},
		{"role":"tool","tool_call_id":"a","content":"one"},
		{"role":"user","name":"bob","content":"Go on."}]}`
	messagesTalk = `{"model":"m","max_tokens":50,"stream":true,"temperature":1,"top_p":0.5,"top_k":5,"stop_sequences":["x"],"metadata":{"user_id":"u"},"thinking":{"type":"disabled"},
		"tools":[{"name":"look_up","description":"Looks things up.","input_schema":{"type":"object"},"cache_control":{"type":"ephemeral"}},{"type":"custom","name":"now","input_schema":{"type":"object"}}],
		"tool_choice":{"type":"tool","name":"now","disable_parallel_tool_use":true},
		"system":[{"type":"text","text":"Be brief."},{"type":"text","text":"Be kind.","cache_control":{"type":"ephemeral"}}],
		"messages":[
		{"role":"user","content":[{"type":"text","text":"What is it,"},{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}},{"type":"text","text":"and when?"},
			{"type":"image","source":{"type":"base64","media_type":"image/png","data":"aGk="}}]},
		{"role":"assistant","content":[{"type":"text","text":"Let me see."},{"type":"tool_use","id":"a","name":"look_up","input":{"q":1}},{"type":"tool_use","id":"b","name":"now","input":{}}]},
		{"role":"user","content":[{"type":"tool_result","tool_use_id":"b","content":"noon"},
			{"type":"tool_result","tool_use_id":"a","is_error":true,"content":[{"type":"text","text":"no such thing"},{"type":"image","source":{"type":"base64","media_type":"image/gif","data":"aGk="}}]},
			{"type":"text","text":"And now?"}]},
		{"role":"assistant","content":"It is noon."},
		{"role":"user","content":"Go on."},
		{"role":"user","content":"Please."},
		{"role":"assistant","content":"So"}]}`
)

func TestReadsRequestsIntoOneForm(t *testing.T) {
	s := llmtest.New(t, replies(llmtest.Reply{}))
	tools := []llmtest.Tool{
		{Name: "look_up", Description: "Looks things up.", Parameters: json.RawMessage(`{"type":"object"}`)},
		{Name: "now", Parameters: json.RawMessage(`{"type":"object"}`)},
	}
	images := []string{"https://example.com/a.png", "data:image/png;base64,aGk="}
	calls := []llmtest.Call{{ID: "a", Name: "look_up", Arguments: `{"q":1}`}, {ID: "b", Name: "now", Arguments: `{}`}}
	for _, want := range []llmtest.Request{
		{
			Provider: "openai", Key: "sk-1", Model: "m", System: "Be brief.\nBe kind.", Stream: true, MaxTokens: 50, Body: json.RawMessage(chatTalk), N: 1,
			Tools: []llmtest.Tool{tools[0], {Name: "now"}},
			Messages: []llmtest.Message{
				{Role: "user", Text: "What is it,\nand when?", Images: images},
				{Role: "assistant", Text: "Let me see.", Calls: calls},
				{Role: "tool", Results: []llmtest.Result{{ID: "b", Text: "noon"}}},
				{Role: "tool", Results: []llmtest.Result{{ID: "a", Text: "no such thing"}}},
				{Role: "assistant", Calls: []llmtest.Call{{ID: "a", Name: "now", Arguments: "{"}}},
				{Role: "tool", Results: []llmtest.Result{{ID: "a", Text: "one"}}},
				{Role: "user", Text: "Go on."},
			},
		},
		{
			Provider: "anthropic", Key: "sk-1", Model: "m", System: "Be brief.\nBe kind.", Stream: true, MaxTokens: 50, Body: json.RawMessage(messagesTalk), N: 2,
			Tools: tools,
			Messages: []llmtest.Message{
				{Role: "user", Text: "What is it,\nand when?", Images: images},
				{Role: "assistant", Text: "Let me see.", Calls: calls},
				{
					Role: "tool", Text: "And now?", Images: []string{"data:image/gif;base64,aGk="},
					Results: []llmtest.Result{{ID: "b", Text: "noon"}, {ID: "a", Text: "no such thing", Failed: true}},
				},
				{Role: "assistant", Text: "It is noon."},
				{Role: "user", Text: "Go on."},
				{Role: "user", Text: "Please."},
				{Role: "assistant", Text: "So"},
			},
		},
	} {
		path := map[string]string{"openai": chat, "anthropic": messages}[want.Provider]
		if status, body := post(t, s, path, string(want.Body)); status != http.StatusOK {
			t.Errorf("%s: %s", want.Provider, body)
		}
		if got := s.Requests()[want.N-1]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v\nwant\n%+v", want.Provider, got, want)
		}
	}
}

func TestTakesWhatIsOptional(t *testing.T) {
	s := llmtest.New(t, replies(llmtest.Reply{Text: "{}"}))
	for _, tc := range []struct{ path, settings string }{
		{chat, `,"max_tokens":null,"stream":null,"stream_options":null,"stop":"x","temperature":0,"n":1`},
		{chat, `,"response_format":{"type":"text"},"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required"`},
		{chat, `,"response_format":{"type":"json_object"},"messages":[{"role":"user","content":"As JSON, please."}]`},
		{messages, `,"system":"","temperature":0,"tools":[{"name":"f","input_schema":{"type":"object"},"type":null}],"tool_choice":{"type":"none"}`},
		{messages, `,"system":"Be brief.","stream":false,"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"any"}`},
	} {
		if status, body := post(t, s, tc.path, question(tc.path, tc.settings)); status != http.StatusOK {
			t.Errorf("%s: %s", tc.settings, body)
		}
	}
	keyless := func(r *http.Request) { r.Header.Del("Authorization"); r.Header.Del("X-Api-Key") }
	for _, path := range []string{chat, messages} {
		if status, body := post(t, s, path, question(path, ``), keyless); status != http.StatusOK {
			t.Errorf("without a key: %s", body)
		}
	}
	basic := func(r *http.Request) { r.Header.Set("Authorization", "Basic eA==") }
	_, _ = post(t, s, chat, question(chat, ``), basic)
	for _, r := range s.Requests()[5:] {
		if r.Key != "" {
			t.Errorf("request %d has key %q", r.N, r.Key)
		}
	}
}

// The question's own messages are replaced by those that are put behind: the last of a name counts.
func TestRefusesWhatProvidersRefuse(t *testing.T) {
	const (
		user   = `{"role":"user","content":"Hi"}`
		call   = `{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}]}`
		answer = `{"role":"tool","tool_call_id":"a","content":"x"}`
		late   = `{"role":"tool","tool_call_id":"b","content":"x"}`
		use    = `{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}},{"type":"tool_use","id":"b","name":"f","input":{}}]}`
		both   = `{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"x"},{"type":"tool_result","tool_use_id":"b"}]}`
		tool   = `{"type":"function","function":{"name":"f"}}`
		plain  = `{"name":"f","input_schema":{"type":"object"}}`
	)
	talk := func(turns ...string) string { return `,"messages":[` + strings.Join(turns, ",") + `]` }
	content := func(parts string) string { return talk(`{"role":"user","content":` + parts + `}`) }
	tools := func(more string) string { return `,"tools":[` + more + `]` }

	for _, tc := range []struct{ path, settings, want string }{
		{chat, `,`, `{"message":"We could not parse the JSON body of your request.`},
		{chat, `,"frobnicate":1`, `{"message":"Unknown parameter: 'frobnicate'.","type":"invalid_request_error","param":"frobnicate","code":"unknown_parameter"}`},
		{chat, `,"Temperature":1`, `Unknown parameter: 'Temperature'.`},
		{chat, `,"model":""`, `Invalid 'model': empty.`},
		{chat, `,"model":null`, `Invalid type for 'model': expected string.`},
		{chat, `,"model":1`, `Invalid type for 'model': expected string.`},
		{chat, `,"messages":{}`, `Invalid type for 'messages': expected array.`},
		{chat, talk(), `Invalid 'messages': empty.`},
		{chat, `,"temperature":2.1`, `Invalid 'temperature': above maximum value. Expected a value <= 2, but got 2.1 instead.`},
		{chat, `,"temperature":-1`, `Invalid 'temperature': below minimum value.`},
		{chat, `,"temperature":"1"`, `Invalid type for 'temperature': expected number.`},
		{chat, `,"top_p":1.5`, `Invalid 'top_p'`},
		{chat, `,"frequency_penalty":-3`, `Invalid 'frequency_penalty'`},
		{chat, `,"presence_penalty":3`, `Invalid 'presence_penalty'`},
		{chat, `,"n":2`, `Invalid 'n'`},
		{chat, `,"max_tokens":0`, `Invalid 'max_tokens'`},
		{chat, `,"max_tokens":1.5`, `Invalid type for 'max_tokens': expected integer.`},
		{chat, `,"max_completion_tokens":0`, `Invalid 'max_completion_tokens'`},
		{chat, `,"max_tokens":1,"max_completion_tokens":1`, `Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.`},
		{chat, `,"stop":["1","2","3","4","5"]`, `Invalid 'stop'`},
		{chat, `,"stop":1`, `Invalid type for 'stop': expected array of strings.`},
		{chat, `,"stream":"yes"`, `Invalid type for 'stream': expected boolean.`},
		{chat, `,"stream_options":{"include_usage":true}`, `The 'stream_options' parameter is only allowed when 'stream' is enabled.`},
		{chat, `,"stream":true,"stream_options":{"usage":true}`, `Unknown parameter: 'stream_options.usage'.`},
		{chat, `,"stream":true,"stream_options":true`, `Invalid type for 'stream_options': expected object.`},
		{chat, `,"response_format":"json"`, `Invalid type for 'response_format': expected object.`},
		{chat, `,"response_format":{}`, `Missing required parameter: 'response_format.type'.`},
		{chat, `,"response_format":{"type":"text","schema":{}}`, `Unknown parameter: 'response_format.schema'.`},
		{chat, `,"response_format":{"type":"xml"}`, `Invalid value for 'response_format.type': 'xml'. Supported values are: 'json_object', 'json_schema', 'text'.`},
		{chat, `,"response_format":{"type":"json_object"}`, `'messages' must contain the word 'json' in some form`},
		{chat, `,"response_format":{"type":"json_schema"}`, `Missing required parameter: 'response_format.json_schema'.`},
		{chat, `,"response_format":{"type":"json_schema","json_schema":{"schema":{}}}`, `Missing required parameter: 'response_format.json_schema.name'.`},
		{chat, `,"response_format":{"type":"json_schema","json_schema":{"name":"a b"}}`, `Invalid 'response_format.json_schema.name'`},
		{chat, tools(``), `Invalid 'tools'`},
		{chat, tools(tool + `,` + tool), `Tool names must be unique.`},
		{chat, tools(`{"type":"function","function":{"name":"a b"}}`), `Invalid 'tools[0].function.name': string does not match pattern.`},
		{chat, tools(`{"type":"function","function":{"name":"` + strings.Repeat("n", 65) + `"}}`), `Invalid 'tools[0].function.name'`},
		{chat, tools(`{"type":"function","function":{}}`), `Missing required parameter: 'tools[0].function.name'.`},
		{chat, tools(`{"type":"function","name":"f"}`), `Unknown parameter: 'tools[0].name'.`},
		{chat, tools(`{"type":"custom","function":{"name":"f"}}`), `Invalid value for 'tools[0].type': 'custom'.`},
		{chat, tools(`{"type":"function","function":{"name":"f","parameters":{"type":"string"}}}`), `"param":"tools[0].function.parameters","code":"invalid_function_parameters"`},
		{chat, `,"tool_choice":"auto"`, `'tool_choice' is only allowed when 'tools' are specified.`},
		{chat, tools(tool) + `,"tool_choice":"any"`, `Invalid value for 'tool_choice': 'any'.`},
		{chat, tools(tool) + `,"tool_choice":{"type":"function","function":{"name":"g"}}`, `Tool choice 'g' not found in 'tools' parameter.`},
		{chat, tools(tool) + `,"tool_choice":{"type":"tool","function":{"name":"f"}}`, `Invalid value for 'tool_choice.type': 'tool'.`},
		{chat, `,"parallel_tool_calls":true`, `'parallel_tool_calls' is only allowed when 'tools' are specified.`},
		{chat, talk(`1`), `Invalid type for 'messages[0]': expected object.`},
		{chat, talk(`{"content":"Hi"}`), `Missing required parameter: 'messages[0].role'.`},
		{chat, talk(`{"role":"model","content":"Hi"}`), `Invalid value for 'messages[0].role': 'model'. Supported values are: 'system', 'assistant', 'user', 'tool', 'developer'.`},
		{chat, talk(`{"role":"user"}`), `Missing required parameter: 'messages[0].content'.`},
		{chat, talk(`{"role":"user","content":null}`), `Invalid type for 'messages[0].content': expected string or array.`},
		{chat, talk(`{"role":"user","content":"Hi","tool_call_id":"a"}`), `Unknown parameter: 'messages[0].tool_call_id'.`},
		{chat, talk(user, `{"role":"assistant"}`), `Invalid type for 'messages[1].content'`},
		{chat, talk(user, `{"role":"assistant","content":null}`), `Invalid type for 'messages[1].content'`},
		{chat, talk(user, `{"role":"assistant","content":"x","tool_calls":[]}`), `Invalid 'messages[1].tool_calls': empty.`},
		{chat, talk(user, `{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":{}}}]}`), `Invalid type for 'messages[1].tool_calls[0].function.arguments': expected string.`},
		{chat, talk(user, `{"role":"assistant","tool_calls":[{"type":"function","function":{"name":"f","arguments":""}}]}`), `Missing required parameter: 'messages[1].tool_calls[0].id'.`},
		{chat, talk(user, `{"role":"assistant","tool_calls":[{"id":"","type":"function","function":{"name":"f","arguments":""}}]}`), `Invalid 'messages[1].tool_calls[0].id'`},
		{chat, talk(user, `{"role":"assistant","tool_calls":[{"id":"a","type":"f","function":{"name":"f","arguments":""}}]}`), `Invalid value for 'messages[1].tool_calls[0].type'`},
		{chat, talk(user, `{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"","arguments":""}}]}`), `Invalid 'messages[1].tool_calls[0].function.name'`},
		{chat, talk(user, strings.ReplaceAll(call, `"b"`, `"a"`), answer, answer), `Duplicate value for 'tool_call_id' of 'a'.`},
		{chat, talk(user, answer), `Invalid parameter: messages with role 'tool' must be a response to a preceding message with 'tool_calls'.`},
		{chat, talk(user, call, answer, answer), `"param":"messages[3].role"`},
		{chat, talk(user, call), `The following tool_call_ids did not have response messages: a, b"`},
		{chat, talk(user, call, answer, user, late), `The following tool_call_ids did not have response messages: b"`},
		{chat, talk(user, call, answer, `{"role":"assistant","content":"x"}`, late), `did not have response messages: b"`},
		{chat, talk(user, call, answer, `{"role":"system","content":"x"}`, late), `did not have response messages: b"`},
		{chat, talk(user, call, `{"role":"tool","content":"x"}`), `Missing required parameter: 'messages[2].tool_call_id'.`},
		{chat, talk(user, call, `{"role":"tool","tool_call_id":"a"}`), `Missing required parameter: 'messages[2].content'.`},
		{chat, content(`[]`), `Invalid 'messages[0].content': empty.`},
		{chat, content(`[{"type":"input_audio","input_audio":{}}]`), `Invalid value for 'messages[0].content[0].type': 'input_audio'. Supported values are: 'text', 'image_url'.`},
		{chat, content(`[{"type":"text"}]`), `Missing required parameter: 'messages[0].content[0].text'.`},
		{chat, content(`["Hi"]`), `Invalid type for 'messages[0].content[0]': expected object.`},
		{chat, content(`[{"text":"Hi"}]`), `Missing required parameter: 'messages[0].content[0].type'.`},
		{chat, content(`[{"type":1}]`), `Invalid type for 'messages[0].content[0].type': expected string.`},
		{chat, content(`[{"type":"image_url","image_url":"https://example.com"}]`), `Invalid type for 'messages[0].content[0].image_url': expected object.`},
		{chat, content(`[{"type":"image_url","image_url":{}}]`), `Missing required parameter: 'messages[0].content[0].image_url.url'.`},
		{chat, content(`[{"type":"image_url","image_url":{"url":"a.png"}}]`), `"code":"invalid_image_url"`},
		{chat, content(`[{"type":"image_url","image_url":{"url":"data:image/png;base64,!"}}]`), `"code":"invalid_image_url"`},
		{chat, content(`[{"type":"image_url","image_url":{"url":"data:text/plain;base64,aGk="}}]`), `"code":"invalid_image_url"`},
		{chat, talk(`{"role":"system","content":[{"type":"image_url","image_url":{"url":"https://example.com"}}]}`), `Invalid value for 'messages[0].content[0].type': 'image_url'. Supported values are: 'text'.`},

		{messages, `,`, `{"type":"error","error":{"type":"invalid_request_error","message":"The request body is not valid JSON."},"request_id":"req_1"}`},
		{messages, `,"frobnicate":1`, `"frobnicate: Extra inputs are not permitted"`},
		{messages, `,"response_format":{"type":"text"}`, `"response_format: Extra inputs are not permitted"`},
		{messages, `,"model":""`, `"model: Input should not be empty"`},
		{messages, talk(), `"messages: Input should not be empty"`},
		{messages, `,"max_tokens":0`, `"max_tokens: Input should be greater than or equal to 1, is 0"`},
		{messages, `,"max_tokens":null`, `"max_tokens: Input should be a valid integer"`},
		{messages, `,"temperature":1.1`, `"temperature: Input should be less than or equal to 1, is 1.1"`},
		{messages, `,"temperature":-0.1`, `"temperature: Input should be greater than or equal to 0, is -0.1"`},
		{messages, `,"top_p":2`, `"top_p: Input should be less than or equal to 1, is 2"`},
		{messages, `,"top_k":-1`, `"top_k: Input should be greater than or equal to 0, is -1"`},
		{messages, `,"stop_sequences":[" "]`, `stop_sequences: each stop sequence must contain non-whitespace`},
		{messages, `,"stop_sequences":"x"`, `"stop_sequences: Input should be a valid array of strings"`},
		{messages, `,"system":null`, `"system: Input should be a valid string or array"`},
		{messages, `,"system":[{"type":"text","text":""}]`, `"system.0: text content blocks must contain non-whitespace text"`},
		{messages, tools(plain + `,` + plain), `Tool names must be unique.`},
		{messages, tools(`{"name":"a.b","input_schema":{"type":"object"}}`), `"tools.0.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"`},
		{messages, tools(`{"name":"f"}`), `"tools.0.input_schema: Field required"`},
		{messages, tools(`{"name":"f","input_schema":{}}`), `"tools.0.input_schema.type: Field required"`},
		{messages, tools(`{"name":"f","parameters":{"type":"object"}}`), `"tools.0.parameters: Extra inputs are not permitted"`},
		{messages, tools(`{"name":"web_search","type":"web_search_20250305","input_schema":{"type":"object"}}`), `"tools.0.type: Input 'web_search_20250305' should be one of 'custom'"`},
		{messages, `,"tool_choice":{"type":"auto"}`, `tool_choice: may only be specified while providing tools`},
		{messages, tools(plain) + `,"tool_choice":"auto"`, `"tool_choice: Input should be a valid object"`},
		{messages, tools(plain) + `,"tool_choice":{"type":"required"}`, `"tool_choice.type: Input 'required' should be one of 'any', 'auto', 'none', 'tool'"`},
		{messages, tools(plain) + `,"tool_choice":{"type":"tool","name":"g"}`, `tool_choice: Tool 'g' not found in provided tools`},
		{messages, talk(`{"content":"Hi"}`), `"messages.0.role: Field required"`},
		{messages, talk(`{"role":"user"}`), `"messages.0.content: Field required"`},
		{messages, talk(`{"role":"user","content":"Hi","name":"bob"}`), `"messages.0.name: Extra inputs are not permitted"`},
		{messages, talk(`{"role":"system","content":"Hi"}`), `"messages.0.role: Input 'system' should be one of 'assistant', 'user'"`},
		{messages, talk(`{"role":"assistant","content":"Hi"}`, user), `messages: first message must use the \"user\" role`},
		{messages, content(`""`), `messages.0: all messages must have non-empty content except for the optional final assistant message`},
		{messages, content(`[]`), `messages.0: all messages must have non-empty content`},
		{messages, content(`null`), `"messages.0.content: Input should be a valid string or array"`},
		{messages, talk(user, `{"role":"assistant","content":""}`, user), `messages.1: all messages must have non-empty content`},
		{messages, talk(user, `{"role":"assistant","content":"So "}`), `messages: final assistant content cannot end with trailing whitespace`},
		{messages, content(`[{"type":"text","text":" "}]`), `"messages.0.content.0: text content blocks must contain non-whitespace text"`},
		{messages, content(`[{"type":"text"}]`), `"messages.0.content.0.text: Field required"`},
		{messages, content(`[{"type":"document","source":{}}]`), `"messages.0.content.0.type: Input 'document' should be one of 'text', 'image', 'tool_result'"`},
		{messages, content(`[{"type":"image_url","image_url":{"url":"https://example.com"}}]`), `"messages.0.content.0.type: Input 'image_url' should be`},
		{messages, content(`[{"type":"image"}]`), `"messages.0.content.0.source: Field required"`},
		{messages, content(`[{"type":"image","source":{"type":"file","file_id":"x"}}]`), `"messages.0.content.0.source.type: Input 'file' should be one of 'base64', 'url'"`},
		{messages, content(`[{"type":"image","source":{"type":"base64","data":"aGk="}}]`), `"messages.0.content.0.source.media_type: Field required"`},
		{messages, content(`[{"type":"image","source":{"type":"base64","media_type":"image/bmp","data":"aGk="}}]`), `"messages.0.content.0.source.media_type: Input 'image/bmp' should be one of`},
		{messages, content(`[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"data:image/png;base64,aGk="}}]`), `source.data: Input should be valid base64`},
		{messages, content(`[{"type":"image","source":{"type":"url","url":"http://example.com/a.png"}}]`), `Only HTTPS URLs are supported.`},
		{messages, content(`[{"type":"tool_use","id":"a","name":"f","input":{}}]`), `"messages.0.content.0.type: Input 'tool_use' should be`},
		{messages, talk(user, strings.Replace(use, `"input":{}`, `"input":"{}"`, 1), both), `"messages.1.content.0.input: Input should be a valid object"`},
		{messages, talk(user, strings.Replace(use, `"id":"a"`, `"id":"a b"`, 1), both), `"messages.1.content.0.id: String should match pattern`},
		{messages, talk(user, strings.Replace(use, `"name":"f"`, `"name":"a b"`, 1), both), `"messages.1.content.0.name: String should match pattern`},
		{messages, talk(user, strings.ReplaceAll(use, `"b"`, `"a"`), both), "messages.1: `tool_use` ids must be unique"},
		{messages, talk(user, use, both, use, both), "messages.3: `tool_use` ids must be unique"},
		{messages, talk(user, use), "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: a, b."},
		{messages, talk(user, use, user, both), "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: a, b."},
		{messages, talk(user, use, `{"role":"user","content":[{"type":"tool_result","tool_use_id":"b"}]}`, `{"role":"user","content":[{"type":"tool_result","tool_use_id":"a"}]}`), "`tool_result` blocks immediately after: a."},
		{messages, talk(user, both), "messages.1.content.0: unexpected `tool_use_id` found in `tool_result` blocks: a."},
		{messages, talk(user, use, both, both), "messages.3.content.0: unexpected `tool_use_id`"},
		{messages, talk(user, use, strings.Replace(both, `{"type"`, `{"type":"tool_result","tool_use_id":"a"},{"type"`, 1)), "messages.2.content.1: each tool_use must have a single result."},
		{messages, talk(user, use, strings.Replace(both, `{"type"`, `{"type":"text","text":"x"},{"type"`, 1)), "messages.2.content.1: `tool_result` blocks must come before all other content"},
		{messages, talk(user, use, strings.Replace(both, `"tool_use_id":"b"`, `"tool_use_id":"b","is_error":true`, 1)), "messages.2.content.1: content cannot be empty if `is_error` is true"},
		{messages, talk(user, use, strings.Replace(both, `"tool_use_id":"b"`, `"id":"b"`, 1)), `"messages.2.content.1.id: Extra inputs are not permitted"`},
		{messages, talk(user, use, `{"role":"tool","content":"x"}`), `"messages.2.role: Input 'tool' should be one of 'assistant', 'user'"`},
	} {
		t.Run(tc.path+" "+tc.settings, func(t *testing.T) {
			s := llmtest.New(t, func(llmtest.Request) llmtest.Reply {
				t.Error("it was answered")
				return llmtest.Reply{}
			})
			status, got := post(t, s, tc.path, question(tc.path, tc.settings))
			if status != http.StatusBadRequest || !strings.Contains(got, tc.want) || !strings.Contains(got, `"type":"invalid_request_error"`) {
				t.Errorf("%d %s\nwant %s", status, got, tc.want)
			}
			if len(s.Requests()) != 1 {
				t.Errorf("it is not among the requests: %v", s.Requests())
			}
		})
	}
}

func TestRefusesHeadersAndBodies(t *testing.T) {
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, tc := range []struct {
		path, body string
		edit       func(*http.Request)
		want       string
	}{
		{chat, question(chat, ``), set("Content-Type", "text/plain"), `Invalid Content-Type header (text/plain), expected application/json.`},
		{messages, question(messages, ``), set("Content-Type", ""), `Invalid Content-Type header`},
		{messages, question(messages, ``), set("Anthropic-Version", ""), `anthropic-version: header is required`},
		{messages, question(messages, ``), set("Anthropic-Version", "1"), `anthropic-version: \"1\" is not a valid version`},
		{chat, `{"model":"m"}`, nil, `Missing required parameter: 'messages'.`},
		{chat, `{"messages":[{"role":"user","content":"Hi"}]}`, nil, `Missing required parameter: 'model'.`},
		{chat, `[]`, nil, `We could not parse`},
		{chat, ``, nil, `We could not parse`},
		{messages, `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`, nil, `"max_tokens: Field required"`},
		{messages, `{"model":"m","max_tokens":1}`, nil, `"messages: Field required"`},
		{messages, `{"max_tokens":1,"messages":[{"role":"user","content":"Hi"}]}`, nil, `"model: Field required"`},
		{messages, `null`, nil, `The request body is not valid JSON.`},
	} {
		s := llmtest.New(t, replies(llmtest.Reply{}))
		if tc.edit == nil {
			tc.edit = func(*http.Request) {}
		}
		if status, got := post(t, s, tc.path, tc.body, tc.edit); status != http.StatusBadRequest || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %d %s\nwant %s", tc.body, status, got, tc.want)
		}
	}
}
