-- Where the audit trail begins: behind the entry seq, which with all before it was trimmed, as the entry told says. What stands up to seq is
-- no part of the chain any more and is deleted after that.
CREATE TABLE audit_start (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq      bigint      NOT NULL,
    hash     bytea       NOT NULL, -- of the entry seq
    told     bigint      NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT '-infinity'
);

INSERT INTO audit_start (seq, hash, told) VALUES (0, decode(repeat('00', 32), 'hex'), 0);

-- It goes forward alone, with the entry that tells so, which is the newest one.
CREATE FUNCTION refuse_audit_start() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.seq <= OLD.seq
        OR NOT EXISTS (SELECT FROM audit_log WHERE seq = NEW.seq AND hash = NEW.hash)
        OR NOT EXISTS (SELECT FROM audit_log e JOIN audit_head h ON h.seq = e.seq
            WHERE e.seq = NEW.told AND e.seq > NEW.seq AND e.action = 'audit.trimmed' AND e.resource_id = NEW.seq || ':' || encode(NEW.hash, 'hex'))
    THEN
        RAISE EXCEPTION 'the audit trail is never changed: it does not begin behind entry %, for its newest entry does not tell so', NEW.seq
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER audit_start_is_told BEFORE UPDATE ON audit_start FOR EACH ROW EXECUTE FUNCTION refuse_audit_start();
CREATE TRIGGER audit_start_stays BEFORE DELETE OR TRUNCATE ON audit_start FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

CREATE FUNCTION refuse_audit_removal() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT FROM gone WHERE seq > (SELECT seq FROM audit_start)) THEN
        RAISE EXCEPTION 'the audit trail is never changed: DELETE of entries that were not trimmed is refused' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER audit_log_is_never_changed ON audit_log;
CREATE TRIGGER audit_log_is_never_changed BEFORE UPDATE OR TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_log_keeps_its_entries AFTER DELETE ON audit_log REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_removal();
