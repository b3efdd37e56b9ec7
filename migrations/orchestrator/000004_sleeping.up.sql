-- Until when nobody need have an execution in memory: its next timer, the year 9999 for none, NULL while it is at work. Nobody read next_due.
ALTER TABLE executions
    DROP COLUMN next_due,
    ADD COLUMN sleeps_until timestamptz;
CREATE INDEX executions_sleeping ON executions (p, sleeps_until) WHERE completed_at IS NULL AND sleeps_until IS NOT NULL;
