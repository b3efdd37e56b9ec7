-- The ledger: what is committed here has happened. Times that the engine computes with come
-- as microseconds and are kept exactly. STABLE, as its body is: else the server would not inline it.
CREATE FUNCTION moment(us bigint) RETURNS timestamptz LANGUAGE sql STABLE AS
$$ SELECT CASE WHEN us = 0 THEN NULL ELSE timestamptz 'epoch' + us * interval '1 microsecond' END $$;

-- What tokens and event ids are keyed with; one per installation.
CREATE TABLE engine_secret (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    secret   bytea NOT NULL
);
INSERT INTO engine_secret (secret)
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

-- Orchestrators that are alive.
CREATE TABLE instances (
    id             text PRIMARY KEY,
    seen_at        timestamptz NOT NULL,
    engine_version integer NOT NULL
);

-- One row for each partition of the input log: who owns it and how far it is applied.
CREATE TABLE partitions (
    p              smallint PRIMARY KEY,
    owner          text,
    lease_until    timestamptz NOT NULL DEFAULT '-infinity',
    epoch          bigint NOT NULL DEFAULT 0,
    input_seq      bigint NOT NULL DEFAULT 0, -- last applied sequence of EXECUTION_INPUT
    input_time     bigint NOT NULL DEFAULT 0, -- its time in ns; 0: nothing to compare
    generation     bigint NOT NULL DEFAULT 0, -- of the log; changes when the log was lost
    event_n        bigint NOT NULL DEFAULT 0, -- number of the last event
    published_n    bigint NOT NULL DEFAULT 0, -- number of the last event that EVENTS has taken
    stream_created bigint NOT NULL DEFAULT 0  -- creation of EXECUTION_INPUT in ns; 0: not read yet
);
INSERT INTO partitions (p) SELECT generate_series(0, 31);

CREATE TABLE definitions (
    hash       bytea PRIMARY KEY,
    body       bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE executions (
    id                  uuid PRIMARY KEY,
    p                   smallint NOT NULL,
    workflow_id         uuid NOT NULL,
    workflow_version    integer NOT NULL,
    workflow_owner      uuid NOT NULL,
    user_id             uuid NOT NULL,
    definition          bytea NOT NULL,
    engine_version      integer NOT NULL,
    status              text NOT NULL,
    trigger_type        text NOT NULL,
    priority            smallint NOT NULL,
    inputs              bytea NOT NULL,
    outputs             bytea,
    error               bytea,
    request_id          text NOT NULL,
    traceparent         text NOT NULL,
    parent_execution_id uuid,
    retry_of            uuid,
    steps_total         integer NOT NULL,
    steps_completed     integer NOT NULL DEFAULT 0,
    steps_failed        integer NOT NULL DEFAULT 0,
    steps_skipped       integer NOT NULL DEFAULT 0,
    percent             smallint NOT NULL DEFAULT 0,
    event_seq           bigint NOT NULL DEFAULT 0,
    last_input          timestamptz,
    next_due            timestamptz,
    created_at          timestamptz NOT NULL,
    started_at          timestamptz,
    completed_at        timestamptz
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX executions_live ON executions (p) WHERE completed_at IS NULL;
CREATE INDEX executions_user ON executions (user_id, created_at DESC, id DESC);
CREATE INDEX executions_owner ON executions (workflow_owner, created_at DESC, id DESC);
CREATE INDEX executions_workflow ON executions (workflow_id, created_at DESC, id DESC);

-- Steps that have left PENDING.
CREATE TABLE steps (
    execution_id uuid NOT NULL,
    step_index   integer NOT NULL,
    iteration    integer NOT NULL DEFAULT 0,
    p            smallint NOT NULL,
    status       text NOT NULL,
    attempt      integer NOT NULL,
    token        text NOT NULL,          -- of the attempt whose result counts; '' when none does
    dispatch     integer NOT NULL,
    sent         bigint NOT NULL,        -- sequence in STEPS of the attempt's message; 0: not known to be there
    retry_at     timestamptz,
    backstop     timestamptz,
    output       bytea,
    error        bytea,
    started_at   timestamptz,
    completed_at timestamptz,
    PRIMARY KEY (execution_id, step_index, iteration)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
-- Attempts that were stopped and whose message may still wait for a runner.
CREATE INDEX steps_to_stop ON steps (p) WHERE status = 'CANCELLED' AND sent > 0;

-- The history that everybody outside reads. seq is gapless per execution, n per partition.
CREATE TABLE execution_events (
    execution_id uuid NOT NULL,
    seq          bigint NOT NULL,
    p            smallint NOT NULL,
    n            bigint NOT NULL,
    type         text NOT NULL,
    body         bytea NOT NULL,
    PRIMARY KEY (execution_id, seq)
);
CREATE UNIQUE INDEX execution_events_n ON execution_events (p, n);

-- What somebody asked of an execution, before it takes effect in the order of the log.
CREATE TABLE commands (
    id           uuid PRIMARY KEY,
    execution_id uuid NOT NULL,
    p            smallint NOT NULL,
    kind         text NOT NULL,
    user_id      text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    applied_at   timestamptz
);
CREATE INDEX commands_waiting ON commands (p) WHERE applied_at IS NULL;
CREATE INDEX commands_execution ON commands (execution_id);

CREATE TABLE idempotency_keys (
    user_id      text NOT NULL,
    route        text NOT NULL,
    key          text NOT NULL,
    body_hash    bytea NOT NULL,
    execution_id uuid NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, route, key)
);

-- Inputs that could not be applied, for a person to look at.
CREATE TABLE dead_letters (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    p          smallint NOT NULL,
    seq        bigint NOT NULL,
    subject    text NOT NULL,
    headers    bytea NOT NULL,
    body       bytea NOT NULL,
    reason     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
