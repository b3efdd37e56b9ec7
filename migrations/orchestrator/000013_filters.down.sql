DROP INDEX executions_not_api;
DROP INDEX executions_ended_badly;
DROP INDEX executions_created;
DROP INDEX executions_of_trigger;
DROP INDEX executions_user_type;
CREATE INDEX executions_user_failed ON executions (user_id, created_at DESC, id DESC) WHERE error IS NOT NULL;
DROP INDEX executions_user_ended;
