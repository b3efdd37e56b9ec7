package httpapi

import (
	"strconv"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"turbocat.io/contracts/errs"
)

func FuzzLastEventID(f *testing.F) {
	f.Add("", "")
	f.Add("17", "")
	f.Add("", "17")
	app := fiber.New()
	f.Fuzz(func(t *testing.T, header, query string) {
		var request fasthttp.RequestCtx
		request.Request.Header.Set("Last-Event-ID", header)
		request.QueryArgs().Set("lastEventId", query)
		c := app.AcquireCtx(&request)
		defer app.ReleaseCtx(c)
		given := c.Get("Last-Event-ID") // as a server reads it
		if given == "" {
			given = query
		}
		seq, err := lastEventID(c)
		want, bad := strconv.ParseUint(given, 10, 64)
		switch {
		case given == "":
			if seq != 0 || err != nil {
				t.Errorf("nothing given: %d, %v", seq, err)
			}
		case bad != nil || want>>63 != 0:
			if errs.CodeOf(err) != errs.Validation || seq != 0 {
				t.Errorf("%q: %d, %v", given, seq, err)
			}
		case seq != want || err != nil:
			t.Errorf("%q: %d, %v", given, seq, err)
		}
	})
}
