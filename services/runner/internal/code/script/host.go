package script

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/grafana/sobek"
	"github.com/grafana/sobek/parser"
)

// MaxLine is the longest line, in bytes, that a Logger is given.
const MaxLine = 64 << 10

const lineCut = "... (line cut at 64 KiB)"

// host is what the code finds around it.
type host struct {
	vm        *sobek.Runtime
	log       Logger
	timers    timers
	fetches   fetches
	rejected  []*sobek.Promise // promises that were rejected and that nothing handles yet
	stringify sobek.Callable   // as it was before the code could change it
	platform  map[string]bool  // names of the platform that the code has taken for itself
}

func newHost(log Logger, network Network) *host {
	vm := sobek.New()
	vm.SetMaxCallStackSize(maxCalls)
	vm.SetParserOptions(parser.WithDisableSourceMaps)
	h := &host{vm: vm, log: log, fetches: fetches{network: network}}
	h.stringify, _ = sobek.AssertFunction(vm.Get("JSON").ToObject(vm).Get("stringify"))
	vm.SetPromiseRejectionTracker(h.trackRejection)

	console := vm.NewObject()
	h.define(console, "log", h.logTo("INFO"))
	h.defineLevels(console)
	h.define(vm.GlobalObject(), "setTimeout", h.setTimeout)
	h.define(vm.GlobalObject(), "clearTimeout", h.clearTimer)
	h.define(vm.GlobalObject(), "setInterval", h.setInterval)
	h.define(vm.GlobalObject(), "clearInterval", h.clearTimer)
	h.addPlatform()
	h.set(vm.GlobalObject(), "console", console)
	return h
}

func (h *host) context(c Context) sobek.Value {
	logger := h.vm.NewObject()
	h.defineLevels(logger)
	object := h.vm.NewObject()
	h.set(object, "executionId", h.vm.ToValue(c.ExecutionID))
	h.set(object, "stepKey", h.vm.ToValue(c.StepKey))
	h.set(object, "attempt", h.vm.ToValue(c.Attempt))
	h.set(object, "idempotencyKey", h.vm.ToValue(c.IdempotencyKey))
	h.set(object, "logger", logger)
	secrets := h.vm.NewObject()
	for _, name := range slices.Sorted(maps.Keys(c.Secrets)) {
		h.set(secrets, name, h.vm.ToValue(c.Secrets[name]))
	}
	h.set(object, "secrets", secrets)
	return object
}

func (h *host) defineLevels(object *sobek.Object) {
	h.define(object, "debug", h.logTo("DEBUG"))
	h.define(object, "info", h.logTo("INFO"))
	h.define(object, "warn", h.logTo("WARN"))
	h.define(object, "error", h.logTo("ERROR"))
}

func (h *host) define(object *sobek.Object, name string, f func(sobek.FunctionCall) sobek.Value) {
	fn := h.vm.ToValue(f).ToObject(h.vm)
	_ = fn.DefineDataProperty("name", h.vm.ToValue(name), sobek.FLAG_FALSE, sobek.FLAG_TRUE, sobek.FLAG_FALSE)
	h.set(object, name, fn)
}

// set makes an own property. It can not fail: the objects are fresh and extensible.
func (h *host) set(object *sobek.Object, name string, value sobek.Value) {
	_ = object.DefineDataProperty(name, value, sobek.FLAG_TRUE, sobek.FLAG_TRUE, sobek.FLAG_TRUE)
}

func (h *host) logTo(level string) func(sobek.FunctionCall) sobek.Value {
	return func(call sobek.FunctionCall) sobek.Value {
		words := make([]string, len(call.Arguments))
		for i, v := range call.Arguments {
			words[i] = h.show(v)
		}
		h.log(level, clip(strings.Join(words, " "), MaxLine, lineCut))
		return sobek.Undefined()
	}
}

// show gives v as a console prints it: text as it is, errors with their stack, data as JSON.
func (h *host) show(v sobek.Value) string {
	object, ok := v.(*sobek.Object)
	if !ok {
		return v.String()
	}
	if object.ClassName() == "Error" {
		fault := h.describe(v)
		if fault.Stack != "" {
			return fault.Stack
		}
		return fault.Type + ": " + fault.Message
	}
	if _, ok := sobek.AssertFunction(v); ok {
		return "[function]"
	}
	text := "[object]"
	_ = h.vm.Try(func() {
		if json, err := h.stringify(sobek.Undefined(), v); err == nil && sobek.IsString(json) {
			text = json.String()
		}
	})
	return text
}

// clip cuts text to at most limit bytes, of which the last are mark, and between characters.
func clip(text string, limit int, mark string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= limit {
		return text
	}
	end := limit - len(mark)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + mark
}
