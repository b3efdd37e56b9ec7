-- What a user lists: his own executions by executions_user, and those that others have started of his workflows.
CREATE INDEX executions_of_others ON executions (workflow_owner, created_at DESC, id DESC) WHERE workflow_owner <> user_id;
DROP INDEX executions_owner;
-- Those that have not ended, which are counted too, and those that have failed, are few among all.
CREATE INDEX executions_user_live ON executions (user_id, created_at DESC, id DESC) WHERE completed_at IS NULL;
DROP INDEX executions_unfinished;
CREATE INDEX executions_user_failed ON executions (user_id, created_at DESC, id DESC) WHERE error IS NOT NULL;
