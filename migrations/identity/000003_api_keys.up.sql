-- Of a key only digests are kept: nobody who reads this table can make one.
CREATE TABLE api_keys (
    id                    uuid PRIMARY KEY,
    user_id               uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name                  text NOT NULL,
    prefix                text NOT NULL CONSTRAINT api_keys_prefix_key UNIQUE,
    digest                bytea NOT NULL,
    -- The secret before the last rotation, which may work a while longer.
    previous_digest       bytea,
    previous_until        timestamptz,
    scopes                text[] NOT NULL,
    rate_limit_per_minute integer,
    expires_at            timestamptz,
    last_used_at          timestamptz,
    created_at            timestamptz NOT NULL,
    updated_at            timestamptz NOT NULL,
    revoked_at            timestamptz
);

CREATE INDEX api_keys_user_id_idx ON api_keys (user_id, created_at);
