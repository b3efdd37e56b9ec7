package postgres

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/backlog"
	"turbocat.io/services/orchestrator/internal/schedule"
)

func TestOverdue(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	look := func() backlog.Overdue {
		t.Helper()
		o, err := l.Overdue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	if _, err := l.Acquire(t.Context(), "o", time.Minute, subject.Partitions-2); err != nil {
		t.Fatal(err)
	}
	waits, works := l.accept(l.acceptable("a")), l.accept(l.acceptable("a"))
	// What is still to come, and what is off or done, is not overdue.
	l.scheduled(-time.Hour, nil)
	l.scheduled(time.Hour, func(s *schedule.Trigger) { s.Enabled = false })
	l.exec(`UPDATE executions SET sleeps_until = now() + interval '1 hour' WHERE id = $1`, waits)
	l.exec(`UPDATE executions SET sleeps_until = now() - interval '1 hour', completed_at = now() WHERE id = $1`, works)
	l.exec(`INSERT INTO commands (id, execution_id, p, kind, user_id, created_at, applied_at) VALUES ($1, $2, 3, 'CANCEL', 'u', now() - interval '1 hour', now())`, uuid.NewString(), waits)
	if got := look(); got != (backlog.Overdue{Orphans: 2}) {
		t.Errorf("nothing is overdue, and it says %+v", got)
	}
	l.scheduled(2*time.Minute, nil)
	l.exec(`UPDATE executions SET sleeps_until = now() - interval '3 minutes' WHERE id = $1`, waits)
	l.exec(`INSERT INTO commands (id, execution_id, p, kind, user_id, created_at) VALUES ($1, $2, 3, 'CANCEL', 'u', now() - interval '4 minutes')`, uuid.NewString(), waits)
	got := look()
	for what, is := range map[string][2]time.Duration{"schedule": {got.Schedules, 2 * time.Minute}, "timer": {got.Timers, 3 * time.Minute}, "command": {got.Commands, 4 * time.Minute}} {
		if is[0] < is[1] || is[0] > is[1]+30*time.Second {
			t.Errorf("the oldest %s is overdue for %v, not %v", what, is[0], is[1])
		}
	}
}
