-- What the attempts of LLM steps have called on their way. They are kept in weeks, as the steps are. A call whose end nobody told of has
-- no ended_at: what it has reserved counts for ever.
CREATE TABLE calls (
    execution_id    uuid NOT NULL,
    id              uuid NOT NULL,
    step_index      integer NOT NULL,
    iteration       integer NOT NULL,
    attempt         integer NOT NULL,
    token           text NOT NULL,    -- of the attempt
    run             text NOT NULL,    -- of the runner's beginning of the attempt
    n               integer NOT NULL, -- in the run
    user_id         uuid NOT NULL,
    workflow_id     uuid NOT NULL,
    agent_id        uuid NOT NULL,
    kind            text NOT NULL,
    name            text NOT NULL,
    provider        text NOT NULL,
    status          text NOT NULL,    -- RUNNING, COMPLETED or FAILED; a RUNNING one beyond expires_at is UNKNOWN
    input           bytea NOT NULL,
    output          bytea,
    error           bytea,
    child_id        uuid,             -- the execution that it is
    input_tokens    bigint NOT NULL DEFAULT 0,
    output_tokens   bigint NOT NULL DEFAULT 0,
    cost_micros     bigint NOT NULL DEFAULT 0, -- millionths of a dollar
    reserved_tokens bigint NOT NULL,
    reserved_micros bigint NOT NULL,
    started_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    PRIMARY KEY (execution_id, id)
) PARTITION BY RANGE (execution_id);
CREATE UNIQUE INDEX calls_once ON calls (execution_id, token, run, n);
CREATE INDEX calls_in_order ON calls (execution_id, step_index, started_at, id);
CREATE INDEX calls_of_agents ON calls (execution_id) WHERE child_id IS NOT NULL AND ended_at IS NULL;

CREATE TABLE calls_default PARTITION OF calls DEFAULT;

-- What the calls use together that a budget may bound: one row for each step, execution, and day of an agent, a workflow or a user.
-- Reserved is of those that have no ended_at, spent of the others. Changed only with their rows, in the order of the key.
CREATE TABLE spending (
    scope           text NOT NULL,
    key             text COLLATE "C" NOT NULL,
    day             date NOT NULL,    -- in UTC, on which the calls began; -infinity of a step and an execution
    execution_id    uuid,             -- of a step and an execution
    reserved_tokens bigint NOT NULL DEFAULT 0,
    reserved_micros bigint NOT NULL DEFAULT 0,
    spent_tokens    bigint NOT NULL DEFAULT 0,
    spent_micros    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (scope, key, day)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX spending_execution ON spending (execution_id) WHERE execution_id IS NOT NULL;
CREATE INDEX spending_day ON spending (day);

-- The budgets of steps that somebody was asked to go beyond.
CREATE TABLE budget_approvals (
    execution_id uuid NOT NULL,
    step_index   integer NOT NULL,
    iteration    integer NOT NULL,
    budget       integer NOT NULL,    -- its place among those of the agent
    status       text NOT NULL,       -- PENDING, APPROVED or REJECTED
    max_tokens   bigint NOT NULL DEFAULT 0, -- instead of the budget's, once APPROVED; with neither nothing is bounded
    max_micros   bigint NOT NULL DEFAULT 0,
    decided_by   text NOT NULL DEFAULT '',
    comment      text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    decided_at   timestamptz,
    PRIMARY KEY (execution_id, step_index, iteration, budget)
);

-- What LLM agents remember of their users under a key: the newest messages.
CREATE TABLE conversation_messages (
    user_id    uuid NOT NULL,
    agent_id   uuid NOT NULL,
    key        text NOT NULL,
    n          bigint NOT NULL,
    token      text NOT NULL, -- of the attempt that has added it
    message    bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, agent_id, key, n)
);
CREATE INDEX conversation_messages_created ON conversation_messages (created_at);
