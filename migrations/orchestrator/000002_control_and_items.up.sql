-- Signals are commands: what they say, and while no step has waited for one, the sequence of the input that kept it.
ALTER TABLE commands
    ADD COLUMN name   text,
    ADD COLUMN signal bytea,
    ADD COLUMN kept   bigint;

-- When a WAIT is over; and of a step that was not run again, the execution that its result is of.
ALTER TABLE steps
    ADD COLUMN wake_at     timestamptz,
    ADD COLUMN reused_from uuid;

-- A key may be of a command instead of an execution's beginning.
ALTER TABLE idempotency_keys ADD COLUMN command_id uuid;

-- Whether an execution was run again.
CREATE INDEX executions_retry_of ON executions (retry_of) WHERE retry_of IS NOT NULL;
