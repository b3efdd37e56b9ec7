CREATE TABLE secrets (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name       text NOT NULL,
    -- Of the value, from 1. It is sealed in with the owner and the name, so that it opens in no other row.
    version    integer NOT NULL CHECK (version > 0),
    -- Names the key; see docs/secrets.md.
    key_id     text NOT NULL,
    -- A nonce of 12 bytes, then the AES-256-GCM ciphertext.
    sealed     bytea NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT secrets_name_key UNIQUE (user_id, name)
);
