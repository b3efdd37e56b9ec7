-- What starts executions of a workflow by itself.
CREATE TABLE triggers (
    id             uuid PRIMARY KEY,
    workflow_id    uuid NOT NULL,
    workflow_owner uuid NOT NULL,
    user_id        uuid NOT NULL, -- as whom its executions run
    type           text NOT NULL,
    name           text NOT NULL,
    enabled        boolean NOT NULL,
    inputs         bytea NOT NULL,
    priority       smallint,      -- NULL: the workflow's
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL
);
CREATE INDEX triggers_workflow ON triggers (workflow_id, created_at DESC, id DESC);

-- When a trigger of type SCHEDULE fires. All times are of this database's clock. What is before next_time is decided: it has an
-- execution or is in a row of schedule_skips.
CREATE TABLE schedules (
    trigger_id       uuid PRIMARY KEY REFERENCES triggers ON DELETE CASCADE,
    revision         bigint NOT NULL DEFAULT 1, -- of the trigger; who fires must have seen the newest
    cron             text NOT NULL,
    time_zone        text NOT NULL,
    overlap          text NOT NULL,
    catch_up_window_ms bigint NOT NULL,
    jitter_ms        bigint NOT NULL,
    next_time        timestamptz,               -- the next scheduled time; NULL when there is none
    next_fire_at     timestamptz,               -- the same with its jitter
    look_at          timestamptz,               -- when an orchestrator looks at it next; NULL while it is off
    last_time        timestamptz                -- the last scheduled time that has an execution
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX schedules_look ON schedules (look_at) WHERE look_at IS NOT NULL;

-- Scheduled times without an execution, those in a row that have the same reason together: from scheduled_for on, before until.
CREATE TABLE schedule_skips (
    trigger_id    uuid NOT NULL REFERENCES triggers ON DELETE CASCADE,
    scheduled_for timestamptz NOT NULL,
    until         timestamptz NOT NULL,
    reason        text NOT NULL,
    message       text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (trigger_id, scheduled_for)
);

ALTER TABLE executions
    ADD COLUMN trigger_id    uuid,
    ADD COLUMN scheduled_for timestamptz;
CREATE UNIQUE INDEX executions_scheduled ON executions (trigger_id, scheduled_for) WHERE trigger_id IS NOT NULL;
CREATE INDEX executions_of_trigger_live ON executions (trigger_id) WHERE trigger_id IS NOT NULL AND completed_at IS NULL;
