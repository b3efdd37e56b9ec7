// Package logline says what a log line must be to be kept, and keeps lines so that a bad one
// costs nothing but itself.
package logline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"turbocat.io/contracts/telemetry"
)

var sources = []string{"console", "stdout", "stderr", "engine"}

const maxFields = 64 << 10

// Level gives the place of a level among telemetry.Levels, lowest first; false for none of them.
func Level(name string) (int, bool) {
	i := slices.Index(telemetry.Levels, name)
	return i, i >= 0
}

// Clean gives a line as it can be stored: characters that no text column takes are taken out.
// The error says why the line can not be stored at all.
func Clean(line telemetry.LogLine) (telemetry.LogLine, error) {
	if _, err := uuid.Parse(line.ID); err != nil {
		return line, fmt.Errorf("id %q is no UUID", line.ID)
	}
	if _, err := uuid.Parse(line.ExecutionID); err != nil {
		return line, fmt.Errorf("executionId %q is no UUID", line.ExecutionID)
	}
	if _, ok := Level(line.Level); !ok {
		return line, fmt.Errorf("level %q is none of %s", line.Level, strings.Join(telemetry.Levels, ", "))
	}
	if !slices.Contains(sources, line.Source) {
		return line, fmt.Errorf("source %q is none of %s", line.Source, strings.Join(sources, ", "))
	}
	if line.CreatedAt.IsZero() {
		return line, fmt.Errorf("createdAt is missing")
	}
	if year := line.CreatedAt.UTC().Year(); year < 1 || year > 9999 {
		return line, fmt.Errorf("createdAt is in the year %d", year)
	}
	line.Message = storable(line.Message)
	if line.StepKey != nil {
		key := storable(*line.StepKey)
		line.StepKey = &key
	}
	if fields := bytes.TrimSpace(line.Fields); len(fields) == 0 || fields[0] != '{' || len(fields) > maxFields || !json.Valid(fields) {
		line.Fields = json.RawMessage("{}")
	}
	return line, nil
}

func storable(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ReplaceAll(s, "\x00", "")
}
