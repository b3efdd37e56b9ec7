package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"turbocat.io/contracts/runner"
)

// counted serves numbers from 1 to last, three on a page, in each of the ways in which servers do.
func counted(t *testing.T, last int) *httptest.Server {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.Header.Get("X-Key") != "k" || q.Get("size") != "3" {
			http.Error(w, "no key, or no size", http.StatusUnauthorized)
			return
		}
		from, _ := strconv.Atoi(q.Get("from"))
		if n, err := strconv.Atoi(q.Get("page")); err == nil {
			from = (n - 1) * 3
		}
		items := []int{}
		for n := from + 1; n <= min(from+3, last); n++ {
			items = append(items, n)
		}
		next := fmt.Sprintf("?from=%d&size=3", from+3)
		w.Header().Set("Content-Type", "application/json")
		body := map[string]any{"data": map[string]any{"items": items}, "meta": map[string]any{}}
		if from+3 < last {
			w.Header().Add("Link", `</first>; rel="first", <`+next+`>; title="a, \"b\"; c"; rel="prefetch next"`)
			body["meta"] = map[string]any{"cursor": from + 3, "url": "http://" + r.Host + r.URL.Path + next}
		}
		if r.URL.Path == "/bare" {
			_ = json.NewEncoder(w).Encode(items)
			return
		}
		_ = json.NewEncoder(w).Encode(body)
	})
}

func TestPages(t *testing.T) {
	const items = `,"itemsPath":"data.items"`
	for name, c := range map[string]struct {
		path, pagination string
		last             int
		body             string
		pages            int
		more             bool
	}{
		"links":               {"/bare", `{"type":"link"}`, 7, "[1,2,3,4,5,6,7]", 3, false},
		"links to items":      {"/", `{"type":"link"` + items + `}`, 7, "[1,2,3,4,5,6,7]", 3, false},
		"one page":            {"/bare", `{"type":"link"}`, 2, "[1,2]", 1, false},
		"no items":            {"/bare", `{"type":"link"}`, 0, "[]", 1, false},
		"a cursor":            {"/", `{"type":"cursor","cursorPath":"meta.cursor","param":"from"` + items + `}`, 7, "[1,2,3,4,5,6,7]", 3, false},
		"a URL":               {"/", `{"type":"cursor","cursorPath":"meta.url"` + items + `}`, 7, "[1,2,3,4,5,6,7]", 3, false},
		"numbers":             {"/", `{"type":"page"` + items + `}`, 6, "[1,2,3,4,5,6]", 3, false},
		"as many as may be":   {"/bare", `{"type":"link","maxPages":2}`, 7, "[1,2,3,4,5,6]", 2, true},
		"just as many":        {"/bare", `{"type":"link","maxPages":3}`, 7, "[1,2,3,4,5,6,7]", 3, false},
		"ten when not said":   {"/bare", `{"type":"link"}`, 100, "", 10, true},
		"from 0, which is -3": {"/", `{"type":"page","param":"page","start":0` + items + `}`, 3, "[-2,-1,0,1,2,3]", 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := counted(t, c.last)
			raw, err := local(t).Run(context.Background(), task(s, `{"url":"@`+c.path+`?size=3","headers":{"X-Key":"k"},"pagination":`+c.pagination+`}`, `{}`))
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Status int
				Body   json.RawMessage
				Pages  int
				More   bool
				Timing *struct{ TotalMs float64 }
			}
			if err := json.Unmarshal(raw, &got); err != nil || got.Status != 200 || c.body != "" && string(got.Body) != c.body || got.Pages != c.pages || got.More != c.more || got.Timing == nil {
				t.Errorf("it gives %s", raw)
			}
		})
	}
}

