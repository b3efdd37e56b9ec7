-- The first answers to requests with an Idempotency-Key; see pkg/postgres/once.
CREATE TABLE idempotent_answers (
    user_id    text        NOT NULL,
    route      text        NOT NULL,
    key        text        NOT NULL,
    body_hash  bytea       NOT NULL,
    answer     text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, route, key)
);

CREATE INDEX idempotent_answers_created_at ON idempotent_answers (created_at);
