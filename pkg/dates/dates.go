// Package dates reads and writes dates the way a config says: as ISO 8601, as seconds or
// milliseconds since 1970, or by a layout of tokens such as yyyy-MM-dd HH:mm.
package dates

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones are known on hosts without a zone database too
)

// Layout is one way to write a date. It is immutable.
type Layout struct {
	unit    time.Duration // of a number; 0 for text
	layouts []string      // of package time; the first is written, all are read
}

// tokens are those of Unicode (CLDR) that package time can read and write, longest first.
var tokens = []struct{ token, layout string }{
	{"yyyy", "2006"},
	{"yy", "06"},
	{"MMMM", "January"},
	{"MMM", "Jan"},
	{"MM", "01"},
	{"M", "1"},
	{"dd", "02"},
	{"d", "2"},
	{"EEEE", "Monday"},
	{"EEE", "Mon"},
	{"HH", "15"},
	{"hh", "03"},
	{"h", "3"},
	{"a", "PM"},
	{"mm", "04"},
	{"ss", "05"},
	{".SSS", ".000"},
	{",SSS", ",000"},
	{"XXX", "Z07:00"},
	{"XX", "Z0700"},
	{"xxx", "-07:00"},
	{"xx", "-0700"},
}

// literals stand for themselves between tokens.
const literals = " -/.,:;T"

const maxLayout = 64

// ParseLayout reads a layout. The error says what is wrong with it and what would be right.
func ParseLayout(text string) (Layout, error) {
	switch text {
	case "iso":
		return Layout{layouts: []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"}}, nil
	case "unix":
		return Layout{unit: time.Second}, nil
	case "unixMs":
		return Layout{unit: time.Millisecond}, nil
	}
	if text == "" || len(text) > maxLayout {
		return Layout{}, fmt.Errorf("has %d characters; give iso, unix, unixMs or a layout of 1 to %d like yyyy-MM-dd", len(text), maxLayout)
	}
	var layout strings.Builder
	for rest := text; rest != ""; {
		token, written := next(rest)
		if token == "" {
			return Layout{}, fmt.Errorf("has %.4q, which is no token of dates; give iso, unix, unixMs or a layout like yyyy-MM-dd HH:mm:ss.SSS XXX", rest)
		}
		layout.WriteString(written)
		rest = rest[len(token):]
	}
	return Layout{layouts: []string{layout.String()}}, nil
}

// next gives the token that text begins with, and how package time writes it; "" when there is none.
func next(text string) (token, layout string) {
	for _, t := range tokens {
		if strings.HasPrefix(text, t.token) {
			return t.token, t.layout
		}
	}
	if strings.IndexByte(literals, text[0]) >= 0 {
		return text[:1], text[:1]
	}
	return "", ""
}

// ParseZone reads the name of a time zone, like Europe/Berlin or UTC.
func ParseZone(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" {
		return nil, fmt.Errorf("is %.80q, which is no time zone; give one like Europe/Berlin or UTC", name)
	}
	return zone, nil
}

// IsNumber tells whether dates of the layout are numbers.
func (l Layout) IsNumber() bool { return l.unit != 0 }

// FromText reads a date; one that says no offset is in zone. False when text is none.
func (l Layout) FromText(text string, zone *time.Location) (time.Time, bool) {
	for _, layout := range l.layouts {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// FromNumber reads a date that is a JSON number. False when it is beyond the years 0 to 9999.
func (l Layout) FromNumber(raw string) (time.Time, bool) {
	if n, err := strconv.ParseInt(raw, 10, 64); err == nil {
		perSecond := int64(time.Second / l.unit)
		t := time.Unix(n/perSecond, n%perSecond*int64(l.unit)) // of a negative remainder too
		return t, inRange(t.UTC())
	}
	f, err := strconv.ParseFloat(raw, 64)
	seconds, fraction := math.Modf(f * l.unit.Seconds())
	if err != nil || math.Abs(seconds) > 1e12 {
		return time.Time{}, false
	}
	// To the microsecond: a float of today's seconds tells no more.
	t := time.Unix(int64(seconds), int64(math.Round(fraction*1e6))*1000)
	return t, inRange(t.UTC())
}

// Text writes a date in a zone, as text or as a JSON number. False when its year is beyond 0 to 9999.
func (l Layout) Text(t time.Time, zone *time.Location) (string, bool) {
	t = t.In(zone)
	switch {
	case !inRange(t):
		return "", false
	case l.unit == time.Second:
		return strconv.FormatInt(t.Unix(), 10), true
	case l.unit == time.Millisecond:
		return strconv.FormatInt(t.UnixMilli(), 10), true
	default:
		return t.Format(l.layouts[0]), true
	}
}

func inRange(t time.Time) bool { return t.Year() >= 0 && t.Year() <= 9999 }