func TestPagesThatGoAstray(t *testing.T) {
	other := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("another host is asked") })
	for name, c := range map[string]struct{ link, body, pagination, code, message string }{
		"another host":     {other.URL + "/x", `[]`, `{"type":"link"}`, runner.CodeInvalidOutput, "page 1: the next one is at another host"},
		"another scheme":   {"https://HOST/x", `[]`, `{"type":"link"}`, runner.CodeInvalidOutput, "is at another host"},
		"a user":           {"http://u:p@HOST/x", `[]`, `{"type":"link"}`, runner.CodeInvalidOutput, "is at another host"},
		"a file":           {"file:///etc/passwd", `[]`, `{"type":"link"}`, runner.CodeInvalidOutput, "is at another host"},
		"no URL":           {":x", `[]`, `{"type":"link"}`, runner.CodeInvalidOutput, "is no URL"},
		"itself":           {"/", `[]`, `{"type":"link"}`, runner.CodeInvalidOutput, "is this page again"},
		"a cursor's host":  {"", `{"items":[],"next":"` + other.URL + `"}`, `{"type":"cursor","cursorPath":"next","itemsPath":"items"}`, runner.CodeInvalidOutput, "is at another host"},
		"no array":         {"", `{"items":{}}`, `{"type":"link","itemsPath":"items"}`, runner.CodeInvalidOutput, "page 1: items in the body is an object, not an array"},
		"no items":         {"", `{}`, `{"type":"link","itemsPath":"items"}`, runner.CodeInvalidOutput, "there is no items in the body"},
		"no array at all":  {"", `{}`, `{"type":"link"}`, runner.CodeInvalidOutput, "the body is an object"},
		"too much of them": {"/?n=", `["` + strings.Repeat("x", 700<<10) + `"]`, `{"type":"link","maxPages":100}`, runner.CodeOutputLimit, "pages have together"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked++
				if link := strings.ReplaceAll(c.link, "HOST", r.Host); link != "" {
					if strings.HasSuffix(link, "=") {
						link += strconv.Itoa(asked)
					}
					w.Header().Set("Link", "<"+link+">; rel=next")
				}
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(c.body))
			})
			_, err := local(t).Run(context.Background(), task(s, `{"url":"@/","pagination":`+c.pagination+`}`, `{}`))
			fails(t, err, c.code, false, c.message)
		})
	}
	// A page that fails is asked for again, and no other.
	asked := ""
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := r.URL.Query().Get("page")
		if asked += n; asked == "12" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(map[string]string{"1": "[1]", "2": "[2]", "3": "[]"}[n]))
	})
	raw, err := local(t).Run(context.Background(), task(s, `{"url":"@/","responseType":"json","retry":{"count":1,"delayMs":1},"pagination":{"type":"page"}}`, `{}`))
	if err != nil || asked != "1223" || !strings.Contains(string(raw), `"body":[1,2],"pages":3,"more":false`) {
		t.Errorf("it gives %s, %v; it asked for %s", raw, err, asked)
	}
}

func TestParsePagination(t *testing.T) {
	for config, want := range map[string]string{
		`{"url":"http://x","pagination":{"type":"cursor","cursorPath":"a[0].b","param":"c","itemsPath":"d"}}`: "",
		`{"url":"http://x","pagination":null}`:                                                                    "",
		`{"url":"http://x","pagination":{}}`:                                                                      "pagination.type",
		`{"url":"http://x","pagination":{"type":"offset"}}`:                                                       "pagination.type",
		`{"url":"http://x","pagination":{"type":"cursor"}}`:                                                       "pagination.cursorPath",
		`{"url":"http://x","method":"POST","pagination":{"type":"link","param":"x","maxPages":101}}`:              "method|pagination.maxPages|pagination.param",
		`{"url":"http://x","responseType":"text","pagination":{"type":"page","itemsPath":"a b","start":2,"x":1}}`: "pagination.itemsPath|pagination.start|pagination.x|responseType",
		`{"url":"http://x","pagination":{"type":"cursor","cursorPath":"a}}{{b","itemsPath":"a.."}}`:               "pagination.cursorPath|pagination.itemsPath",
	} {
		_, faults := parse(json.RawMessage(config))
		var got []string
		for _, fault := range faults.All() {
			got = append(got, fault.Path)
		}
		for _, path := range strings.Split(want, "|") {
			if path != "" && !strings.Contains("|"+strings.Join(got, "|")+"|", "|"+path+"|") {
				t.Errorf("%s has the faults %v, want %s", config, got, want)
			}
		}
		if want == "" && len(got) > 0 || len(got) != len(strings.FieldsFunc(want, func(r rune) bool { return r == '|' })) {
			t.Errorf("%s has the faults %v, want %s", config, got, want)
		}
	}
}

func FuzzNextLink(f *testing.F) {
	for _, s := range []string{`<a>; rel="next"`, `<a>;rel=next, <b>`, `<`, `<a>; x="\"`, `<a>;;;rel`, `, ,<>;rel="next"`, `<a>; rel="prev"; rel="next"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if target := nextLink(http.Header{"Link": {text}}); target != "" && !strings.Contains(text, "<"+target+">") {
			t.Errorf("%q has the link %q", text, target)
		}
	})
}

func TestNextLink(t *testing.T) {
	for text, want := range map[string]string{
		`<a>; rel="next"`: "a", `<a>;rel=next, <b>`: "a", `<a>; rel="prev", <b>; rel=NEXT`: "b", `<a>; rel="prev"; rel="next"`: "", // the first rel counts
		`<a>; title="x; rel=next"`: "", `<a>; rel="x next y"`: "a", `<`: "", `a; rel=next`: "", `<a>`: "", "": "", `<a,b>; rel=next`: "a,b",
	} {
		if got := nextLink(http.Header{"Link": {text}}); got != want {
			t.Errorf("%q has the link %q, want %q", text, got, want)
		}
	}
}
