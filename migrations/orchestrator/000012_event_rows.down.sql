DROP INDEX execution_events_n;
ALTER TABLE execution_events RENAME COLUMN events TO body;
ALTER TABLE execution_events ADD COLUMN type text;
-- The elements of an array of json are its bytes. Its members are not read as json, which has no \u0000: the first of a name is the event's, for its data come last.
WITH gone AS (DELETE FROM execution_events RETURNING execution_id, seq - event_count AS before, p, body, event_count)
INSERT INTO execution_events (execution_id, seq, p, n, body, event_count, type)
SELECT execution_id, before + at, p, substring(e::text FROM '"n":"([0-9]+)"')::bigint, convert_to(e::text, 'UTF8'), 1, substring(e::text FROM '"type":"([^"]*)"')
FROM gone, json_array_elements(convert_from(body, 'UTF8')::json) WITH ORDINALITY es(e, at);
ALTER TABLE execution_events ALTER COLUMN type SET NOT NULL, DROP COLUMN event_count, ALTER COLUMN body SET STORAGE EXTENDED;
DO $$
DECLARE
    t regclass;
BEGIN
    FOR t IN SELECT relid FROM pg_partition_tree('execution_events') WHERE isleaf LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN body SET COMPRESSION default', t);
        EXECUTE format('CREATE UNIQUE INDEX %s ON %s (p, n)', CASE WHEN t = to_regclass('execution_events_before') THEN 'execution_events_n_before' END, t);
    END LOOP;
END $$;
