-- The executions of a workflow that its concurrency limit counts together: those for which its key has become the same. A row is
-- there while one of them has a slot or waits for it.
CREATE TABLE concurrency_groups (
    workflow_id uuid NOT NULL,
    key         bytea NOT NULL,
    max         integer NOT NULL,
    version     integer NOT NULL,           -- of the workflow, that max is of
    held        integer NOT NULL DEFAULT 0, -- its slots that are HELD
    last_n      bigint NOT NULL,
    PRIMARY KEY (workflow_id, key)
);

-- How the executions that have a limit stand to it, until they have ended. Changed only under the lock of the group.
CREATE TABLE concurrency_slots (
    execution_id uuid PRIMARY KEY,
    workflow_id  uuid NOT NULL,
    key          bytea NOT NULL,
    state        text NOT NULL,     -- HELD, WAITING, or DROPPED
    priority     smallint NOT NULL,
    n            bigint NOT NULL,   -- the order in the group: of the accept while WAITING, then of the grant
    evicts       boolean NOT NULL   -- while it is WAITING, the longest holder is to be cancelled
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX concurrency_slots_waiting ON concurrency_slots (workflow_id, key, priority DESC, n) WHERE state = 'WAITING';
CREATE INDEX concurrency_slots_evicting ON concurrency_slots (workflow_id, key) WHERE state = 'WAITING' AND evicts;
CREATE INDEX concurrency_slots_held ON concurrency_slots (workflow_id, key, n) WHERE state = 'HELD';

-- Whether an execution has a row there until it ends; and of a child, whether nobody waits for its end.
ALTER TABLE executions
    ADD COLUMN limited  boolean NOT NULL DEFAULT false,
    ADD COLUMN detached boolean NOT NULL DEFAULT false;
