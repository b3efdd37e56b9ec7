DROP INDEX executions_user_failed;
CREATE INDEX executions_unfinished ON executions (user_id) WHERE completed_at IS NULL AND parent_execution_id IS NULL AND compensation_of IS NULL;
DROP INDEX executions_user_live;
CREATE INDEX executions_owner ON executions (workflow_owner, created_at DESC, id DESC);
DROP INDEX executions_of_others;
