-- What agents, workflows and steps are made of. Official ones are Turbocat's own and have no user.
CREATE TABLE templates (
    id           uuid PRIMARY KEY,
    user_id      uuid,
    name         text        NOT NULL,
    description  text        NOT NULL,
    type         text        NOT NULL CHECK (type IN ('AGENT', 'WORKFLOW', 'STEP')),
    category     text        NOT NULL,
    tags         text[]      NOT NULL,
    content      json        NOT NULL,
    is_public    boolean     NOT NULL,
    is_official  boolean     NOT NULL,
    version      integer     NOT NULL, -- counts its changes; of an official one the edition that it is at
    usage_count  bigint      NOT NULL DEFAULT 0,
    rating_sum   bigint      NOT NULL DEFAULT 0,
    rating_count bigint      NOT NULL DEFAULT 0,
    rating       integer     NOT NULL GENERATED ALWAYS AS (CASE WHEN rating_count = 0 THEN 0 ELSE (rating_sum * 1000 / rating_count)::integer END) STORED, -- thousandths, to sort by
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    deleted_at   timestamptz
);

CREATE INDEX templates_public ON templates (created_at, id) WHERE deleted_at IS NULL AND is_public;
CREATE INDEX templates_public_used ON templates (usage_count, id) WHERE deleted_at IS NULL AND is_public;
CREATE INDEX templates_public_rated ON templates (rating, id) WHERE deleted_at IS NULL AND is_public;
CREATE INDEX templates_public_named ON templates (name, id) WHERE deleted_at IS NULL AND is_public;
CREATE INDEX templates_public_category ON templates (category, created_at, id) WHERE deleted_at IS NULL AND is_public;
CREATE INDEX templates_public_type ON templates (type, created_at, id) WHERE deleted_at IS NULL AND is_public;
CREATE INDEX templates_official ON templates (created_at, id) WHERE deleted_at IS NULL AND is_official;
CREATE INDEX templates_private ON templates (user_id, created_at, id) WHERE deleted_at IS NULL AND NOT is_public;
CREATE INDEX templates_tags ON templates USING gin (tags) WHERE deleted_at IS NULL;

-- One of each user.
CREATE TABLE template_ratings (
    template_id uuid     NOT NULL REFERENCES templates (id),
    user_id     uuid     NOT NULL,
    rating      smallint NOT NULL CHECK (rating BETWEEN 1 AND 5),
    PRIMARY KEY (template_id, user_id)
);
