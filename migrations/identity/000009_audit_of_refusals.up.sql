-- Who asked for a mail, for the audit trail to tell of its token: it is made later, by another process perhaps.
ALTER TABLE password_reset_requests
    ADD COLUMN ip         text NOT NULL DEFAULT '',
    ADD COLUMN user_agent text NOT NULL DEFAULT '',
    ADD COLUMN request_id text NOT NULL DEFAULT '';

-- When the audit trail was last told that the key was tried in vain, and why it was.
ALTER TABLE api_keys
    ADD COLUMN refused_at timestamptz,
    ADD COLUMN refused_as text;
