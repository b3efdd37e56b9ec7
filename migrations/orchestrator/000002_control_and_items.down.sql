DROP INDEX executions_retry_of;
ALTER TABLE idempotency_keys DROP COLUMN command_id;
ALTER TABLE steps DROP COLUMN wake_at, DROP COLUMN reused_from;
ALTER TABLE commands DROP COLUMN name, DROP COLUMN signal, DROP COLUMN kept;
