CREATE TABLE users (
    id            uuid PRIMARY KEY,
    email         text NOT NULL CONSTRAINT users_email_key UNIQUE CHECK (email = lower(email)),
    full_name     text NOT NULL,
    password_hash text NOT NULL,
    role          text NOT NULL CHECK (role IN ('ADMIN', 'USER', 'AGENT')),
    active        boolean NOT NULL,
    avatar_url    text,
    -- Text, not jsonb: a user's JSON object is kept as it was given.
    preferences   text NOT NULL,
    created_at    timestamptz NOT NULL,
    last_login_at timestamptz
);

-- A row is one login and the family of refresh tokens that came of it.
CREATE TABLE sessions (
    id               uuid PRIMARY KEY,
    user_id          uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role             text NOT NULL,
    current_token    bytea NOT NULL,
    previous_token   bytea,
    ip               text NOT NULL,
    user_agent       text NOT NULL,
    created_at       timestamptz NOT NULL,
    last_accessed_at timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    revoked_at       timestamptz,
    revoke_reason    text NOT NULL DEFAULT ''
);

CREATE INDEX sessions_user_id_idx ON sessions (user_id, expires_at);
