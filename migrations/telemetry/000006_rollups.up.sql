-- What analytics are read from: counts of executions and of runs of steps. A row is of a subject, of who started what it counts (zeros: everybody), and
-- of a time: a quarter of an hour (grain 0), an hour (1) or a day (2) in UTC, by when the executions were created. One process at a time changes them.
CREATE TABLE rollups (
    kind          smallint    NOT NULL, -- 0 executions, 1 those of a workflow, 2 runs of its steps, 3 runs of an agent
    subject       uuid        NOT NULL, -- the workflow or the agent; zeros for kind 0
    user_id       uuid        NOT NULL,
    grain         smallint    NOT NULL,
    at            timestamptz NOT NULL, -- when its time begins
    step_key      text        NOT NULL, -- of kind 2
    total         bigint      NOT NULL,
    completed     bigint      NOT NULL,
    failed        bigint      NOT NULL,
    cancelled     bigint      NOT NULL,
    timed_out     bigint      NOT NULL,
    skipped       bigint      NOT NULL,
    retries       bigint      NOT NULL,
    duration_ms   bigint      NOT NULL, -- of what completed, together
    min_ms        bigint,
    max_ms        bigint,
    calls         bigint      NOT NULL,
    input_tokens  bigint      NOT NULL,
    output_tokens bigint      NOT NULL,
    cost_micros   bigint      NOT NULL,
    sketch        bytea,                -- a DDSketch of the durations, without its mapping
    PRIMARY KEY (kind, subject, user_id, grain, at, step_key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX rollups_at ON rollups (at);

-- Up to which number the events of each partition are counted.
CREATE TABLE rollup_numbers (
    p smallint PRIMARY KEY,
    n bigint NOT NULL DEFAULT 0
);
INSERT INTO rollup_numbers (p) SELECT generate_series(0, 31);

-- Who counts at present: one process.
CREATE TABLE rollup_lease (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    owner text NOT NULL DEFAULT '',
    until timestamptz NOT NULL DEFAULT '-infinity',
    calls bigint NOT NULL DEFAULT 0 -- the number of the last call of a model that is counted
);
INSERT INTO rollup_lease DEFAULT VALUES;
