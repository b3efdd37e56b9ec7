-- Where users have their events sent. Whoever changes what is below of a webhook holds the lock on its row.
CREATE TABLE webhooks (
    id                uuid PRIMARY KEY,
    user_id           uuid        NOT NULL,
    name              text        NOT NULL,
    url               text        NOT NULL,
    event_types       text[]      NOT NULL,
    filter            text        NOT NULL,
    format            text        NOT NULL,
    enabled           boolean     NOT NULL,
    disabled_reason   text,
    secret_version    integer     NOT NULL, -- what it is sealed for, beside the webhook and its user
    secret_key_id     text        NOT NULL,
    secret            bytea       NOT NULL,
    previous_key_id   text,                 -- of the secret before, of the version before
    previous_secret   bytea,
    previous_until    timestamptz,
    cursor            bigint      NOT NULL, -- up to where in the user's feed there are deliveries
    look_at           timestamptz,          -- when there may be something to send; null: when something comes
    streak            integer     NOT NULL DEFAULT 0, -- attempts in a row that were answered well, or, below 0, were not
    paused_until      timestamptz,
    failing_since     timestamptz,
    pending           integer     NOT NULL DEFAULT 0, -- its rows in webhook_queue
    last_delivered_at timestamptz,
    last_error        text,
    filter_error      text,
    skipped           bigint      NOT NULL DEFAULT 0,
    notice_due        boolean     NOT NULL DEFAULT false, -- the user is yet to be told that it was switched off
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX webhooks_of_user ON webhooks (user_id);
CREATE INDEX webhooks_look_at ON webhooks (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX webhooks_notice_due ON webhooks (id) WHERE notice_due;

-- Events that were sent to webhooks or will be, and how that went. Kept in weeks, by the time in the id.
CREATE TABLE webhook_deliveries (
    id          uuid        NOT NULL,
    webhook_id  uuid        NOT NULL,
    event_id    uuid        NOT NULL,
    event_type  text        NOT NULL,
    subject     text        NOT NULL,
    event       bytea       NOT NULL, -- the CloudEvent as JSON
    status      text        NOT NULL,
    attempts    integer     NOT NULL DEFAULT 0,
    log         text        NOT NULL DEFAULT '[]', -- attempts that ended, as JSON; json would refuse some escapes
    replay_of   uuid,
    created_at  timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX webhook_deliveries_of_webhook ON webhook_deliveries (webhook_id, created_at, id);
CREATE INDEX webhook_deliveries_by_status ON webhook_deliveries (webhook_id, status, created_at, id);
CREATE TABLE webhook_deliveries_default PARTITION OF webhook_deliveries DEFAULT;

-- The deliveries that wait. Those of one key are made one after another, by n.
CREATE TABLE webhook_queue (
    n           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    webhook_id  uuid        NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    key         text        NOT NULL, -- the subject of the event
    delivery_id uuid        NOT NULL,
    due_at      timestamptz,          -- of the first of its key; of one that is being made, when another process may take it
    leased      boolean     NOT NULL DEFAULT false, -- it is being made
    attempts    integer     NOT NULL DEFAULT 0,     -- that were begun; tells who makes it
    first_at    timestamptz           -- of the first attempt
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX webhook_queue_keys ON webhook_queue (webhook_id, key, n);
CREATE INDEX webhook_queue_due ON webhook_queue (webhook_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX webhook_queue_delivery ON webhook_queue (delivery_id);
-- What is to be told to another service; see pkg/postgres/outbox.
CREATE TABLE outbox (
    id         uuid PRIMARY KEY,
    type       text        NOT NULL,
    subject    text        NOT NULL,
    request_id text        NOT NULL,
    body       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tries      integer     NOT NULL DEFAULT 0,
    look_at    timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX outbox_look_at ON outbox (look_at);

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
