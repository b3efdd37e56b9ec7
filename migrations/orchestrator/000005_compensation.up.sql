-- Of an execution that undoes the steps of another: which.
ALTER TABLE executions ADD COLUMN compensation_of uuid;
CREATE INDEX executions_compensation_of ON executions (compensation_of) WHERE compensation_of IS NOT NULL;
-- What undoes is run again once at most, or two would undo the same.
CREATE UNIQUE INDEX executions_compensation_again ON executions (retry_of) WHERE compensation_of IS NOT NULL;
