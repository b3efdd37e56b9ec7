package fieldpath_test

import (
	"slices"
	"strings"
	"testing"

	"turbocat.io/pkg/fieldpath"
)

func TestParse(t *testing.T) {
	for text, want := range map[string][]string{
		".": nil, "a": nil, "ä b": nil, "a]b": nil, "a*": nil,
		"a.b": {"a", "b"}, "a.0.b": {"a", "0", "b"}, "a[0]": {"a", "0"}, "[0]": {"0"}, "[0][1].b": {"0", "1", "b"},
		"a.b[12][3].c": {"a", "b", "12", "3", "c"}, "{": {"{"}, "a}.{b": {"a}", "{b"}, "a.b]": {"a", "b]"},
		"[999999999]": {"999999999"}, strings.Repeat("a.", 31) + "a": slices.Repeat([]string{"a"}, 32),
	} {
		p, err := fieldpath.Parse(text)
		if err != nil || p.Text != text || !slices.Equal(p.Parts, want) || p.Indexed != strings.Contains(text, "[") {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
	for text, want := range map[string]string{
		"": "must not be empty", "a..b": "is no path", ".a": "is no path", "a.": "is no path", "..": "is no path",
		"a[": "is no path", "a[]": "is no path", "a[x]": "is no path", "a[-1]": "is no path", "a[01]": "is no path", "a[+1]": "is no path",
		"a[1]b": "is no path", "a.[1]": "is no path", "a[1000000000]": "is no path", "a[0": "is no path",
		"{{a}}": "no template", "a.{{b": "no template", strings.Repeat("a.", 32) + "a": "33 parts", strings.Repeat(".ä", 200): "...",
	} {
		if _, err := fieldpath.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestParseKeys(t *testing.T) {
	for text, ok := range map[string]bool{"a": true, "a.b": true, "a.0": true, ".": false, "a[0]": false, "[0]": false, "": false, "a..b": false} {
		if _, err := fieldpath.ParseKeys(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
