-- What of a trigger of type WEBHOOK all triggers do not have.
CREATE TABLE hooks (
    trigger_id      uuid PRIMARY KEY REFERENCES triggers ON DELETE CASCADE,
    preset          text NOT NULL,
    signature       text NOT NULL, -- JSON: where requests have what proves them; of the presets HMAC and TOKEN
    filter          text NOT NULL,
    max_per_minute  integer NOT NULL,
    secret_version  integer NOT NULL,
    secret_key_id   text NOT NULL,
    secret          bytea NOT NULL,
    previous_key_id text,
    previous_secret bytea,
    previous_until  timestamptz,
    rejected_at     timestamptz,   -- when a request was turned away, the first in a while
    rejection       text NOT NULL DEFAULT ''
);
CREATE INDEX hooks_keys ON hooks (secret_key_id);

-- What of a trigger of type EVENT all triggers do not have.
CREATE TABLE listeners (
    trigger_id     uuid PRIMARY KEY REFERENCES triggers ON DELETE CASCADE,
    revision       bigint NOT NULL DEFAULT 1,
    event_types    text[] NOT NULL,
    filter         text NOT NULL,
    max_per_minute integer NOT NULL,
    cursor         bigint NOT NULL,          -- up to where in its user's feed it has looked
    skipped        bigint NOT NULL DEFAULT 0,
    last_error     text NOT NULL DEFAULT '',
    look_at        timestamptz,              -- when it looks next; NULL while it is off
    leased_until   timestamptz NOT NULL DEFAULT '-infinity',
    waits          boolean NOT NULL DEFAULT false -- it does not look before, whatever is heard
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX listeners_look ON listeners (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX triggers_user ON triggers (user_id, type);

-- What came in for triggers, each once under the name that its sender gave it, and what has become of it.
CREATE TABLE trigger_deliveries (
    id           uuid PRIMARY KEY,
    trigger_id   uuid NOT NULL, -- the trigger may be gone
    name         text NOT NULL,
    status       text NOT NULL,
    execution_id uuid,          -- when it is ACCEPTED
    reason       text NOT NULL DEFAULT '',
    received_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (trigger_id, name)
);
CREATE INDEX trigger_deliveries_times ON trigger_deliveries (trigger_id, received_at DESC, id DESC);
CREATE INDEX trigger_deliveries_started ON trigger_deliveries (trigger_id, received_at DESC) WHERE status = 'ACCEPTED';
CREATE INDEX trigger_deliveries_age ON trigger_deliveries (received_at);
