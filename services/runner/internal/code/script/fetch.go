package script

import (
	"errors"
	"slices"

	"github.com/grafana/sobek"
)

// Bounds of what an attempt may fetch.
const (
	MaxFetches       = 1000
	MaxFetchesAtOnce = 8       // what is beyond waits
	MaxFetchBody     = 8 << 20 // of a request or a response
)

// Request is one call of fetch.
type Request struct {
	ID       uint32      `json:"id"`
	Method   string      `json:"method"`
	URL      string      `json:"url"`
	Headers  [][2]string `json:"headers"`
	Redirect string      `json:"redirect"` // follow, manual or error
	Body     []byte      `json:"-"`
}

// Response is what came of the request with the ID. Each has one, whatever became of it.
type Response struct {
	ID         uint32      `json:"id"`
	Error      string      `json:"error,omitempty"` // why there is none; "" when there is
	Status     int         `json:"status,omitempty"`
	StatusText string      `json:"statusText,omitempty"`
	URL        string      `json:"url,omitempty"` // of the last hop
	Redirected bool        `json:"redirected,omitempty"`
	Headers    [][2]string `json:"headers,omitempty"`
	Body       []byte      `json:"-"`
}

// Network is who fetches for the code, which can reach nobody by itself.
type Network struct {
	Send      func(Request) error
	Abort     func(id uint32) error
	Responses func() <-chan Response // is called when the code fetches for the first time
}

var errNoNetwork = errors.New("who fetches is gone")

// fetches are the calls of fetch of a script.
type fetches struct {
	network   Network
	responses <-chan Response // nil before the first
	lastID    uint32
	waiting   []Request
	atWork    map[uint32]bool           // sent and not answered
	settle    map[uint32]sobek.Callable // of all that the code waits for
}

// fetch takes a request, and the function that its answer, or an error, is given to. It gives the request's ID.
func (h *host) fetch(call sobek.FunctionCall) sobek.Value {
	f := &h.fetches
	if f.lastID == MaxFetches {
		panic(h.vm.NewTypeError("an attempt may fetch %d times; fetch more at a time, or split the work into several steps", MaxFetches))
	}
	if f.responses == nil {
		f.responses = f.network.Responses()
		f.atWork, f.settle = map[uint32]bool{}, map[uint32]sobek.Callable{}
	}
	f.lastID++
	r := Request{ID: f.lastID, Method: call.Argument(0).String(), URL: call.Argument(1).String(), Redirect: call.Argument(3).String()}
	_ = h.vm.ExportTo(call.Argument(2), &r.Headers) // platform.js made it
	if body, ok := call.Argument(4).Export().(sobek.ArrayBuffer); ok {
		r.Body = body.Bytes()
	}
	if len(r.Body) > MaxFetchBody {
		panic(h.vm.NewTypeError("the body of a request may have %d bytes, not %d", MaxFetchBody, len(r.Body)))
	}
	f.settle[r.ID], _ = sobek.AssertFunction(call.Argument(5))
	f.waiting = append(f.waiting, r)
	if err := f.send(); err != nil {
		panic(h.vm.NewTypeError("fetch: %s", err))
	}
	return h.vm.ToValue(r.ID)
}

// abort forgets a request of which the code wants to know nothing any more.
func (h *host) abort(call sobek.FunctionCall) sobek.Value {
	f := &h.fetches
	id := uint32(call.Argument(0).ToInteger())
	if f.settle[id] == nil {
		return sobek.Undefined()
	}
	delete(f.settle, id)
	if f.atWork[id] {
		_ = f.network.Abort(id) // who is gone ends the attempt
		return sobek.Undefined()
	}
	f.waiting = slices.DeleteFunc(f.waiting, func(r Request) bool { return r.ID == id })
	return sobek.Undefined()
}

// send sends of what waits as much as may be at work.
func (f *fetches) send() error {
	for len(f.waiting) > 0 && len(f.atWork) < MaxFetchesAtOnce {
		next := f.waiting[0]
		f.waiting = f.waiting[1:]
		f.atWork[next.ID] = true
		if err := f.network.Send(next); err != nil {
			return err
		}
	}
	return nil
}

// pending tells whether an answer is to come.
func (f *fetches) pending() bool { return len(f.atWork) > 0 }

// answered gives a response to the code that waits for it.
func (h *host) answered(r Response) error {
	f := &h.fetches
	delete(f.atWork, r.ID)
	settle := f.settle[r.ID]
	delete(f.settle, r.ID)
	if err := f.send(); err != nil || settle == nil {
		return err
	}
	if r.Error != "" {
		_, err := settle(sobek.Undefined(), h.vm.NewTypeError(r.Error))
		return err
	}
	o := h.vm.NewObject()
	h.set(o, "status", h.vm.ToValue(r.Status))
	h.set(o, "statusText", h.vm.ToValue(r.StatusText))
	h.set(o, "url", h.vm.ToValue(r.URL))
	h.set(o, "redirected", h.vm.ToValue(r.Redirected))
	headers := make([]any, len(r.Headers))
	for i, pair := range r.Headers {
		headers[i] = h.vm.NewArray(pair[0], pair[1])
	}
	h.set(o, "headers", h.vm.NewArray(headers...))
	_, err := settle(sobek.Undefined(), sobek.Undefined(), o, h.vm.ToValue(h.vm.NewArrayBuffer(r.Body)))
	return err
}
