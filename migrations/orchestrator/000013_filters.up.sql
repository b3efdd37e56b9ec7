-- Ended executions that did not complete, by how they ended: few of a status are found among many.
CREATE INDEX executions_user_ended ON executions (user_id, status, created_at DESC, id DESC) WHERE completed_at IS NOT NULL AND status <> 'COMPLETED';
DROP INDEX executions_user_failed;
-- Those that something else than a call has started, and by which trigger. Most that complete, and come from the API, have no entry.
CREATE INDEX executions_user_type ON executions (user_id, trigger_type, created_at DESC, id DESC) WHERE trigger_type <> 'API';
CREATE INDEX executions_of_trigger ON executions (trigger_id, created_at DESC, id DESC) WHERE trigger_id IS NOT NULL;
-- What an ADMIN lists: those of all users, and what of all they look for, few among many.
CREATE INDEX executions_created ON executions (created_at DESC, id DESC);
CREATE INDEX executions_ended_badly ON executions (status, created_at DESC, id DESC) WHERE completed_at IS NOT NULL AND status <> 'COMPLETED';
CREATE INDEX executions_not_api ON executions (trigger_type, created_at DESC, id DESC) WHERE trigger_type <> 'API';
