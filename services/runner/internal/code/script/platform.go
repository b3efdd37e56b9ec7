package script

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the standard has it, and authors compare with what others made
	"crypto/sha256"
	"crypto/sha512"
	_ "embed"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/grafana/sobek"
	whatwg "github.com/nlnwa/whatwg-url/url"
)

//go:embed platform.js
var platformSource string

// platformNames are the globals that platform.js gives.
var platformNames = []string{
	"AbortController", "AbortSignal", "DOMException", "Headers", "Response", "TextDecoder", "TextEncoder", "URL", "URLSearchParams",
	"atob", "btoa", "crypto", "fetch", "queueMicrotask", "structuredClone",
}

// addPlatform makes the names of the platform global. What is behind them is made when the first is used: most code uses none.
func (h *host) addPlatform() {
	global := h.vm.GlobalObject()
	for _, name := range platformNames {
		get := h.vm.ToValue(func(sobek.FunctionCall) sobek.Value {
			h.makePlatform()
			return global.Get(name)
		})
		set := h.vm.ToValue(func(call sobek.FunctionCall) sobek.Value {
			_ = global.DefineDataProperty(name, call.Argument(0), sobek.FLAG_TRUE, sobek.FLAG_TRUE, sobek.FLAG_FALSE)
			h.platform[name] = true
			return sobek.Undefined()
		})
		_ = global.DefineAccessorProperty(name, get, set, sobek.FLAG_TRUE, sobek.FLAG_FALSE)
	}
	h.platform = map[string]bool{}
}

// makePlatform runs platform.js, whose names become what they mean, but for those that the code has taken for itself.
func (h *host) makePlatform() {
	program, err := h.vm.RunScript("platform.js", platformSource)
	if err != nil {
		panic(fmt.Sprintf("platform.js: %v", err)) // it is part of ours
	}
	call, _ := sobek.AssertFunction(program)
	made, err := call(sobek.Undefined(), h.native())
	if err != nil { // the code has changed what it stands on
		panic(h.vm.NewTypeError("this global can not be made any more: %s", err))
	}
	for _, name := range platformNames {
		if !h.platform[name] {
			_ = h.vm.GlobalObject().DefineDataProperty(name, made.ToObject(h.vm).Get(name), sobek.FLAG_TRUE, sobek.FLAG_TRUE, sobek.FLAG_FALSE)
		}
	}
}

// native is what platform.js has done in Go. Each gives undefined for what can not be done.
func (h *host) native() *sobek.Object {
	o := h.vm.NewObject()
	text := func(call sobek.FunctionCall, n int) string { return call.Argument(n).String() }
	bytes := func(call sobek.FunctionCall, n int) []byte {
		return call.Argument(n).Export().(sobek.ArrayBuffer).Bytes()
	}
	buffer := func(b []byte) sobek.Value { return h.vm.ToValue(h.vm.NewArrayBuffer(b)) }
	for name, f := range map[string]func(sobek.FunctionCall) sobek.Value{
		"encodeUTF8": func(call sobek.FunctionCall) sobek.Value {
			return buffer([]byte(strings.ToValidUTF8(text(call, 0), "\uFFFD")))
		},
		"wellFormed": func(call sobek.FunctionCall) sobek.Value {
			return h.vm.ToValue(strings.ToValidUTF8(text(call, 0), "\uFFFD"))
		},
		"decodeUTF8": func(call sobek.FunctionCall) sobek.Value {
			b := bytes(call, 0)
			if call.Argument(1).ToBoolean() && !utf8.Valid(b) {
				return sobek.Undefined()
			}
			return h.vm.ToValue(replaceInvalid(b))
		},
		"encodeBase64": func(call sobek.FunctionCall) sobek.Value {
			return h.vm.ToValue(base64.StdEncoding.EncodeToString(bytes(call, 0)))
		},
		"decodeBase64": func(call sobek.FunctionCall) sobek.Value {
			b, err := base64.RawStdEncoding.DecodeString(unpadded(text(call, 0)))
			if err != nil {
				return sobek.Undefined()
			}
			return buffer(b)
		},
		"randomUUID": func(sobek.FunctionCall) sobek.Value { return h.vm.ToValue(uuid.NewString()) },
		"random": func(call sobek.FunctionCall) sobek.Value {
			b := make([]byte, call.Argument(0).ToInteger())
			_, _ = rand.Read(b) // it never fails
			return buffer(b)
		},
		"digest":   func(call sobek.FunctionCall) sobek.Value { return h.digest(text(call, 0), bytes(call, 1)) },
		"parseURL": func(call sobek.FunctionCall) sobek.Value { return h.parseURL(text(call, 0), call.Argument(1)) },
		"changeURL": func(call sobek.FunctionCall) sobek.Value {
			return h.changeURL(text(call, 0), text(call, 1), text(call, 2))
		},
		"fetch":      h.fetch,
		"abort":      h.abort,
		"setTimeout": h.setTimeout,
		"parseForm":  func(call sobek.FunctionCall) sobek.Value { return h.parseForm(text(call, 0)) },
		"formatForm": func(call sobek.FunctionCall) sobek.Value { return h.formatForm(call.Argument(0)) },
	} {
		h.set(o, name, h.vm.ToValue(f))
	}
	return o
}

