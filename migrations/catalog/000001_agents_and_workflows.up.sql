-- JSON that clients give is of type json, not jsonb: it comes back as it was written.

CREATE TABLE agents (
    id          uuid PRIMARY KEY,
    user_id     uuid        NOT NULL,
    name        text        NOT NULL,
    description text        NOT NULL,
    status      text        NOT NULL CHECK (status IN ('DRAFT', 'ACTIVE', 'INACTIVE', 'ARCHIVED')),
    tags        text[]      NOT NULL,
    is_public   boolean     NOT NULL,
    version     integer     NOT NULL, -- the current one of agent_versions
    revision    bigint      NOT NULL, -- counts every write, so that a change is based on what it read
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    deleted_at  timestamptz
);

CREATE INDEX agents_of_user ON agents (user_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX agents_public ON agents (created_at, id) WHERE deleted_at IS NULL AND is_public;

-- Rows are never changed.
CREATE TABLE agent_versions (
    agent_id      uuid        NOT NULL REFERENCES agents (id),
    version       integer     NOT NULL CHECK (version > 0),
    type          text        NOT NULL CHECK (type IN ('CODE', 'API', 'LLM', 'DATA', 'WORKFLOW')),
    config        json        NOT NULL,
    input_schema  json        NOT NULL,
    output_schema json        NOT NULL,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (agent_id, version)
);

CREATE TABLE workflows (
    id          uuid PRIMARY KEY,
    user_id     uuid        NOT NULL,
    name        text        NOT NULL,
    description text        NOT NULL,
    status      text        NOT NULL CHECK (status IN ('DRAFT', 'ACTIVE', 'INACTIVE', 'ARCHIVED')),
    tags        text[]      NOT NULL,
    is_public   boolean     NOT NULL,
    version     integer     NOT NULL, -- the current one of workflow_versions
    revision    bigint      NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    deleted_at  timestamptz
);

CREATE INDEX workflows_of_user ON workflows (user_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX workflows_public ON workflows (created_at, id) WHERE deleted_at IS NULL AND is_public;

-- Rows are never changed.
CREATE TABLE workflow_versions (
    workflow_id      uuid        NOT NULL REFERENCES workflows (id),
    version          integer     NOT NULL CHECK (version > 0),
    input_schema     json        NOT NULL,
    outputs          json        NOT NULL,
    timeout_ms       bigint      NOT NULL,
    concurrency      json        NOT NULL,
    priority         integer     NOT NULL,
    strict_templates boolean     NOT NULL,
    steps            json        NOT NULL, -- an array, in the workflow's order
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, version)
);
