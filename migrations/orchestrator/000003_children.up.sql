-- The execution that an attempt of a WORKFLOW agent is, and, of such an execution, the task that waits for it.
ALTER TABLE steps ADD COLUMN child_id uuid;
ALTER TABLE executions
    ADD COLUMN parent_step      text,
    ADD COLUMN parent_iteration integer,
    ADD COLUMN parent_token     text,
    ADD COLUMN depth            smallint NOT NULL DEFAULT 0;
