ALTER TABLE executions
    DROP COLUMN sleeps_until,
    ADD COLUMN next_due timestamptz;
