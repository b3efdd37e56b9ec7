package webhook

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestATargetIsTrustedStepByStep(t *testing.T) {
	s := Standing{}
	for want := 1; want <= parallel+2; want++ {
		if got := s.Room(); got != min(want, parallel) {
			t.Fatalf("after %d delivered there is room for %d", want-1, got)
		}
		s = Judge(s, Outcome{Delivered: true}, 1, noon, noon, 0.5).Standing
	}
	s = Judge(s, Outcome{}, 1, noon, noon, 0.5).Standing
	if s.Room() != 1 || s.Streak != -1 || !s.PausedUntil.IsZero() || !s.FailingSince.Equal(noon) {
		t.Fatalf("after one that failed it is %+v", s)
	}
}

func TestATargetThatFailsIsLeftAloneForLongerAndLonger(t *testing.T) {
	s, now := Standing{}, noon
	for range tripped - 1 {
		s = Judge(s, Outcome{}, 1, now, now, 0.5).Standing
	}
	if !s.PausedUntil.IsZero() {
		t.Fatalf("paused after %d", tripped-1)
	}
	for i, want := range []time.Duration{firstPause, 2 * firstPause, 4 * firstPause, 8 * firstPause} {
		s = Judge(s, Outcome{}, 1, now, now, 0.5).Standing
		if got := s.PausedUntil.Sub(now); got != want || s.Room() != 1 {
			t.Errorf("pause %d takes %s, want %s; room for %d", i+1, got, want, s.Room())
		}
		// What was under way when the pause began does not make it longer.
		if again := Judge(s, Outcome{}, 1, now, now.Add(time.Second), 0.5).Standing; again != s {
			t.Errorf("a failure within the pause makes %+v of %+v", again, s)
		}
		now = s.PausedUntil
	}
	for range 30 {
		s = Judge(s, Outcome{}, 1, now, now, 0.5).Standing
		if now = s.PausedUntil; s.PausedUntil.Sub(now) > longestPause {
			t.Fatalf("paused until %s", s.PausedUntil)
		}
	}
	if s = Judge(s, Outcome{Delivered: true}, 1, now, now, 0.5).Standing; s != (Standing{Streak: 1}) {
		t.Errorf("once it answers well it is %+v", s)
	}
}

func TestADeliveryIsGivenUpAfterADay(t *testing.T) {
	var waits []time.Duration
	now := noon
	for attempts := 1; ; attempts++ {
		v := Judge(Standing{}, Outcome{}, attempts, noon, now, 0.5)
		if v.Done {
			if total := now.Sub(noon); total < patience/2 || total > patience {
				t.Errorf("given up after %s, at the attempt %d", total, attempts)
			}
			break
		}
		waits = append(waits, v.Next.Sub(now))
		now = v.Next
	}
	if waits[0] != firstWait || waits[1] != 2*firstWait || waits[len(waits)-1] != longestWait {
		t.Errorf("waits %v", waits)
	}
	if v := Judge(Standing{}, Outcome{RetryAfter: time.Minute}, 1, noon, noon, 0.5); v.Next.Sub(noon) != time.Minute {
		t.Errorf("asked to wait for a minute, it waits for %s", v.Next.Sub(noon))
	}
	if v := Judge(Standing{}, Outcome{RetryAfter: 1000 * time.Hour}, 1, noon, noon, 0.5); v.Next.Sub(noon) != longestWait {
		t.Errorf("asked to wait for weeks, it waits for %s", v.Next.Sub(noon))
	}
}

func TestATargetThatIsGoneOrFailsForADayIsSwitchedOff(t *testing.T) {
	if v := Judge(Standing{Streak: 4}, Outcome{Gone: true}, 1, noon, noon, 0.5); v.Disable == "" || v.Done {
		t.Errorf("gone: %+v", v)
	}
	s := Standing{Streak: -9, FailingSince: noon}
	if v := Judge(s, Outcome{}, 1, noon, noon.Add(givenUp-1), 0.5); v.Disable != "" {
		t.Errorf("a moment before a day: %+v", v)
	}
	if v := Judge(s, Outcome{}, 1, noon, noon.Add(givenUp), 0.5); v.Disable == "" || v.Done {
		t.Errorf("after a day: %+v", v)
	}
}

// Whatever happens, there is something to be done next, never all at once and never later than the longest wait.
func TestJudgeHoldsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, now, first, attempts := Standing{}, noon, noon, 0
		for range rapid.IntRange(1, 200).Draw(t, "attempts") {
			attempts++
			o := Outcome{Delivered: rapid.IntRange(0, 3).Draw(t, "delivered") == 0, RetryAfter: time.Duration(rapid.IntRange(0, 1_000_000).Draw(t, "retryAfter")) * time.Second}
			v := Judge(s, o, attempts, first, now, rapid.Float64Range(0, 0.999).Draw(t, "luck"))
			if room := v.Standing.Room(); room < 1 || room > parallel || !o.Delivered && room != 1 {
				t.Fatalf("room for %d after %+v", room, o)
			}
			if o.Delivered != v.Standing.FailingSince.IsZero() || o.Delivered && !v.Done {
				t.Fatalf("%+v after %+v", v, o)
			}
			if wait := v.Next.Sub(now); !v.Done && (wait < firstWait*8/10 || wait > longestWait*12/10) {
				t.Fatalf("waits for %s after %+v", wait, o)
			}
			if pause := v.Standing.PausedUntil.Sub(now); pause > longestPause*12/10 {
				t.Fatalf("paused for %s", pause)
			}
			s = v.Standing
			if v.Done {
				attempts, first = 0, now
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 10_000).Draw(t, "later")) * time.Second)
		}
	})
}
