-- Most rows of an execution are its steps and events. They are kept in weeks, by the time in the execution's id, so that a week
-- whose executions are gone is dropped as a whole. pkg/postgres/weekly makes and drops them.
DO $$
DECLARE
    t     text;
    i     record;
    c     record;
    -- Until here by their ids rows stay where they are: in the first week, which has no beginning.
    until uuid := (lpad(to_hex((extract(epoch FROM date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + interval '7 days') * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
BEGIN
    FOREACH t IN ARRAY ARRAY['steps', 'execution_events'] LOOP
        EXECUTE format('ALTER TABLE %I RENAME TO %I', t, t || '_before');
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL EXCLUDING INDEXES) PARTITION BY RANGE (execution_id)', t, t || '_before');
        FOR c IN SELECT conname AS name, pg_get_constraintdef(oid) AS def FROM pg_constraint WHERE conrelid = (t || '_before')::regclass AND contype = 'p' LOOP
            EXECUTE format('ALTER TABLE %I RENAME CONSTRAINT %I TO %I', t || '_before', c.name, c.name || '_before');
            EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I %s', t, c.name, c.def);
        END LOOP;
        EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT WITH (%s)', t || '_default', t,
            coalesce((SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = (t || '_before')::regclass), 'autovacuum_enabled = true'));
        FOR i IN SELECT x.relname AS name, pg_get_indexdef(x.oid) AS def, indisunique AS alone FROM pg_index JOIN pg_class x ON x.oid = indexrelid
            WHERE indrelid = (t || '_before')::regclass AND NOT indisprimary LOOP
            EXECUTE format('ALTER INDEX %I RENAME TO %I', i.name, i.name || '_before');
            IF i.alone THEN -- n of a partition of the log, which has one writer at a time: unique in each week, where it costs nothing to look
                EXECUTE regexp_replace(i.def, 'INDEX \S+ ON \S+ USING ', format('INDEX ON %I USING ', t || '_default'));
            ELSE
                EXECUTE regexp_replace(i.def, ' ON \S+ USING ', format(' ON %I USING ', t));
            END IF;
        END LOOP;
        EXECUTE format('WITH later AS (DELETE FROM %I WHERE execution_id >= %L RETURNING *) INSERT INTO %I SELECT * FROM later', t || '_before', until, t || '_default');
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)', t, t || '_before', until);
    END LOOP;
END $$;

-- When a definition was last accepted with an execution; one that no execution can name any more is deleted.
ALTER TABLE definitions ADD COLUMN used_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX definitions_used ON definitions (used_at);

CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);
