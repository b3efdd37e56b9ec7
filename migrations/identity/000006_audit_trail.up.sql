-- The audit trail. Rows are never changed: each has the hash of itself and of the one before it.
CREATE TABLE audit_log (
    seq           bigint PRIMARY KEY,
    id            uuid        NOT NULL CONSTRAINT audit_log_id_key UNIQUE,
    "time"        timestamptz NOT NULL,
    actor_id      text        NOT NULL,
    actor_role    text        NOT NULL,
    via           text        NOT NULL,
    session_id    text        NOT NULL,
    api_key_id    text        NOT NULL,
    action        text        NOT NULL,
    outcome       text        NOT NULL,
    resource_type text        NOT NULL,
    resource_id   text        NOT NULL,
    owner_id      text        NOT NULL,
    -- Text, not jsonb: the hash is of what was written.
    changes       text        NOT NULL,
    ip            text        NOT NULL,
    user_agent    text        NOT NULL,
    request_id    text        NOT NULL,
    hash          bytea       NOT NULL,
    stored_at     timestamptz NOT NULL DEFAULT clock_timestamp() -- not in the hash
);

CREATE INDEX audit_log_time ON audit_log ("time", id);
CREATE INDEX audit_log_actor ON audit_log (actor_id, "time", id);
CREATE INDEX audit_log_owner ON audit_log (owner_id, "time", id) WHERE owner_id <> actor_id;
CREATE INDEX audit_log_resource ON audit_log (resource_type, resource_id, "time", id);
CREATE INDEX audit_log_action ON audit_log (action, "time", id);

-- The last row of audit_log, so that its end can not go unseen. Who appends locks it.
CREATE TABLE audit_head (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq  bigint NOT NULL,
    hash bytea  NOT NULL
);

INSERT INTO audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is never changed: % of % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER audit_log_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

CREATE TRIGGER audit_head_stays BEFORE DELETE OR TRUNCATE ON audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
