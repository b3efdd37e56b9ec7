-- Log lines are kept in weeks, by the time in the ids of their executions, so that a week whose time is over is dropped as
-- a whole. pkg/postgres/weekly makes and drops them.

-- Whether a week has lines that were written lately.
CREATE INDEX execution_logs_written ON execution_logs USING brin (created_at) WITH (autosummarize = on);

DO $$
DECLARE
    -- Until here by their ids rows stay where they are: in the first week, which has no beginning.
    until uuid := (lpad(to_hex((extract(epoch FROM date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + interval '7 days') * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
BEGIN
    ALTER TABLE execution_logs RENAME TO execution_logs_before;
    ALTER TABLE execution_logs_before RENAME CONSTRAINT execution_logs_pkey TO execution_logs_pkey_before;
    ALTER INDEX execution_logs_in_order RENAME TO execution_logs_in_order_before;
    ALTER INDEX execution_logs_written RENAME TO execution_logs_written_before;

    CREATE TABLE execution_logs (LIKE execution_logs_before INCLUDING ALL EXCLUDING INDEXES) PARTITION BY RANGE (execution_id);
    ALTER TABLE execution_logs ADD CONSTRAINT execution_logs_pkey PRIMARY KEY (execution_id, id);
    CREATE INDEX execution_logs_in_order ON execution_logs (execution_id, created_at, id);
    CREATE INDEX execution_logs_written ON execution_logs USING brin (created_at) WITH (autosummarize = on);

    CREATE TABLE execution_logs_default PARTITION OF execution_logs DEFAULT;
    WITH later AS (DELETE FROM execution_logs_before WHERE execution_id >= until RETURNING *) INSERT INTO execution_logs_default SELECT * FROM later;
    EXECUTE format('ALTER TABLE execution_logs ATTACH PARTITION execution_logs_before FOR VALUES FROM (MINVALUE) TO (%L)', until);
END $$;
