//go:build unix

package main

import (
	"strings"
	"testing"
	"time"

	"turbocat.io/tools/internal/promises"
	"turbocat.io/tools/internal/verify"
)

func TestMomentOfVerify(t *testing.T) {
	now := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{"": {}, "24h": now.Add(-24 * time.Hour), "2030-01-01T00:00:00Z": time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if got, err := moment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"yesterday", "-1h", "2030-01-01"} {
		if got, err := moment(text, now); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestReportOfVerify(t *testing.T) {
	r := verify.Report{
		Executions: 3, Unfinished: 1, Steps: 7, Events: 20, TookMs: 1500, Found: 2, Violations: []promises.Violation{{Promise: "I2", What: "it differs"}},
		DeadLetters: []verify.DeadLetter{{Partition: 4, Subject: "exec.in.4.run", Reason: "no step", At: time.Unix(0, 0)}},
	}
	var text strings.Builder
	if err := printReport(&text, r, false); err != nil {
		t.Fatal(err)
	}
	want := "I2: it differs\nand 1 more\ndead letter of the partition 4, 1970-01-01T00:00:00Z: exec.in.4.run: no step\n3 executions (1 not ended), 7 steps, 20 events in 1.5 s. 2 faults.\n"
	if text.String() != want {
		t.Errorf("printed %q, want %q", text.String(), want)
	}
	text.Reset()
	if err := printReport(&text, verify.Report{Violations: []promises.Violation{}, DeadLetters: []verify.DeadLetter{}}, true); err != nil || !strings.Contains(text.String(), `"violations":[],"found":0,"deadLetters":[]`) {
		t.Errorf("printed %s, %v", text.String(), err)
	}
}

// TestVerifyNamesWhatItLacks checks that a verify without a database says so.
func TestVerifyNamesWhatItLacks(t *testing.T) {
	root := newRoot(map[string]string{})
	root.SetArgs([]string{"verify"})
	if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "DATABASE_URL is not set") {
		t.Errorf("said %v", err)
	}
}
