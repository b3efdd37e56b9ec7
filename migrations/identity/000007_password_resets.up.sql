-- An address that has asked for a mail, whether it has an account or not: what is done for both is the same. The row goes
-- when the mail is sent. What the mail says is made then, so that no token stands here.
CREATE TABLE password_reset_requests (
    email    text PRIMARY KEY,
    asked_at timestamptz NOT NULL,
    due_at   timestamptz NOT NULL,
    tries    integer NOT NULL DEFAULT 0
);

CREATE INDEX password_reset_requests_due_at_idx ON password_reset_requests (due_at);

-- One for each user: a newer one takes the place of an older one.
CREATE TABLE password_reset_tokens (
    user_id    uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    digest     bytea NOT NULL CONSTRAINT password_reset_tokens_digest_key UNIQUE,
    expires_at timestamptz NOT NULL
);
