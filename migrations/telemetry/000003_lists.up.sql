-- A page of what few lines of an execution are: warnings and worse, errors, and the lines of one step.
CREATE INDEX execution_logs_warnings ON execution_logs (execution_id, created_at, id) WHERE level >= 2;
CREATE INDEX execution_logs_errors ON execution_logs (execution_id, created_at, id) WHERE level >= 3;
CREATE INDEX execution_logs_of_step ON execution_logs (execution_id, step_key, created_at, id) WHERE step_key IS NOT NULL;
