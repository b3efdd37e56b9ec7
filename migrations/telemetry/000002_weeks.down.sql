ALTER TABLE execution_logs RENAME TO execution_logs_weeks;
ALTER TABLE execution_logs_weeks RENAME CONSTRAINT execution_logs_pkey TO execution_logs_pkey_weeks;
ALTER INDEX execution_logs_in_order RENAME TO execution_logs_in_order_weeks;

CREATE TABLE execution_logs (LIKE execution_logs_weeks INCLUDING ALL EXCLUDING INDEXES);
INSERT INTO execution_logs SELECT * FROM execution_logs_weeks;
ALTER TABLE execution_logs ADD CONSTRAINT execution_logs_pkey PRIMARY KEY (execution_id, id);
CREATE INDEX execution_logs_in_order ON execution_logs (execution_id, created_at, id);
DROP TABLE execution_logs_weeks;
