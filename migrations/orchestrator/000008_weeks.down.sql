DROP INDEX idempotency_keys_created;
DROP INDEX definitions_used;
ALTER TABLE definitions DROP COLUMN used_at;

DO $$
DECLARE
    t text;
    i record;
    c record;
BEGIN
    FOREACH t IN ARRAY ARRAY['steps', 'execution_events'] LOOP
        EXECUTE format('ALTER TABLE %I RENAME TO %I', t, t || '_weeks');
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL EXCLUDING INDEXES) WITH (%s)', t, t || '_weeks',
            coalesce((SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = (t || '_default')::regclass), 'autovacuum_enabled = true'));
        EXECUTE format('INSERT INTO %I SELECT * FROM %I', t, t || '_weeks');
        FOR c IN SELECT conname AS name, pg_get_constraintdef(oid) AS def FROM pg_constraint WHERE conrelid = (t || '_weeks')::regclass AND contype = 'p' LOOP
            EXECUTE format('ALTER TABLE %I RENAME CONSTRAINT %I TO %I', t || '_weeks', c.name, c.name || '_weeks');
            EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I %s', t, c.name, c.def);
        END LOOP;
        FOR i IN SELECT x.relname AS name, pg_get_indexdef(x.oid) AS def FROM pg_index JOIN pg_class x ON x.oid = indexrelid
            WHERE indrelid = (t || '_weeks')::regclass AND NOT indisprimary LOOP
            EXECUTE format('ALTER INDEX %I RENAME TO %I', i.name, i.name || '_weeks');
            EXECUTE regexp_replace(i.def, ' ON (ONLY )?\S+ USING ', format(' ON %I USING ', t));
        END LOOP;
        EXECUTE format('DROP TABLE %I', t || '_weeks');
    END LOOP;
END $$;

CREATE UNIQUE INDEX execution_events_n ON execution_events (p, n);
