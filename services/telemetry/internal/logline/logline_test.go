package logline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/telemetry"
)

const id = "01934a5e-7b1c-7000-8000-000000000001"

func line(message string) telemetry.LogLine {
	return telemetry.LogLine{ID: id, ExecutionID: id, Attempt: 1, Seq: 1, Level: "INFO", Source: "console", Message: message, CreatedAt: time.Unix(1, 0)}
}

func TestClean(t *testing.T) {
	key := "a\x00b"
	l := line("x\x00y\xffz")
	l.StepKey, l.Fields = &key, json.RawMessage("[1]")
	got, err := Clean(l)
	if err != nil || got.Message != "xy\uFFFDz" || *got.StepKey != "ab" || string(got.Fields) != "{}" {
		t.Errorf("Clean gives %+v, %v", got, err)
	}
	if key != "a\x00b" {
		t.Error("Clean changes what it was given")
	}
	for name, spoil := range map[string]func(*telemetry.LogLine){
		"id":          func(l *telemetry.LogLine) { l.ID = "1" },
		"executionId": func(l *telemetry.LogLine) { l.ExecutionID = "" },
		"level":       func(l *telemetry.LogLine) { l.Level = "info" },
		"source":      func(l *telemetry.LogLine) { l.Source = "me" },
		"createdAt":   func(l *telemetry.LogLine) { l.CreatedAt = time.Time{} },
	} {
		l := line("x")
		spoil(&l)
		if _, err := Clean(l); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// picky is a store that refuses lines whose message is bad, and everything while it is away.
type picky struct {
	stored []string
	away   error
	calls  int
}

func (p *picky) Insert(_ context.Context, lines []telemetry.LogLine) error {
	p.calls++
	if p.away != nil {
		return p.away
	}
	for _, l := range lines {
		if l.Message == "bad" {
			return ErrRefused
		}
	}
	for _, l := range lines {
		p.stored = append(p.stored, l.Message)
	}
	return nil
}

func TestKeepDropsOnlyWhatIsRefused(t *testing.T) {
	var log bytes.Buffer
	store := &picky{}
	unclean := line("unclean")
	unclean.Level = ""
	err := NewKeeper(store, zerolog.New(&log), nil).Keep(context.Background(),
		[]telemetry.LogLine{line("1"), line("bad"), line("2"), unclean, line("3"), line("bad")})
	if err != nil || !slices.Equal(store.stored, []string{"1", "2", "3"}) {
		t.Errorf("stored %v, %v", store.stored, err)
	}
	if n := strings.Count(log.String(), "log line dropped"); n != 3 {
		t.Errorf("%d lines are said to be dropped: %s", n, &log)
	}
}

func TestKeepDropsNothingWhileTheStoreIsAway(t *testing.T) {
	away := errors.New("away")
	store := &picky{away: away}
	lines := []telemetry.LogLine{line("1"), line("2")}
	if err := NewKeeper(store, zerolog.Nop(), nil).Keep(context.Background(), lines); !errors.Is(err, away) || store.calls != 1 {
		t.Errorf("%v after %d calls", err, store.calls)
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x00\xff", `{"a":1}`)
	f.Fuzz(func(t *testing.T, message, fields string) {
		l := line(message)
		l.Fields = json.RawMessage(fields)
		got, err := Clean(l)
		if err != nil || strings.ContainsRune(got.Message, 0) || !utf8.ValidString(got.Message) || !json.Valid(got.Fields) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}