func (h *host) digest(name string, data []byte) sobek.Value {
	var sum []byte
	switch name {
	case "SHA-1":
		s := sha1.Sum(data) //nolint:gosec // as above
		sum = s[:]
	case "SHA-256":
		s := sha256.Sum256(data)
		sum = s[:]
	case "SHA-384":
		s := sha512.Sum384(data)
		sum = s[:]
	case "SHA-512":
		s := sha512.Sum512(data)
		sum = s[:]
	default:
		return sobek.Undefined()
	}
	return h.vm.ToValue(h.vm.NewArrayBuffer(sum))
}

// unpadded gives base64 without its padding. What is padded wrong stays, and is none then.
func unpadded(text string) string {
	if len(text)%4 != 0 {
		return text
	}
	return strings.TrimSuffix(strings.TrimSuffix(text, "="), "=")
}

// replaceInvalid gives bytes as text, with a replacement character for each longest part of a character that is cut, as the Encoding Standard has it.
func replaceInvalid(b []byte) string {
	var text strings.Builder
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size == 1 {
			size = cutCharacter(b)
		}
		text.WriteRune(r)
		b = b[size:]
	}
	return text.String()
}

// cutCharacter gives how many of the bytes, of which the first begins no character that is whole, may begin one.
func cutCharacter(b []byte) int {
	for n := min(len(b), utf8.UTFMax-1); n > 1; n-- {
		// What may go on is no full rune yet.
		if !utf8.FullRune(b[:n]) {
			return n
		}
	}
	return 1
}

func (h *host) parseURL(text string, base sobek.Value) sobek.Value {
	var u *whatwg.Url
	var err error
	if sobek.IsNull(base) {
		u, err = whatwg.Parse(text)
	} else {
		u, err = whatwg.ParseRef(base.String(), text)
	}
	if err != nil {
		return sobek.Undefined()
	}
	return h.urlParts(u)
}

// changeURL sets a part of a URL. A value that can not be one changes nothing, as the URL Standard has it.
func (h *host) changeURL(href, part, value string) sobek.Value {
	u, err := whatwg.Parse(href)
	if err != nil {
		return sobek.Undefined()
	}
	map[string]func(string){
		"protocol": u.SetProtocol, "username": u.SetUsername, "password": u.SetPassword, "host": u.SetHost, "hostname": u.SetHostname,
		"port": u.SetPort, "pathname": u.SetPathname, "search": u.SetSearch, "hash": u.SetHash,
	}[part](value)
	return h.urlParts(u)
}

func (h *host) urlParts(u *whatwg.Url) sobek.Value {
	origin := "null"
	if u.IsSpecialScheme() && u.Scheme() != "file" {
		origin = u.Protocol() + "//" + u.Host()
	}
	o := h.vm.NewObject()
	for name, value := range map[string]string{
		"href": u.Href(false), "origin": origin, "protocol": u.Protocol(), "username": u.Username(), "password": u.Password(), "host": u.Host(),
		"hostname": u.Hostname(), "port": u.Port(), "pathname": u.Pathname(), "search": u.Search(), "hash": u.Hash(),
	} {
		h.set(o, name, h.vm.ToValue(value))
	}
	return o
}

// parseForm gives the pairs of application/x-www-form-urlencoded. Nothing is wrong in it: a % that escapes nothing is one.
func (h *host) parseForm(text string) sobek.Value {
	pairs := []any{}
	for part := range strings.SplitSeq(text, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		pairs = append(pairs, h.vm.NewArray(unescapeForm(name), unescapeForm(value)))
	}
	return h.vm.NewArray(pairs...)
}

func unescapeForm(text string) string {
	b := []byte(strings.ReplaceAll(text, "+", " "))
	out := b[:0]
	for i := 0; i < len(b); i++ {
		if b[i] == '%' && i+2 < len(b) {
			if c, err := url.PathUnescape(string(b[i : i+3])); err == nil {
				out = append(out, c...)
				i += 2
				continue
			}
		}
		out = append(out, b[i])
	}
	return replaceInvalid(out)
}

// formEscapes are where the URL Standard differs from package url.
var formEscapes = strings.NewReplacer("~", "%7E", "%2A", "*")

func (h *host) formatForm(list sobek.Value) sobek.Value {
	var pairs [][]string
	_ = h.vm.ExportTo(list, &pairs)
	var text strings.Builder
	for i, pair := range pairs {
		if i > 0 {
			text.WriteByte('&')
		}
		text.WriteString(formEscapes.Replace(url.QueryEscape(pair[0])) + "=" + formEscapes.Replace(url.QueryEscape(pair[1])))
	}
	return h.vm.ToValue(text.String())
}
