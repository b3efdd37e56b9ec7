package dates_test

import (
	"strings"
	"testing"
	"time"

	"turbocat.io/pkg/dates"
)

func layout(t *testing.T, text string) dates.Layout {
	t.Helper()
	l, err := dates.ParseLayout(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return l
}

func TestText(t *testing.T) {
	zone, err := dates.ParseZone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 5, 21, 4, 9, 70_000_000, time.UTC)
	for text, want := range map[string]string{
		"iso": "2026-03-05T22:04:09.07+01:00", "unix": "1772744649", "unixMs": "1772744649070",
		"yyyy-MM-dd": "2026-03-05", "yy/M/d": "26/3/5", "dd.MM.yyyy HH:mm:ss.SSS": "05.03.2026 22:04:09.070", "HH:mm:ss,SSS": "22:04:09,070",
		"EEEE, d MMMM yyyy": "Thursday, 5 March 2026", "EEE MMM dd": "Thu Mar 05", "h:mm a": "10:04 PM", "hh a": "10 PM",
		"yyyyMMddTHHmmssXX": "20260305T220409+0100", "XXX xxx xx": "+01:00 +01:00 +0100", "dyyyy": "52026", "Mss": "309",
	} {
		if got, ok := layout(t, text).Text(at, zone); !ok || got != want {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
	if _, ok := layout(t, "iso").Text(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.UTC); ok {
		t.Error("the year 10000 is written")
	}
}

func TestRead(t *testing.T) {
	zone, _ := dates.ParseZone("America/New_York")
	for _, c := range []struct{ layout, text, want string }{
		{"iso", "2026-03-05T22:04:09.07+01:00", "2026-03-05T21:04:09.07Z"},
		{"iso", "2026-03-05T22:04:09Z", "2026-03-05T22:04:09Z"},
		{"iso", "2026-03-05T22:04:09", "2026-03-06T03:04:09Z"},
		{"iso", "2026-03-05", "2026-03-05T05:00:00Z"},
		{"dd.MM.yyyy HH:mm", "05.03.2026 22:04", "2026-03-06T03:04:00Z"},
		{"MMM d, yyyy h:mm a", "Mar 5, 2026 1:30 PM", "2026-03-05T18:30:00Z"},
		{"yyyy-MM-dd HH:mm:ss.SSS xxx", "2026-03-05 22:04:09.123 +02:00", "2026-03-05T20:04:09.123Z"},
		{"unix", "1772744649", "2026-03-05T21:04:09Z"},
		{"unix", "1772744649.25", "2026-03-05T21:04:09.25Z"},
		{"unix", "1.772744649e9", "2026-03-05T21:04:09Z"},
		{"unix", "-1", "1969-12-31T23:59:59Z"},
		{"unixMs", "1772744649070", "2026-03-05T21:04:09.07Z"},
		{"unixMs", "-1", "1969-12-31T23:59:59.999Z"},
		{"unixMs", "1.5", "1970-01-01T00:00:00.0015Z"},
		{"iso", "2026-02-30", ""},
		{"iso", "yesterday", ""},
		{"yyyy-MM-dd", "2026-03-05T00:00:00Z", ""},
		{"unix", "1e300", ""},
		{"unix", "9223372036854775807", ""},
		{"unixMs", "-9223372036854775808", ""},
	} {
		l := layout(t, c.layout)
		at, ok := l.FromText(c.text, zone)
		if l.IsNumber() {
			at, ok = l.FromNumber(c.text)
		}
		if got := at.UTC().Format(time.RFC3339Nano); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s %q is %s, %v, want %q", c.layout, c.text, got, ok, c.want)
		}
	}
}

// TestLayoutsReadWhatTheyWrite keeps tokens from running into each other.
func TestLayoutsReadWhatTheyWrite(t *testing.T) {
	at := time.Date(2026, 11, 25, 15, 14, 59, 0, time.UTC)
	for _, text := range []string{
		"iso", "unix", "unixMs", "yyyyMMddHHmmss", "yy-M-d hh:mm:ss a", "d/M/yyyy HH:mm:ss", "EEEE dd MMMM yyyy HH:mm:ss.SSS XXX", "yyyy-MM-ddTHH:mm:ssxx", "MMM;dd;yyyy;HH;mm;ss",
	} {
		l := layout(t, text)
		written, _ := l.Text(at, time.UTC)
		back, ok := l.FromText(written, time.UTC)
		if l.IsNumber() {
			back, ok = l.FromNumber(written)
		}
		if !ok || !back.Equal(at) {
			t.Errorf("%q wrote %q and read %v", text, written, back)
		}
	}
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"": "0 characters", "YYYY": "no token", "yyyy_MM": "no token", "yyy": "no token", "2006-01-02": "no token", "SSS": "no token", "m": "no token", "ISO": "no token",
		strings.Repeat(" ", 65): "65 characters", "yyyy-é": "no token",
	} {
		if _, err := dates.ParseLayout(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, name := range []string{"", "Local", "Europe/Nowhere", "../etc/passwd", "+01:00"} {
		if _, err := dates.ParseZone(name); err == nil {
			t.Errorf("%q is a zone", name)
		}
	}
}
