package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/rawjson"
)

const (
	bodyLimit        = 1 << 20
	executeBodyLimit = 64 << 20
	// A body that nobody wants is read and dropped up to drainLimit, so that the client sees the answer.
	drainLimit   = 128 << 20
	drainTimeout = 10 * time.Second
	// So are headers that are too large.
	drainHeadersLimit   = 1 << 20
	drainHeadersTimeout = time.Second
	// A body may take bodyTimeout, one larger than bodyLimit longer.
	bodyTimeout      = 10 * time.Second
	largeBodyTimeout = 60 * time.Second
)

// readBody reads the body of a route, up to as many bytes as it takes, and puts it back whole.
func readBody(c *fiber.Ctx, r *request, need access) error {
	limit := need.body
	stream := c.Context().RequestBodyStream()
	length := c.Request().Header.ContentLength() // -1 when chunked
	if stream == nil || length == 0 {
		c.Request().SetBodyStream(bytes.NewReader(nil), 0)
		return nil
	}
	if length > limit {
		return tooLarge(limit)
	}
	if err := checkContentType(c, need); err != nil {
		return err
	}
	timeout := bodyTimeout
	if limit > bodyLimit {
		timeout = largeBodyTimeout
	}
	if err := c.Context().Conn().SetReadDeadline(time.Now().Add(timeout)); err != nil {
		r.broken = true
		return errs.Wrap(err, errs.Validation, "the body did not arrive in full; send it again")
	}
	var body bytes.Buffer
	body.Grow(min(max(length, 512), bodyLimit) + bytes.MinRead)
	n, err := body.ReadFrom(io.LimitReader(stream, int64(limit)+1))
	if err != nil {
		r.broken = true
		return errs.Wrap(err, errs.Validation, "the body did not arrive in full; send it again, within %d s", timeout/time.Second)
	}
	if n > int64(limit) {
		return tooLarge(limit)
	}
	c.Request().SetBodyStream(bytes.NewReader(body.Bytes()), body.Len())
	return nil
}

func tooLarge(limit int) error {
	return errs.New(errs.PayloadTooLarge, "the body is larger than %d MiB; send less at once", limit>>20)
}

var yamlTypes = []string{"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"}

// checkContentType accepts JSON, YAML where a route takes it, and a client that does not say what it sends. What passes
// reaches huma as application/json.
func checkContentType(c *fiber.Ctx, need access) error {
	if encoding := c.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return errs.New(errs.UnsupportedMediaType, "a compressed body is not taken; send it without Content-Encoding")
	}
	if need.raw {
		return nil
	}
	if given := c.Get("Content-Type"); given != "" {
		media, _, err := mime.ParseMediaType(given)
		isYAML := need.yaml && slices.Contains(yamlTypes, media)
		if err != nil || !isYAML && media != "application/json" && !(strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json")) {
			return errs.New(errs.UnsupportedMediaType, "the Content-Type is not JSON; send the body as application/json")
		}
	}
	c.Request().Header.SetContentType("application/json")
	return nil
}

// drain reads what is left of the body, for on the connection it would be taken for the next
// request. What is too long or too slow for that costs the connection.
func drain(c *fiber.Ctx, r *request) {
	stream := c.Context().RequestBodyStream()
	if stream == nil {
		return
	}
	if _, whole := stream.(*bytes.Reader); whole {
		return
	}
	if !r.broken && c.Context().Conn().SetReadDeadline(time.Now().Add(drainTimeout)) == nil {
		_, err := io.CopyN(io.Discard, stream, drainLimit)
		if errors.Is(err, io.EOF) {
			return
		}
	}
	c.Context().SetConnectionClose()
}

// drainHeaders reads what is left of headers that are too large. A connection that is closed with something unread in it is
// reset, and the client may lose the answer by that.
func drainHeaders(conn net.Conn) {
	if conn.SetReadDeadline(time.Now().Add(drainHeadersTimeout)) != nil {
		return
	}
	const end = "\r\n\r\n"
	buffer := make([]byte, 16<<10)
	kept := 0 // of the bytes before, for an end that two reads share
	for read := 0; read < drainHeadersLimit; {
		n, err := conn.Read(buffer[kept:])
		if err != nil || bytes.Contains(buffer[:kept+n], []byte(end)) {
			return
		}
		read += n
		last := buffer[max(0, kept+n-len(end)+1) : kept+n]
		kept = copy(buffer, last)
	}
}

// object checks that body is one JSON object, whatever is in it.
func object(body []byte) error {
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	var syntax *json.SyntaxError
	if len(trimmed) == 0 {
		return errs.New(errs.Validation, "the request has no body; send a JSON object")
	}
	var raw json.RawMessage
	if err := json.Unmarshal(body, &raw); errors.As(err, &syntax) {
		return errs.New(errs.Validation, "the body is not valid JSON at byte %d; correct its syntax", syntax.Offset)
	} else if err != nil {
		return errs.Wrap(err, errs.Validation, "the body is not valid JSON; correct its syntax")
	}
	if trimmed[0] != '{' {
		return errs.New(errs.Validation, "the body is not a JSON object; send one")
	}
	// Further in, the body stands inside other JSON, and parsers have their limits.
	if rawjson.Depth(body) > form.MaxDepth {
		return errs.New(errs.Validation, "the body nests deeper than %d levels; make it flatter", form.MaxDepth)
	}
	return nil
}
